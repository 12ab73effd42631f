"""What a hostile step, policy or workspace tries through the command line, with the built-in policies and with grants that
are too wide. SECURITY.md names these tests."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "integration"))
from cli import HOLDFAST, Cli  # noqa: E402

PROBE = os.environ["HOLDFAST_PROBE"]
PYTHON = "/usr/bin/python3"

# Says what connecting to each argument gives; an argument that begins with @ is an abstract name.
CONNECT = """
import socket, sys
for name in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(2)
    try:
        s.connect("\\0" + name[1:] if name[0] == "@" else name)
        print("REACHED", name)
    except OSError as e:
        print("refused", e.errno)
"""


class Hostile(Cli):
    """state_at: the state directory, below the root."""

    def __init__(self, state_at="state"):
        super().__init__()
        self.home = self.env["HOME"]
        self.state = os.path.join(self.root, state_at)
        os.makedirs(os.path.dirname(self.state), exist_ok=True)
        os.chmod(self.root, 0o755)
        self.sockets = []

    def __exit__(self, *a):
        for s in self.sockets:
            s.close()
        super().__exit__(*a)

    def policy(self, fs, extends="offline", more=""):
        path = os.path.join(self.root, "policy.yaml")
        with open(path, "w") as f:
            f.write(f"version: 1\nname: hostile\nextends: {extends}\nfs:\n{fs}{more}")
        return path

    def probe(self):
        target = self.path("probe")
        shutil.copy(PROBE, target)
        os.chmod(target, 0o755)
        return "./probe"

    def runtime(self):
        with open(os.path.join(self.state, "runtime")) as f:
            return f.read()

    def listen(self, path):
        s = socket.socket(socket.AF_UNIX)
        if path[0] == "@":
            s.bind("\0" + path[1:])
        else:
            folder = os.open(os.path.dirname(path), os.O_PATH)
            s.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            os.close(folder)
            os.chmod(path, 0o777)
        s.listen(8)
        self.sockets.append(s)
        return path

    def sh(self, script, *flags, cwd=None):
        return self.run("exec", *flags, "--", "/bin/sh", "-c", script, cwd=cwd)

    def daemon(self):
        return self.json("status")[1]["daemon"]

    def mkdirs(self, *names):
        for name in names:
            os.makedirs(self.path(name), exist_ok=True)

    def exists(self, name):
        return os.path.lexists(self.path(name))


def processes_with(word):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if word.encode() in f.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


# ---- Holdfast's own folders

def spy(c):
    """A script that prints what it can see of the state and runtime folders: nothing, where they are masked."""
    return (f"ls -A {c.state} 2>/dev/null; ls -A {c.state}/v1 2>/dev/null; cat {c.state}/runtime 2>/dev/null; "
            f"ls -A {c.runtime()} 2>/dev/null; mv {c.state} {c.state}2 2>/dev/null && echo MOVED; "
            f"rm -rf {c.state} 2>/dev/null; chmod 777 {c.state} 2>/dev/null && echo OPENED; "
            f"{PYTHON} -c '{CONNECT}' {c.runtime()}/control {c.state}/v1/keeper; true")


def must_see_nothing(c, code, out, err):
    assert code == 0, (code, out, err)
    lines = out.split("\n")
    assert [x for x in lines if x and not x.startswith("refused ")] == [], out
    assert out.count("refused ") == 2, out


def test_a_granted_home_shows_no_state_of_ours():
    for builtin in ("offline", "coding"):
        with Hostile("home/.local/state/holdfast") as c:
            with open(os.path.join(c.home, "notes"), "w") as f:
                f.write("notes\n")
            assert c.run("exec", "--", "true")[0] == 0
            p = c.policy("  - {path: \"${home}\", access: r}\n", extends=builtin)
            code, out, err = c.sh("cat $HOME/notes", "--policy", p)
            assert (code, out) == (0, "notes\n"), (code, out, err)
            must_see_nothing(c, *c.sh(spy(c), "--policy", p))
            must_see_nothing(c, *c.sh(spy(c), "--policy", builtin))
            assert c.run("verify")[0] == 0


def test_a_home_granted_rw_around_our_state_is_refused():
    with Hostile("home/.local/state/holdfast") as c:
        assert c.run("exec", "--", "true")[0] == 0
        for path in ("${home}", "${home}/.local", c.state, c.state + "/v1", c.root, "/"):
            p = c.policy(f"  - {{path: \"{path}\", access: rw}}\n")
            code, out, err = c.sh(f"ls -A {c.state}/v1 && echo SEEN", "--policy", p)
            assert "SEEN" not in out and code == 125 and "Holdfast's own" in err, (path, code, out, err)


def test_our_folders_cannot_be_granted_by_name():
    with Hostile() as c:
        assert c.run("exec", "--", "true")[0] == 0
        for path in ("/", c.root, c.state, c.state + "/v1", c.state + "/v1/journal", c.runtime()):
            for access in ("r", "rx"):
                p = c.policy(f"  - {{path: \"{path}\", access: {access}}}\n")
                code, out, err = c.sh(spy(c), "--policy", p)
                assert code == 125 or "REACHED" not in out and "journal" not in out and "MOVED" not in out, (path, code, out, err)


def test_no_file_and_no_other_way_into_our_folders_can_be_granted():
    with Hostile() as c:
        c.mkdirs("seen")
        assert c.run("exec", "--", "true")[0] == 0
        runtime = c.runtime()
        os.symlink(c.state, os.path.join(c.root, "way"))
        os.symlink(runtime, os.path.join(c.root, "way-run"))
        inside = (("runtime", "r"), ("runtime", "rw"), ("v1/journal", "rx"), ("v1/journal/CURRENT", "r"), ("v1", "rw"), ("", "r"))
        asked = [(os.path.join(c.root, base, name).rstrip("/"), access) for base in ("state", "way") for name, access in inside]
        asked += [(os.path.join(base, name), access) for base in (runtime, os.path.join(c.root, "way-run"))
                  for name, access in (("control", "rw"), ("control", "r"), ("keeper", "rw"))]
        for path, access in asked:
            p = c.policy(f"  - {{path: \"{path}\", access: {access}}}\n")
            code, out, err = c.sh(f"cat {path} 2>/dev/null; ls -A {path}/ 2>/dev/null; cat {path}/runtime {path}/CURRENT 2>/dev/null; "
                                  f"{PYTHON} -c '{CONNECT}' {path}; true", "--policy", p)
            assert [x for x in out.split("\n") if x and not x.startswith("refused ")] == [], (path, access, code, out, err)
            assert code == 125 or access != "rw", (path, access, code, out, err)


def test_a_workspace_around_our_state_shows_none_of_it():
    with Hostile("tree/.local/state/holdfast") as c:
        assert c.run("exec", "--", "true")[0] == 0
        must_see_nothing(c, *c.sh(spy(c), "--land"))
        script = "mv .local away; rm -rf .local; mkdir -p .local/state/holdfast; echo x > .local/state/holdfast/x; echo y > y"
        code, out, err = c.sh(script + "; true", "--land")
        assert code in (0, 4, 125), (code, out, err)
        assert os.path.isdir(os.path.join(c.state, "v1", "journal")) and not os.path.exists(os.path.join(c.state, "x"))
        assert c.run("verify")[0] == 0
        # The other way round: what lies in our own folder is no workspace.
        code, _, err = c.run("exec", "--", "true", cwd=os.path.join(c.state, "v1"))
        assert code == 125 and "own state" in err, (code, err)


def test_a_workspace_around_our_state_lands_nothing_into_it():
    with Hostile("tree/.local/state/holdfast") as c:
        plan = c.plan("""land: auto
steps:
  - {name: one, run: "rm -rf .local; mv .local old; mkdir -p .local/state/holdfast/v1; true"}
  - {name: two, needs: [one], run: "echo x > .local/state/holdfast/planted; echo x > .local/state/holdfast/v1/planted; echo y > y; true"}
""")
        code, out, err = c.run("run", plan)
        assert code in (0, 1, 4, 9), (code, out, err)
        assert not os.path.exists(os.path.join(c.state, "planted"))
        assert not os.path.exists(os.path.join(c.state, "v1", "planted"))
        assert c.run("verify")[0] == 0


def test_a_workspace_around_our_state_takes_step_after_step():
    with Hostile("tree/.local/state/holdfast") as c:
        plan = c.plan("""land: auto
steps:
  - {name: one, run: "echo 1 > new; ! ls .local/state/holdfast"}
  - {name: two, needs: [one], run: "echo 2 >> new; ! ls .local/state/holdfast"}
""")
        code, out, err = c.run("run", plan)
        assert code == 0 and c.read("new") == "1\n2\n", (code, out, err)


def test_another_state_directory_and_the_users_policy_are_never_landed_into():
    with Hostile() as c:
        other, config = ".local/state/holdfast", ".config/holdfast"
        for name in (other + "/v1/journal", config, "odd/v1", "plain"):
            os.makedirs(os.path.join(c.home, name))
        for name in (other + "/v1/opened", other + "/v1/secret", config + "/notes", "odd/v1/opened", "plain/kept"):
            with open(os.path.join(c.home, name), "w") as f:
                f.write("as it was\n")
        tampered = (other + "/evil", other + "/v1/evil", config + "/policy.yaml", "odd/evil", "odd/v1/evil")
        script = (f"cat {other}/v1/secret; for f in {' '.join(tampered)} plain/new; do echo evil > $f; done; "
                  f"echo evil >> {config}/notes; rm -rf {other} odd/v1 {config}; echo evil > {config}; true")
        code, out, err = c.sh(script, "--land", cwd=c.home)
        assert "as it was" not in out, out
        assert code in (0, 4), (code, out, err)
        run = c.latest()
        if code == 4:
            assert c.run("approve", c.waiting()[0]["approval"], "--as", "theirs")[0] == 0
        for name in tampered:
            assert not os.path.lexists(os.path.join(c.home, name)), name
        for name in (other + "/v1/opened", other + "/v1/secret", config + "/notes", "odd/v1/opened"):
            with open(os.path.join(c.home, name)) as f:
                assert f.read() == "as it was\n", name
        with open(os.path.join(c.home, "plain/new")) as f:
            assert f.read() == "evil\n"
        assert c.run("show", run)[0] in (0, 2)
    # A link above the place would be another place.
    with Hostile() as c:
        code, out, err = c.sh("mkdir -p fake/holdfast; echo 'version: 1' > fake/holdfast/policy.yaml; ln -s fake .config; echo x > x",
                              "--land", cwd=c.home)
        assert code == 0 and os.path.exists(os.path.join(c.home, "x")), (code, out, err)
        assert not os.path.lexists(os.path.join(c.home, ".config")), err


def test_a_state_directory_anywhere_is_masked_for_every_supervisor_of_its_user():
    with Hostile() as c:
        spy_on = os.path.join(c.home, "odd", "place")
        p = c.policy("  - {path: \"${home}\", access: r}\n  - {path: \"${home}/plain\", access: rw}\n")
        os.makedirs(os.path.join(c.home, "plain"))
        os.makedirs(os.path.dirname(spy_on))
        look = f"echo ran; ls -A {spy_on} {spy_on}/v1 2>/dev/null; cat {spy_on}/runtime 2>/dev/null; mv {spy_on} {spy_on}2 2>/dev/null && echo MOVED; true"
        assert c.sh(look, "--policy", p)[1] == "ran\n"  # a supervisor that is there before the other state is
        r = subprocess.run([HOLDFAST, "--state", spy_on, "exec", "--", "true"], cwd=c.tree, env=c.env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=False)
        assert r.returncode == 0, r
        assert os.path.isdir(os.path.join(spy_on, "v1"))
        code, out, err = c.sh(look, "--policy", p)
        assert (code, out) == (0, "ran\n"), (code, out, err)
        p2 = c.policy("  - {path: \"${home}/odd\", access: rw}\n")
        code, out, err = c.sh(look, "--policy", p2)
        assert code == 125 and "ran" not in out and "Holdfast's own" in err, (code, out, err)
        known = os.path.join(c.home, ".local/state/holdfast/known")
        assert len(os.listdir(known)) == 2, os.listdir(known)
        subprocess.run(["chmod", "-R", "u+rwX", spy_on], check=True)
        shutil.rmtree(spy_on)
        assert c.sh("true", "--policy", p2)[0] == 0  # and forgotten with it
        with open(os.path.join(known, "x"), "w") as f:
            f.write("no path\n")
        assert c.sh("true", "--policy", p2)[0] == 0


def test_no_rw_around_policies_settings_and_other_states():
    with Hostile() as c:
        os.makedirs(os.path.join(c.home, ".config", "holdfast"))
        os.makedirs(os.path.join(c.home, ".config", "other"))
        os.symlink(os.path.join(c.home, ".config"), os.path.join(c.root, "way"))
        plant = "mkdir -p $HOME/.config/holdfast $HOME/.local/state/holdfast; echo 'version: 1' > $HOME/.config/holdfast/policy.yaml; true"
        for path in ("${home}", "${home}/.config", "${home}/.config/holdfast", "${home}/.local/state", "/etc", os.path.join(c.root, "way")):
            p = c.policy(f"  - {{path: \"{path}\", access: rw}}\n")
            code, out, err = c.sh(plant, "--policy", p)
            assert code == 125 and "Holdfast's own" in err, (path, code, out, err)
        p = c.policy("  - {path: \"${workspace}\", access: rw}\n")
        assert c.sh(plant, "--policy", p, cwd=c.home)[0] == 125
        assert os.listdir(os.path.join(c.home, ".config", "holdfast")) == []
        p = c.policy("  - {path: \"${home}/.config/other\", access: rw}\n")
        code, out, err = c.sh("echo x > $HOME/.config/other/x", "--policy", p)
        assert code == 0 and os.path.exists(os.path.join(c.home, ".config", "other", "x")), (code, out, err)


# ---- what git and others would execute, and secrets

def test_a_new_git_folder_in_the_place_of_the_old_lands_no_hooks():
    for missing in (True, False):
        with Hostile() as c:
            c.mkdirs(".git/objects", *([] if missing else [".git/hooks"]))
            c.write(".git/config", "[core]\n")
            c.write(".git/HEAD", "ref: refs/heads/main\n")
            code, out, err = c.sh("mv .git old 2>/dev/null; rm -rf .git 2>/dev/null; mkdir -p .git/hooks 2>/dev/null; "
                                  "echo evil > .git/hooks/pre-commit; echo evil > .git/config; echo evil > .git/commondir; "
                                  "echo ok > ok; true", "--land")
            assert c.read("ok") == "ok\n", (code, out, err)
            assert not c.exists(".git/hooks/pre-commit") and c.read(".git/config") == "[core]\n"
            assert not c.exists(".git/commondir")
            assert os.path.isdir(c.path(".git")), "the folder was taken away"


def test_no_git_file_or_link_stands_in_for_a_protected_folder():
    for make in ("printf 'gitdir: evil' > .git", "ln -s evil .git"):
        for there in (False, True):
            with Hostile() as c:
                if there:  # as in a worktree
                    c.write(".git", "gitdir: /nowhere\n")
                c.sh(f"mkdir -p evil/hooks; echo evil > evil/config; rm -f .git; {make}; echo ok > ok", "--land")
                assert c.read("ok") == "ok\n"
                assert c.read(".git") == ("gitdir: /nowhere\n" if there else None) and not os.path.islink(c.path(".git"))


def test_twins_of_a_protected_name_do_not_land():
    names = (".GIT/hooks/pre-commit", ".Git/config", ".git./config", ".git /hooks/x", ".g\u200cit/config", ".ENV", ".EnvRC", ".holdfasT/policy.yaml")
    with Hostile() as c:
        c.mkdirs(".git/hooks")
        script = "".join(f"mkdir -p '{os.path.dirname(n) or '.'}'; echo evil > '{n}'; " for n in names)
        c.sh(script + "echo ok > ok", "--land")
        assert c.read("ok") == "ok\n"
        for n in names:
            assert not c.exists(n), n


def test_no_repository_inside_the_workspace_gets_hooks_or_configuration():
    """git status of the outer repository runs what a submodule's configuration names."""
    with Hostile() as c:
        c.mkdirs(".git/modules/a/b", ".git/worktrees/w", "old/.git/hooks")
        c.write("old/.git/config", "[core]\n")
        bad = ["sub/.git/config", "sub/.git/hooks/post-checkout", "sub/.GIT/config", "old/.git/config", "old/.git/hooks/x",
               ".git/modules/a/b/config", ".git/modules/a/b/hooks/x", ".git/modules/new/config", ".git/worktrees/w/config.worktree",
               ".git/worktrees/w/commondir", "a/b/c/.git"]
        script = "".join(f"mkdir -p {os.path.dirname(n)}; echo evil > {n}; " for n in bad)
        c.sh(script + "mkdir -p sub/.git/objects; echo ok > sub/.git/HEAD; echo ok > ok", "--land")
        assert c.read("ok") == "ok\n" and c.read("sub/.git/HEAD") == "ok\n"
        for n in bad:
            assert c.read(n) != "evil\n", n
        assert c.read("old/.git/config") == "[core]\n"


def test_links_of_the_workspace_lead_nowhere_else():
    with Hostile() as c:
        secret = os.path.join(c.root, "secret")
        os.makedirs(os.path.join(secret, "hooks"))
        with open(os.path.join(secret, "config"), "w") as f:
            f.write("secret\n")
        os.symlink(secret, c.path(".git"))
        os.symlink(os.path.join(secret, "config"), c.path(".env"))
        os.symlink("../secret", c.path("there"))
        code, out, err = c.sh("cat .git/config .env there/config; echo evil > .git/config; echo evil > .env; echo evil > there/config; "
                              "echo evil > .git/hooks/x; rm .git; mkdir -p .git/hooks; echo evil > .git/hooks/x; "
                              "rm -rf there; mkdir there; echo evil > there/config; echo ok > ok", "--land")
        assert "secret" not in out, out
        assert c.read("ok") == "ok\n", (code, err)
        assert os.listdir(os.path.join(secret, "hooks")) == []
        with open(os.path.join(secret, "config")) as f:
            assert f.read() == "secret\n"
        assert os.readlink(c.path(".git")) == secret and os.readlink(c.path(".env")) == os.path.join(secret, "config")


def test_a_link_that_a_step_makes_leads_no_landing_outside():
    with Hostile() as c:
        outside = os.path.join(c.root, "outside")
        os.mkdir(outside)
        os.mkdir(c.path("d"))
        c.sh(f"ln -s {outside} out; rm -rf d; ln -s {outside} d; echo ok > ok", "--land")
        c.sh("rm -rf out d; mkdir out d; echo evil > out/x; echo evil > d/x", "--land")
        assert os.listdir(outside) == []


def test_a_secret_by_name_is_masked_and_a_name_made_later_does_not_land():
    with Hostile() as c:
        c.write(".env", "secret\n")
        c.write("server.key", "secret\n")
        code, out, _ = c.sh("cat .env server.key; cp .env copy; mv .env moved; ln .env linked; rm -f .env; cat copy moved linked; true")
        assert "secret" not in out, out
        plan = c.plan("""land: auto
steps:
  - {name: one, run: "echo mine > .env.later; echo mine > later.pem"}
  - {name: two, needs: [one], run: "cat .env.later; echo ok > ok"}
""")
        assert c.run("run", plan)[0] == 0
        assert "mine" in c.run("show", c.latest(), "two")[1], "a pattern covers the names that were there when the sandbox was made"
        assert c.read("ok") == "ok\n" and not c.exists(".env.later") and not c.exists("later.pem")
        assert c.read(".env") == "secret\n"


def test_hard_links_do_not_carry_a_change_outside():
    with Hostile() as c:
        outside = os.path.join(c.root, "outside")
        with open(outside, "w") as f:
            f.write("before\n")
        os.link(outside, c.path("inside"))
        c.sh("echo after > inside; ln inside second", "--land")
        with open(outside) as f:
            assert f.read() == "before\n"
        assert c.read("inside") == "after\n" and c.read("second") == "after\n"


def test_setid_bits_and_special_files_do_not_land():
    with Hostile() as c:
        c.sh("cp /bin/true tool; chmod 6755 tool || chmod 755 tool; mkdir d; chmod 2755 d; mkfifo f; "
             f"{PYTHON} -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; echo ok > ok; echo ok > d/ok", "--land")
        assert c.read("ok") == "ok\n" and c.exists("tool") and not c.exists("f") and not c.exists("s")
        assert os.stat(c.path("tool")).st_mode & 0o6000 == 0
        assert os.stat(c.path("d")).st_mode & 0o6000 == 0


def test_what_a_name_does_not_protect_is_as_SECURITY_says():
    """Weak on purpose: who mends one of these changes SECURITY.md too."""
    with Hostile() as c:
        for name in ("conf/real", "a-bare-one"):
            c.mkdirs(os.path.dirname(name) or ".")
            c.write(name, "seen\n")
        c.write("server.key", "key\n")
        os.link(c.path("server.key"), c.path("other-name"))
        os.symlink("conf/real", c.path(".env"))
        code, out, err = c.sh("cat .env conf/real other-name; git init -q --bare bare; ln -s /etc/passwd link; echo 'all: ; evil' > Makefile", "--land")
        assert code == 0 and out == "seen\nseen\nkey\n", (code, out, err)
        assert c.exists("bare/config") and os.readlink(c.path("link")) == "/etc/passwd" and c.exists("Makefile")


def test_a_step_of_root_has_no_group_but_its_own():
    with Hostile() as c:
        out = c.run("exec", "--", "id", "-G")[1].split()
        if os.geteuid() == 0:
            assert len(out) == 1, out
        else:  # the kernel lets nobody else drop them: those unmapped inside show as the overflow id
            assert set(out) <= {str(os.getegid()), "65534"}, out


# ---- reaching out

def test_a_link_put_into_a_folder_granted_rw_widens_no_other_grant():
    with Hostile() as c:
        granted, secret = os.path.join(c.root, "granted"), os.path.join(c.root, "private")
        os.makedirs(os.path.join(granted, "a", "b"))
        os.makedirs(os.path.join(secret, "b"))
        with open(os.path.join(secret, "b", "x"), "w") as f:
            f.write("secret\n")
        p = c.policy(f"  - {{path: \"{granted}\", access: rw}}\n  - {{path: \"{granted}/a/b\", access: r}}\n")
        code, out, err = c.sh(f"cd {granted}; echo x > w; echo x > a/b/x && echo WROTE; mv a old; ln -s {secret} a; ls -A", "--policy", p)
        assert code == 0 and "WROTE" not in out and "old" in out, (code, out, err)
        code, out, err = c.sh(f"cat {granted}/a/b/x {secret}/b/x; ls {granted}", "--policy", p)
        assert "secret" not in out and code == 125, (code, out, err)  # its mount point is a link now: refused, not followed


def test_a_link_that_landed_widens_no_grant_below_the_workspace():
    with Hostile() as c:
        private = os.path.join(c.root, "private", "out")
        os.makedirs(private)
        p = c.policy("  - {path: \"${workspace}\", access: stage}\n  - {path: \"${workspace}/build/out\", access: rw}\n")
        c.mkdirs("build/out")
        assert c.sh("echo x > build/out/x", "--policy", p)[0] == 0 and c.exists("build/out/x")
        plain = c.policy("  - {path: \"${workspace}\", access: stage}\n")
        assert c.sh(f"rm -rf build; ln -s {os.path.dirname(private)} build", "--policy", plain, "--land")[0] == 0
        assert os.path.islink(c.path("build"))
        p = c.policy("  - {path: \"${workspace}\", access: stage}\n  - {path: \"${workspace}/build/out\", access: rw}\n")
        code, out, err = c.sh("echo evil > build/out/x; echo ran", "--policy", p)
        assert code == 125 and "link" in err and os.listdir(private) == [], (code, out, err)


def test_what_is_narrower_below_rw_can_be_moved_away():
    """Weak on purpose, as SECURITY.md says: rw is outside the transaction, and nothing is decided again."""
    with Hostile() as c:
        granted = os.path.join(c.root, "granted")
        os.makedirs(os.path.join(granted, "a"))
        with open(os.path.join(granted, "a", "masked"), "w") as f:
            f.write("masked\n")
        p = c.policy(f"  - {{path: \"{granted}\", access: rw}}\n  - {{path: \"{granted}/a/masked\", access: none}}\n")
        code, out, err = c.sh(f"cd {granted}; cat a/masked; mv a b; cat b/masked", "--policy", p)
        assert "masked\n" not in out and os.path.exists(os.path.join(granted, "b", "masked")), (code, out, err)
        assert c.sh(f"cat {granted}/b/masked", "--policy", p)[1] == "masked\n"


def test_a_socket_in_a_folder_granted_rw_is_reached():
    with Hostile() as c:
        granted = os.path.join(c.root, "granted")
        os.mkdir(granted)
        os.chmod(granted, 0o777)
        s = c.listen(os.path.join(granted, "s"))
        p = c.policy(f"  - {{path: \"{granted}\", access: rw}}\n")
        assert "REACHED" in c.run("exec", "--policy", p, "--", PYTHON, "-c", CONNECT, s)[1]


def test_sockets_and_fifos_of_the_host_are_out_of_reach():
    with Hostile() as c:
        granted = os.path.join(c.root, "granted")
        os.mkdir(granted)
        where = [c.listen(c.path("s")), c.listen(os.path.join(granted, "s"))]
        abstract = c.listen(f"@holdfast-hostile-{os.getpid()}")
        fifos = [c.path("f"), os.path.join(granted, "f")]
        for f in fifos:
            os.mkfifo(f)
        readers = [os.open(f, os.O_RDONLY | os.O_NONBLOCK) for f in fifos]
        p = c.policy(f"  - {{path: \"{granted}\", access: r}}\n")
        fifo = "import os,sys\nfor f in sys.argv[1:]:\n  try: os.write(os.open(f,os.O_WRONLY|os.O_NONBLOCK),b'x'); print('REACHED',f)\n  except OSError as e: print('refused',e.errno)"
        code, out, err = c.run("exec", "--policy", p, "--", PYTHON, "-c", CONNECT, abstract, *where)
        assert code == 0 and out.count("refused") == 3, (code, out, err)
        code, out, err = c.run("exec", "--policy", p, "--", PYTHON, "-c", fifo, *fifos)
        assert out.count("refused") == 2, (code, out, err)
        for r in readers:
            assert os.read(r, 10) == b""
            os.close(r)


def test_no_network_but_its_own_loopback():
    with Hostile() as c:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(1)
            code, out, err = c.run("exec", "--", c.probe(), "network", str(s.getsockname()[1]))
        assert code == 0, (out, err)


def test_each_probe_holds_through_the_command_line():
    with Hostile() as c:
        probe = c.probe()
        for policy in ("offline", "coding"):
            for attempt in ("write-system", "pid1", "kill-pid1", "namespaces", "mounts", "terminal", "kernel", "listener", "sockets",
                            "foreign", "rights", "descriptors"):
                code, out, err = c.run("exec", "--policy", policy, "--", probe, attempt)
                assert code == 0, (policy, attempt, code, out, err)


def test_steps_do_not_see_each_other():
    with Hostile() as c:
        word = f"victim-{os.getpid()}"
        other = os.path.join(c.root, "other")
        os.mkdir(other)
        p = subprocess.Popen([os.path.join(os.environ["HOLDFAST_BUILD"], "tools", "holdfast"), "--state", c.state, "exec", "--", "/bin/sh", "-c",
                              f"echo s > /tmp/shared; {PYTHON} -c 'import time; time.sleep(60)' {word}"],
                             cwd=other, env=c.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            c.until(lambda: processes_with(word))
            look = ("import os,ctypes\nl=ctypes.CDLL(None,use_errno=True)\nme=os.getpid()\n"
                    "print('SHARED' if os.path.exists('/tmp/shared') else 'own tmp')\n"
                    "for p in map(int,filter(str.isdigit,os.listdir('/proc'))):\n"
                    "  t=open('/proc/%d/cmdline'%p).read()\n  print('SEEN' if p!=me and 'vic'+'tim' in t else 'other',p)\n"
                    "n=0\n"
                    "for p in range(1,70000):\n"
                    "  if p!=me and l.ptrace(16,p,0,0)==0: print('TRACED',p)\n"
                    "  if p>1 and p!=me:\n    try: os.kill(p,0); print('SIGNALLED',p)\n    except ProcessLookupError: n+=1\n"
                    "print(n>60000)\n")
            code, out, err = c.run("exec", "--", PYTHON, "-c", look)
            assert code == 0 and "own tmp" in out and "True" in out, (code, out, err)
            assert not re.search("SEEN|TRACED|SIGNALLED|SHARED", out), out
        finally:
            p.send_signal(signal.SIGKILL)
            p.wait()


# ---- outliving, filling, escaping

def test_nothing_outlives_a_step():
    with Hostile() as c:
        word = f"leftover-{os.getpid()}"
        code, _, err = c.run("exec", "--", c.probe(), "daemon", word)
        assert code == 0, err
        c.until(lambda: not processes_with(word), 5)


def test_the_keepers_death_is_the_death_of_all_it_keeps():
    with Hostile() as c:
        word = f"kept-{os.getpid()}"
        code, out, err = c.run("run", c.plan(f"""land: never
steps:
  - name: a
    run: [{PYTHON}, -c, "import os,time\\nfor i in range(3):\\n  if os.fork()==0: os.setsid()\\ntime.sleep(100)", {word}]
"""), "--detach")
        assert code == 0, (out, err)
        c.until(lambda: len(processes_with(word)) >= 8)
        d = c.daemon()
        os.kill(d["pid"], signal.SIGSTOP)  # so that it starts nothing again while we count
        try:
            os.kill(d["keeper"], signal.SIGKILL)
            c.until(lambda: not processes_with(word), 5)
        finally:
            os.kill(d["pid"], signal.SIGKILL)


def test_output_past_the_limit_is_counted_and_not_kept():
    with Hostile() as c:
        p = c.policy("  - {path: \"${workspace}\", access: stage}\n", more="limits: {output: 64KiB}\n")
        code, _, err = c.sh("head -c 50000000 /dev/zero; echo done >&2", "--policy", p)
        assert code in (0, 125, 128 + 9, 128 + 13), (code, err)
        size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(os.path.join(c.state, "v1", "spool")) for f in fs)
        size += sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(os.path.join(c.state, "v1", "blobs")) for f in fs)
        assert size < 1 << 20, size
        assert c.run("exec", "--", "true")[0] == 0


def test_a_files_size_and_a_forest_of_processes_are_bounded():
    with Hostile() as c:
        p = c.policy("  - {path: \"${workspace}\", access: stage}\n", more="limits: {disk: 4MiB, pids: 24}\n")
        code, _, _ = c.sh("head -c 20000000 /dev/zero > big", "--policy", p)
        assert code != 0
        code, out, err = c.run("exec", "--policy", p, "--", c.probe(), "fork-bomb", "24")
        assert code == 0, (code, out, err)


def on_a_terminal(c, *args):
    """What the command line writes to a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(c.tree)
        os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, *args], {**c.env, "TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat"})
    said = b""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:
            data = b""
        if not data:
            break
        said += data
    os.waitpid(pid, 0)
    os.close(fd)
    return said.decode(errors="replace")


def test_recorded_output_cannot_speak_to_a_terminal():
    with Hostile() as c:
        plan = c.plan("""land: never
steps:
  - name: a
    run: [/usr/bin/python3, -c, 'import sys; sys.stdout.write("x\\x1b]0;evil\\x07\\x1b[2Jy\\u202ez\\n"); sys.stderr.write("\\x1b[31mred"); open("n\\x1b[2Jm","w").write("\\x1b[2J\\n")']
""")
        assert c.run("run", plan)[0] == 0
        run = c.latest()
        for args in (("show", run, "a"), ("log", run), ("diff", run), ("status", run), ("queue",), ()):
            for out in (on_a_terminal(c, *args), on_a_terminal(c, "--plain", *args), c.run("--plain", *args)[1]):
                assert not re.search("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\x9b\u202e]", out), (args, out)
        assert "evil" in on_a_terminal(c, "show", run, "a") and "red" in on_a_terminal(c, "show", run, "a")


def test_results_are_taken_by_name_and_followed_nowhere():
    with Hostile() as c:
        secret = os.path.join(c.root, "secret")
        with open(secret, "w") as f:
            f.write("secret\n")
        plan = c.plan(f"""land: auto
steps:
  - {{name: one, run: "cd /run/holdfast/out; ln -s {secret} a; ln -s /etc/shadow b; mkfifo f; mkdir d; ln -s / d/e; echo ok > r; chmod 000 r; true"}}
  - {{name: two, needs: [one], run: "cat /run/holdfast/in/one/*; echo done"}}
""")
        code, out, err = c.run("run", plan)
        shown = c.run("show", c.latest(), "two")[1] if code == 0 else ""
        assert "secret" not in shown and "root:" not in shown, shown
        assert code in (0, 1), (code, out, err)
        assert c.run("exec", "--", "true")[0] == 0


def test_overlay_marks_of_a_step_mean_nothing_to_the_next():
    with Hostile() as c:
        c.mkdirs(".ssh", "plain")
        c.write(".ssh/id", "secret\n")
        c.write("plain/x", "x\n")
        mark = ("import os\nos.mkdir('d'); os.mkdir('e')\nopen('f','w')\n"
                "for n,a,v in (('d','redirect',b'/.ssh'),('d','origin',b'x'),('plain','opaque',b'y'),('f','metacopy',b''),('f','redirect',b'/.ssh/id'),('e','whiteouts',b'y')):\n"
                "  try: os.setxattr(n,'user.overlay.'+a,v)\n  except OSError as x: print(x.errno)\n"
                "try: os.mknod('w',0o020666,0)\nexcept OSError as x: print(x.errno)\n")
        with open(c.path("mark.py"), "w") as f:
            f.write(mark)
        plan = c.plan("""land: auto
steps:
  - {name: one, run: [/usr/bin/python3, mark.py]}
  - {name: two, needs: [one], run: "cat d/* f; cat plain/x; echo ok > ok"}
""")
        code, out, err = c.run("run", plan)
        assert code == 0, (code, out, err)
        shown = c.run("show", c.latest(), "two")[1]
        assert "secret" not in shown and "\nx\n" in shown, shown
        assert c.read("ok") == "ok\n" and c.read("plain/x") == "x\n"
        assert [x for x in os.listxattr(c.path("plain")) if "overlay" in x] == []


def test_a_strange_tree_ends_its_own_step_and_nothing_else():
    deep = "import os\nfor i in range(3000):\n  os.mkdir('d'*20); os.chdir('d'*20)\n"
    names = "import os\nfor n in (b'\\xff\\xfe', b'a\\nb', b'-rf', b'\\x1b[2J', b'x'*255, b'\\xe2\\x80\\xae'): open(n,'w').write('x')\nos.mkdir('z'); open('z/x','w'); os.chmod('z',0)\n"
    for script in (deep, names):
        with Hostile() as c:
            code, out, err = c.run("exec", "--land", "--", PYTHON, "-c", script)
            assert code in (0, 4, 9, 125), (code, out, err)
            assert "\x1b" not in out + err
            assert c.run("exec", "--", "true")[0] == 0 and c.run("verify")[0] == 0
            subprocess.run(["chmod", "-R", "u+rwX", c.tree], check=False)


# ---- plans from elsewhere

def test_a_plans_standard_input_is_no_way_to_what_its_policy_masks():
    with Hostile() as c:
        os.mkdir(os.path.join(c.home, ".ssh"))
        secret = os.path.join(c.home, ".ssh", "id_rsa")
        for path, text in ((secret, "secret\n"), (c.path(".env"), "secret\n"), (c.path("seen"), "plain\n")):
            with open(path, "w") as f:
                f.write(text)
        given = os.path.join(c.root, "given")
        os.mkdir(given)
        with open(os.path.join(given, "beside"), "w") as f:
            f.write("plain\n")
        os.symlink(secret, os.path.join(given, "link"))
        os.symlink(c.home, os.path.join(given, "folder"))

        def run(name):
            plan = c.plan(f"steps:\n  - {{name: one, stdin: {{file: \"{name}\"}}, run: \"cat\"}}\n", "given/plan.yaml")
            with open(plan) as f:
                text = f.read().replace("workspace: tree", "workspace: ../tree")
            with open(plan, "w") as f:
                f.write(text)
            return c.run("run", plan)

        for name in (secret, "../home/.ssh/id_rsa", "link", "folder/.ssh/id_rsa", "../tree/.env", os.path.join(c.state, "runtime")):
            if name.endswith("runtime"):
                assert c.run("exec", "--", "true")[0] == 0
            before = len(c.json("status", "--all")[1].get("runs", []))
            code, out, err = run(name)
            assert code == 3 and "does not let it read" in err and "plan.yaml:4:" in err, (name, code, out, err)
            assert len(c.json("status", "--all")[1].get("runs", [])) == before
        for name in ("beside", "../tree/seen", "/usr/include/../../etc/ld.so.cache" if os.path.exists("/etc/ld.so.cache") else "beside"):
            code, out, err = run(name)
            assert code == 0, (name, code, out, err)
            if "etc" not in name:
                assert "plain" in c.run("show", c.latest(), "one")[1]


def test_a_plan_grants_nothing_by_itself():
    """Neither the policy that a plan holds or names nor the project's own, before a person has trusted it."""
    evil = "version: 1\nname: evil\nkind: grant\nagency: autonomous\nfs:\n  - {path: /usr, access: rx}\n  - {path: /bin, access: rx}\n  - {path: /lib, access: rx}\n" \
           "  - {path: /lib64, access: rx}\n  - {path: \"${workspace}\", access: stage}\n  - {path: \"${home}\", access: rw}\n"
    for how in ("named", "inline", "project"):
        with Hostile() as c:
            with open(os.path.join(c.home, "secret"), "w") as f:
                f.write("secret\n")
            said = ""
            if how == "named":
                with open(os.path.join(c.root, "evil.yaml"), "w") as f:
                    f.write(evil)
                said = "policy: evil.yaml\n"
            elif how == "inline":
                said = "policy:\n" + "".join("  " + x + "\n" for x in evil.split("\n") if x)
            else:
                c.mkdirs(".holdfast")
                c.write(".holdfast/policy.yaml", evil)
            plan = c.plan(said + "land: auto\nsteps:\n  - {name: a, run: \"cat " + c.home + "/secret; echo x > " + c.home + "/planted; mkdir -p .git/hooks; echo x > .git/hooks/x\"}\n")
            code, out, err = c.run("run", plan)
            shown = c.run("show", c.latest(), "a")[1] if c.json("status", "--all")[1].get("runs", []) else ""
            assert "secret\n" not in shown and not os.path.exists(os.path.join(c.home, "planted")), (how, code, out, err, shown)
            assert not c.exists(".git/hooks/x"), how


def test_no_name_in_a_plan_is_a_way_out():
    with Hostile() as c:
        for name in ("../../x", "/etc", "..", ".", "a/../b", "a\\nb", "\\e[2J"):
            code, out, err = c.run("run", c.plan(f'land: never\nsteps:\n  - {{name: "{name}", run: "true"}}\n  - {{name: b, needs: ["{name}"], run: "true"}}\n'))
            assert code == 2 and "\x1b" not in out + err, (name, code, out, err)
        for cwd in ("..", "/etc", "a/../..", c.home):
            code, out, err = c.run("run", c.plan(f'land: never\nsteps:\n  - {{name: a, cwd: "{cwd}", run: "ls"}}\n'))
            assert code != 0, (cwd, code, out, err)


# ---- who may vote

def test_a_step_cannot_vote():
    with Hostile() as c:
        tool = os.path.join(os.environ["HOLDFAST_BUILD"], "tools")
        p = c.policy(f"  - {{path: \"{tool}\", access: rx}}\n")
        plan = c.plan("land: ask\nsteps:\n  - {name: a, run: \"echo x > x\"}\n")
        assert c.run("run", plan)[0] == 4
        item = c.waiting()[0]["approval"]
        holdfast = os.path.join(tool, "holdfast")
        for state in (c.state, "/tmp/own"):
            code, out, err = c.run("exec", "--policy", p, "--", holdfast, "--state", state, "approve", item)
            assert code not in (0, 126, 127), (code, out, err)
        assert c.waiting()[0]["approval"] == item and c.read("x") is None


def test_any_program_of_the_same_user_outside_can_vote():
    """The limit of per-user mode, as SECURITY.md says it."""
    with Hostile() as c:
        assert c.run("run", c.plan("land: ask\nsteps:\n  - {name: a, run: \"echo x > x\"}\n"))[0] == 4
        r = subprocess.run([PYTHON, "-c", "import subprocess,sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)", HOLDFAST, "--state", c.state,
                            "approve", c.waiting()[0]["approval"]], env={"PATH": "/usr/bin"}, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert r.returncode == 0, r
        c.until(lambda: c.read("x") == "x\n")


def main(names):
    failed, wanted = 0, sys.argv[1:]
    tests = [(n, f) for n, f in list(names.items()) if n.startswith("test_") and (not wanted or n in wanted)]
    for name, test in tests:
        try:
            test()
            print(f"ok      {name}", flush=True)
        except Exception as e:  # noqa: BLE001
            failed += 1
            import traceback
            print(f"FAILED  {name}: {e}", flush=True)
            traceback.print_exc()
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(globals())
