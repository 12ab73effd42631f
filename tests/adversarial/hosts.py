"""Machines that are not this one, as mount and user namespaces can be made to look: each works, or says what is wrong and what
to do. What a machine lacks in system calls is tests/integration/doctor.c's."""

import json
import os
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from hostile import HOLDFAST, Hostile, main  # noqa: E402

ROOT = os.geteuid() == 0
OVERLAY = "mkdir -p {0}/l {0}/u {0}/w {0}/m; echo base > {0}/l/base; mount -t overlay overlay -o lowerdir={0}/l,upperdir={0}/u,workdir={0}/w,userxattr {0}/m"


class Host(Hostile):
    """holdfast in a mount namespace of its own, behind a script that arranges it. An ordinary user's has the rights to mount and
    passes none of them on."""

    def on(self, script, *args, env=None, state=None, cwd=None):
        command = shlex.join([HOLDFAST, "--state", state or self.state, *args])
        drop = "" if ROOT else "setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all "
        enter = ["unshare", "-m"] if ROOT else ["unshare", "--map-current-user", "--keep-caps", "-m"]
        r = subprocess.run([*enter, "sh", "-c", f"set -e; {script}; cd {shlex.quote(cwd or self.tree)}; exec {drop}{command}"], env=env or self.env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        return r.returncode, r.stdout, r.stderr

    def folder(self, name):
        path = os.path.join(self.root, name)
        os.makedirs(path)
        return path


def read_only(path):
    return f"mount --bind {path} {path}; mount -o remount,bind,ro {path}"


def test_a_home_that_is_read_only_or_none_and_no_runtime_folder():
    with Host() as c:
        code, out, err = c.on(read_only(c.home), "exec", "--land", "--", "sh", "-c", "echo x > y; echo z > $HOME/z")
        assert code == 0 and c.read("y") == "x\n", (code, out, err)
    for missing in ({"XDG_RUNTIME_DIR"}, {"XDG_RUNTIME_DIR", "HOME"}):
        with Host() as c:
            bare = {k: v for k, v in c.env.items() if k not in missing}
            code, out, err = c.on("true", "exec", "--land", "--", "sh", "-c", "echo x > z", env=bare)
            assert code == 0 and c.read("z") == "x\n", (missing, code, out, err)


def test_a_state_directory_where_nothing_can_be_written_or_no_layer_can_lie():
    with Host() as c:
        s = c.folder("s")
        code, out, err = c.on(f"mount -t tmpfs -o ro tmpfs {s}", "exec", "--", "true", state=s + "/state")
        assert code == 125 and "--state" in err and "Read-only" in err, (code, out, err)
        o = c.folder("o")
        code, out, err = c.on(OVERLAY.format(o), "exec", "--", "true", state=o + "/m/state")
        assert code == 125 and "overlay" in err and "volume" in err, (code, out, err)
        code, out, err = c.on(f"mount -t tmpfs tmpfs {s}", "exec", "--land", "--", "sh", "-c", "echo x > y", state=s + "/state")
        assert code == 0 and c.read("y") == "x\n", (code, out, err)


def test_a_workspace_on_tmpfs_on_an_overlay_or_read_only():
    with Host() as c:
        t = c.folder("t")
        code, out, err = c.on(f"mount -t tmpfs tmpfs {t}; echo base > {t}/base", "exec", "--land", "--", "sh", "-c", "cat base; echo x > y", cwd=t)
        assert code == 0 and out == "base\n" and "landed" in err, (code, out, err)
    with Host() as c:
        o = c.folder("o")
        code, out, err = c.on(OVERLAY.format(o), "exec", "--land", "--", "sh", "-c", "cat base; echo more >> base; echo x > y", cwd=o + "/m")
        # Root's own files there cannot be shown under another owner; everybody else's are as they are.
        assert (code == 125 and "ext4" in err) if ROOT else (code == 0 and out == "base\n"), (code, out, err)
        assert ROOT or sorted(os.listdir(o + "/u")) == ["base", "y"], (os.listdir(o + "/u"), err)
    with Host() as c:
        code, out, err = c.on(read_only(c.tree), "exec", "--land", "--", "sh", "-c", "echo x > y")
        assert "nothing can land there" in err and "Read-only" in err and not c.exists("y"), (code, out, err)


def test_a_path_that_has_no_room_is_told_as_that_and_not_as_an_edit():
    with Host() as c:
        t = c.folder("t")
        plan = os.path.join(c.root, "full.yaml")
        with open(plan, "w") as f:
            f.write(f"version: 1\nname: full\nworkspace: {t}\nland: auto\nsteps:\n  - {{name: s, run: \"head -c 1000000 /dev/zero > big; echo x > y\"}}\n")
        drop = "" if ROOT else "setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all "
        run = drop + shlex.join([HOLDFAST, "--state", c.state, "run", plan])
        code, out, err = c.on(f"mount -t tmpfs -o size=64k tmpfs {t}; {run} >&2 || test $? = 9", "--json", "status", "full", cwd=t)
        landing = [o for o in json.loads(out)["safe_to_retry"] if o["item"] == "landing"]
        assert code == 0 and len(landing) == 1 and landing[0]["class"] == "HUMAN_ONLY", (code, out, err)
        rule = landing[0]["rule"]
        assert rule.startswith("a person decides: big: the system refused the change: cannot be written: No space left on device; free some space"), rule


def test_no_user_namespace_and_no_proc_are_told_with_a_remedy():
    with Host() as c:
        forbid = "echo 0 > /proc/sys/user/max_user_namespaces"
        r = subprocess.run(["unshare", "--map-current-user", "--keep-caps", "sh", "-c", f"{forbid}; cd {c.tree}; exec {HOLDFAST} --state {c.state} exec -- true"],
                           env=c.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert r.returncode == 125 and "user namespace" in r.stderr and "doctor" in r.stderr, r
    with Host() as c:
        code, out, err = c.on("mount -t tmpfs tmpfs /proc", "exec", "--", "true")
        leaks_cannot_be_looked_for = "ASAN_OPTIONS" in os.environ  # without /proc; nor is that option read
        assert (code == 125 or leaks_cannot_be_looked_for) and "mount /proc" in err, (code, out, err)


def test_a_container_that_masks_parts_of_proc():
    """As docker does: below such a mask the kernel gives a user namespace no /proc of its own."""
    with Host() as c:
        code, out, err = c.on("mount --bind /dev/null /proc/timer_list; mount -t tmpfs tmpfs /proc/tty", "exec", "--land", "--", "sh", "-c", "test -r /proc/self/stat && echo x > y")
        assert (code == 0 and c.read("y") == "x\n") or (code == 125 and "proc" in err and "doctor" in err), (code, out, err)


def test_a_workspace_of_any_name():
    for name in ("with space", "new\nline", "-dash", "q'uote\"", "\u00e9t\u00e9", "$(id)", "a,b:c=d\\e", "x" * 255, "%s", "*"):
        with Host() as c:
            w = c.folder(os.path.join("w", name))
            with open(os.path.join(w, "base"), "w") as f:
                f.write("base\n")
            code, out, err = c.run("exec", "--land", "--", "sh", "-c", "cat base; echo x > y; echo more >> base", cwd=w)
            assert code == 0 and out == "base\n", (name, code, out, err)
            assert sorted(os.listdir(w)) == ["base", "y"], name
            assert c.run("undo", c.latest())[0] == 0 and os.listdir(w) == ["base"], name


def test_a_git_worktree_is_worked_in_and_its_repository_is_not_touched():
    with Host() as c:
        git = {**c.env, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
        main_tree, tree = os.path.join(c.root, "repo"), os.path.join(c.root, "linked")
        for command in (["init", "-q", main_tree], ["-C", main_tree, "commit", "-q", "--allow-empty", "-m", "x"], ["-C", main_tree, "worktree", "add", "-q", tree]):
            subprocess.run(["git", *command], env=git, check=True, capture_output=True)
        with open(os.path.join(tree, ".git")) as f:
            link = f.read()
        code, out, err = c.run("exec", "--land", "--", "sh", "-c", "echo x > y; rm -f .git; mkdir .git; echo evil > .git/config; true", cwd=tree)
        assert code in (0, 4), (code, out, err)
        assert os.path.isfile(os.path.join(tree, ".git")) and os.path.exists(os.path.join(tree, "y")), err
        with open(os.path.join(tree, ".git")) as f:
            assert f.read() == link
        r = subprocess.run(["git", "-C", tree, "status", "--porcelain"], env=git, capture_output=True, text=True, check=True)
        assert r.stdout == "?? y\n", r.stdout


if __name__ == "__main__":
    main(globals())
