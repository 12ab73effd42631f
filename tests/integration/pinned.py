"""base: pinned. Steps see the workspace as it was when their run began, whatever its user does meanwhile; what they made lands
in the workspace itself, where the user's edits are conflicts; the copy goes with the run."""

import os
import sys
import time

from supervised import Supervised, main
from runs import item, read, vote, write

WAIT = "until [ -e /run/holdfast/out/go ] || [ $((i += 1)) -gt 40 ]; do sleep 0.05; done"
LOOK = "cat a; ls | tr '\\n' ' '"
PLAN = f"""version: 1
base: pinned
steps:
  - {{name: first, run: "i=0; {WAIT}; {LOOK}; echo made > b"}}
  - {{name: second, needs: [first], run: "{LOOK}; echo more >> b; rm gone", retry: {{max: 3}}}}
"""


def lay(s):
    os.makedirs(os.path.join(s.workspace, "folder", "deep"))
    os.symlink("a", os.path.join(s.workspace, "link"))
    for name in ("a", "gone", "folder/deep/f"):
        write(s, name, "old\n")
    os.chmod(os.path.join(s.workspace, "folder"), 0o555)


def pins(s):
    try:
        return os.listdir(os.path.join(s.state, "v1", "pins"))
    except FileNotFoundError:
        return []


def wait_no_pins(s):
    end = time.monotonic() + 15
    while pins(s):
        assert time.monotonic() < end, f"left behind: {pins(s)}\n{s.logged()}"
        time.sleep(0.1)


def see_the_files_as_they_were(owner):
    with Supervised() as s:
        s.start()
        lay(s)
        for folder, _, files in os.walk(s.workspace):
            for name in [".", *files]:
                os.chown(os.path.join(folder, name), owner, owner, follow_symlinks=False)
        time.sleep(0.05)
        run = s.begin(plan=PLAN)
        assert pins(s) == [run]
        s.wait_live(run)
        write(s, "a", "edited\n")
        write(s, "new", "new\n")
        done = s.wait(run)
        assert done["state"] == "succeeded" and done["landing"] == "landed", f"{done}\n{s.logged()}"
        assert s.output(run, "first") == b"old\na folder gone link ", s.output(run, "first")
        assert s.output(run, "second") == b"old\na b folder gone link "
        assert (read(s, "a"), read(s, "new"), read(s, "b")) == ("edited\n", "new\n", "made\nmore\n")
        assert sorted(os.listdir(s.workspace)) == ["a", "b", "folder", "link", "new"]
        wait_no_pins(s)


def test_steps_see_the_files_as_they_were_and_others_land():
    see_the_files_as_they_were(-1)


def test_so_they_do_where_root_serves_anothers_workspace():
    if os.geteuid() == 0:
        see_the_files_as_they_were(12345)


def test_what_both_changed_is_a_conflict():
    plan = "version: 1\nbase: pinned\nsteps:\n  - {name: edit, run: 'sleep 1; cat a; echo theirs > a; echo other > b'}\n"
    for choice, expected in (("mine", "mine\n"), ("theirs", "theirs\n")):
        with Supervised() as s:
            s.start()
            lay(s)
            run = s.begin(plan=plan)
            s.wait_live(run)
            write(s, "a", "mine\n")
            a = item(s, "conflict")
            assert s.output(run, "edit") == b"old\n" and read(s, "a") == "mine\n", s.output(run, "edit")
            assert vote(s, a, choice=choice).status == 200
            done = s.wait(run)
            assert done["landing"] == "landed" and (read(s, "a"), read(s, "b")) == (expected, "other\n"), done
            wait_no_pins(s)


def test_the_copy_outlives_supervisor_and_keeper_and_a_fork_has_its_own():
    with Supervised() as s:
        s.start()
        lay(s)
        run = s.begin(plan=PLAN.replace("version: 1", "version: 1\nland: never").replace("rm gone", "sleep 3; rm gone"))
        end = time.monotonic() + 30
        while not any(x["step"] == "second" and x["state"] in ("running", "live") for x in s.status(run)["in_flight"]):
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.02)
        write(s, "a", "edited\n")
        answer = s.post(f"/v1/runs/{run}/fork", {"at": "first"})
        s.kill()
        s.kill_keeper()
        s.start()
        done = s.wait(run)
        assert done["state"] == "succeeded", f"{done}\n{s.logged()}"
        assert s.output(run, "second") == b"old\na b folder gone link ", s.output(run, "second")
        assert answer.status == 201, answer
        fork = answer.json()["run"]
        assert s.wait(fork)["state"] == "succeeded", s.logged()
        assert s.output(fork, "second") == b"old\na b folder gone link "
        wait_no_pins(s)
        refused = s.post(f"/v1/runs/{run}/fork", {"at": "first"})
        assert refused.status != 201 and b"start a new run" in refused.body, refused


def test_too_much_to_copy_is_refused_with_the_remedy():
    with Supervised() as s:
        s.start()
        with open(os.path.join(s.workspace, "large"), "wb") as f:
            f.truncate(257 * 1024 * 1024)
        a = s.run(["/bin/true"], base="pinned")
        if a.status == 201:  # a file system with reflinks: nothing was copied
            assert s.wait(a.json()["run"])["state"] == "succeeded"
        else:
            assert a.json()["error"]["exit"] == 8 and b"base: live" in a.body, a
        wait_no_pins(s)


if __name__ == "__main__":
    main(sys.modules[__name__])
