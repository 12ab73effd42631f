"""A state directory is copied, moved, put back and removed with ordinary tools by the user whose it is; what was copied
verifies and goes on. Layers that are gone or damaged hold a run up until they are put back, and fail nothing."""

import os
import shutil
import subprocess
import sys
import time

from supervised import Supervised, main

PLAN = """version: 1
land: never
steps:
  - {name: one, run: "mkdir d; echo 1 > d/f; echo 1 > g; chmod 600 g"}
  - {name: two, needs: [one], run: "cat d/f; rm g; rm -r d; mkdir d; echo 2 > d/h"}
  - {name: fails, needs: [two], run: "echo x > junk; ls d; test -e /run/holdfast/in/go"}
"""
LONG = """version: 1
land: never
steps:
  - {name: one, run: "echo 1 > f"}
  - {name: two, needs: [one], run: "sleep 3; cat f; echo 2 >> f"}
  - {name: three, needs: [two], run: "cat f"}
"""
TAR = 'mkdir "$2" && tar -C "$1" --xattrs -cf - . | tar -C "$2" --xattrs "--xattrs-include=user.*" -xpf -'
TOOLS = {
    "cp": lambda a, b: ["cp", "-a", a, b],
    "tar": lambda a, b: ["sh", "-c", TAR, "tar", a, b],  # without --xattrs a folder that was made anew would show the old one
}


def copy(tool, a, b):
    p = subprocess.run(TOOLS[tool](a, b), stderr=subprocess.PIPE, text=True, check=False)
    said = [x for x in p.stderr.splitlines() if not x.endswith("socket ignored")]
    assert p.returncode == 0 and not said, f"{tool}: {p.returncode} {p.stderr}"
    os.chmod(b, 0o700)


def remove(folder):
    p = subprocess.run(["rm", "-r", folder], stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=False)
    assert p.returncode == 0 and not p.stderr and not os.path.exists(folder), f"rm -r: {p.returncode} {p.stderr}"


def check_journal(s):
    for what in ("verify", "fsck"):
        a = s.get(f"/v1/{what}")
        assert a.status == 200 and a.json()["problems"] == 0, a


def finished(s):
    """A run that failed, whose committed steps are kept."""
    run = s.begin(plan=PLAN)
    assert s.wait(run)["state"] == "failed"
    return run


def test_finished_state_is_copied_and_removed_by_ordinary_tools():
    for tool in TOOLS:
        for keeper_lives in (True, False):
            with Supervised() as s:
                s.start()
                run = finished(s)
                before = s.status(run)
                s.stop()
                if not keeper_lives:
                    s.kill_keeper()
                time.sleep(0.3)  # the keeper makes ready for a next step, or goes
                old, s.state = s.state, s.state + ".copy"
                copy(tool, old, s.state)
                if keeper_lives:
                    s.kill_keeper()
                    time.sleep(0.2)
                remove(old)
                s.start()
                assert s.status(run)["steps"] == before["steps"], (before, s.status(run))
                assert s.output(run, "two") == b"1\n" and s.output(run, "fails") == b"h\n"
                check_journal(s)
                s.stop()
                s.kill_keeper()
                time.sleep(0.2)
                remove(s.state)


def test_copy_in_the_middle_goes_on_in_its_new_place():
    for tool in TOOLS:
        with Supervised() as s:
            s.start()
            run = s.begin(plan=LONG)
            while s.status(run)["steps"][-1]["name"] != "two":
                time.sleep(0.02)
            s.wait_live(run)
            s.kill()
            s.kill_keeper()
            time.sleep(0.2)
            old, s.state = s.state, s.state + ".copy"
            copy(tool, old, s.state)
            remove(old)
            s.start()
            assert s.wait(run)["state"] == "succeeded", s.status(run)
            assert s.output(run, "two") == b"1\n" and s.output(run, "three") == b"1\n2\n"
            assert [a["state"] for a in s.step(run, "two")["attempts"]] == ["lost", "exited"]
            check_journal(s)


def test_old_copy_is_put_back_behind_a_keeper_that_knows_more():
    with Supervised() as s:
        s.start()
        first = s.begin(plan=LONG)
        while s.status(first)["steps"][-1]["name"] != "two":
            time.sleep(0.02)
        s.wait_live(first)
        s.kill()
        saved = s.state + ".saved"
        copy("cp", s.state, saved)  # as a snapshot of the machine's disk
        epoch = s.start()["epoch"]
        later = s.begin(plan=LONG)
        s.wait_live(later)
        s.kill()
        s.start()
        s.kill()
        for name in os.listdir(os.path.join(s.state, "v1")):
            remove(os.path.join(s.state, "v1", name)) if name in ("journal", "blobs") else None
            if name in ("journal", "blobs"):
                copy("cp", os.path.join(saved, "v1", name), os.path.join(s.state, "v1", name))
        assert s.start()["epoch"] > epoch + 1, "an old journal is behind its keeper"
        assert s.wait(first)["state"] == "succeeded", s.status(first)
        assert s.output(first, "three") == b"1\n2\n"
        assert s.get(f"/v1/runs/{later}").status == 404
        time.sleep(3)
        known = {a["layer"] for name in ("one", "two", "three") for a in s.step(first, name)["attempts"]}
        layers = {n for n in os.listdir(os.path.join(s.state, "v1", "layers")) if n[0] != "+"}
        assert layers <= known, (layers, known)
        check_journal(s)


def lose(layer):
    subprocess.run(["rm", "-rf", layer], check=True)


def lose_upper(layer):
    subprocess.run(["rm", "-rf", os.path.join(layer, "u")], check=True)


def lose_a_file(layer):
    os.unlink(os.path.join(layer, "u", "d", "f"))


def cut_a_file(layer):
    os.truncate(os.path.join(layer, "u", "d", "f"), 1)


def flip_a_file(layer):
    with open(os.path.join(layer, "u", "d", "f"), "r+b") as f:
        f.write(b"0")


def exchange_a_file(layer):
    path = os.path.join(layer, "u", "g")
    os.unlink(path)
    os.mkdir(path, 0o600)


def lose_manifest(layer):
    os.unlink(os.path.join(layer, "m"))


def cut_manifest(layer):
    os.truncate(os.path.join(layer, "m"), 20)


def lose_mark(layer):
    os.removexattr(os.path.join(layer, "u", "d"), "user.overlay.opaque")


HARM = [(lose, "one", "is gone"), (lose_upper, "one", "is gone"), (lose_a_file, "one", "has lost its d/f"),
        (cut_a_file, "one", "has another d/f"), (flip_a_file, "one", "has another d/f"), (exchange_a_file, "one", "has another g"),
        (lose_manifest, "two", "has no manifest"), (cut_manifest, "two", "has another manifest"),
        (lose_mark, "two", "has another d than was sealed")]
HARMED = """version: 1
land: never
steps:
  - {name: one, run: "mkdir d; echo 1 > d/f; echo 1 > g"}
  - {name: two, needs: [one], run: "rm -r d; mkdir d; echo 2 > d/h; rm g"}
  - {name: three, needs: [two], gate: ask, run: "ls d g; true", contract: {checks: [{run: [ls, d/h]}]}}
"""


def test_layer_that_is_gone_or_damaged_holds_its_run_up_until_it_is_put_back():
    for harm, step, said in HARM:
        with Supervised() as s:
            s.start()
            run = s.begin(plan=HARMED)
            item = s.wait(run, ("waiting",))["needs_person"][0]
            layer = os.path.join(s.state, "v1", "layers", s.step(run, step)["attempts"][0]["layer"])
            s.stop()
            s.kill_keeper()
            time.sleep(0.2)
            copy("cp", layer, layer + "saved-elsewhere")
            harm(layer)
            s.start()
            p = s.holdfast("approve", item["approval"])
            assert p.returncode == 0, p.stderr
            held = s.wait(run, ("paused", "succeeded", "failed"))
            assert (held["state"], held["exit"]) == ("paused", 8), (harm.__name__, held)
            assert f"step '{step}' {said}" in held["why"] and "holdfast resume" in held["why"], held["why"]
            assert s.holdfast("resume", run).returncode == 8, "it is not put right yet"
            attempts = s.step(run, "three")["attempts"]
            assert [a["state"] for a in attempts] == ["not-started"] * 2 and all(a["uncharged"] for a in attempts), attempts
            subprocess.run(["rm", "-rf", layer], check=True)
            os.rename(layer + "saved-elsewhere", layer)
            p = s.holdfast("resume", run)
            assert p.returncode == 0 and s.status(run)["state"] == "succeeded", (p.stderr, s.status(run))
            assert s.output(run, "three") == b"d:\nh\n", s.output(run, "three")
            check_journal(s)


if __name__ == "__main__":
    main(sys.modules[__name__])
