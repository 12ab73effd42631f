"""kill -9 of the supervisor, of the keeper, of both, at any moment and at every failpoint: the run goes on from its last
committed step, nothing committed runs twice, and status says the same before and after.

How often a step really ran is counted outside of the transaction: each execution appends a line to a file in a folder that
the policy grants `rw`.
"""

import datetime
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import supervised  # noqa: E402
from supervised import Supervised, main  # noqa: E402


class Counted(Supervised):
    def __init__(self, **more):
        super().__init__(**more)
        self.counters = os.path.join(self.root, "counters")
        os.mkdir(self.counters)

    def policy(self):
        fd = os.memfd_create("policy")
        os.write(fd, f"""version: 1
name: counted
extends: [offline]
fs:
  - {{path: "{self.counters}", access: rw}}
""".encode())
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def begin_plan(self, steps, retry=None):
        text = "version: 1\nland: never\nsteps:\n"
        for name, command, needs in steps:
            script = f"echo $$ >> {self.counters}/{name}; {command}"
            text += f"  - {{name: {name}, run: {json.dumps(script)}"
            text += f", needs: [{', '.join(needs)}]" if needs else ""
            text += f", retry: {retry}" if retry else ""
            text += "}\n"
        folder = os.open(self.workspace, os.O_RDONLY)
        plan, policy = os.memfd_create("plan"), self.policy()
        os.write(plan, text.encode())
        os.lseek(plan, 0, os.SEEK_SET)
        body = {"workspace": self.workspace, "env": {"PATH": os.environ["PATH"], "HOME": self.home}, "plan_path": "/plan.yaml"}
        try:
            a = self.post("/v1/runs", body, {"workspace": folder, "plan": plan, "policy": policy})
        finally:
            for fd in (folder, plan, policy):
                os.close(fd)
        assert a.status == 201, a
        return a.json()["run"]

    def times(self, name):
        try:
            with open(os.path.join(self.counters, name)) as f:
                return len(f.readlines())
        except FileNotFoundError:
            return 0

    def wait_times(self, name, n, seconds=30):
        end = time.monotonic() + seconds
        while self.times(name) < n:
            assert time.monotonic() < end, f"{name} ran {self.times(name)} times\n{self.logged()}"
            time.sleep(0.02)

    def attempts(self, run, step):
        return [a["state"] for a in self.step(run, step)["attempts"]]

    def check_journal(self):
        for what in ("verify", "fsck"):
            a = self.get(f"/v1/{what}")
            assert a.status == 200 and a.json()["problems"] == 0, a


def test_supervisor_alone_dies_and_the_step_goes_on():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("tick", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep 0.25; done; echo x > made", [])])
        s.wait_live(run)
        s.wait_times("tick", 1)
        before = s.status(run)
        s.kill()
        time.sleep(0.5)
        s.start()
        assert s.status(run) == before, f"{before}\n{s.status(run)}"
        done = s.wait(run)
        assert done["state"] == "succeeded", done
        assert s.times("tick") == 1 and s.attempts(run, "tick") == ["exited"]
        assert s.output(run, "tick") == b"".join(b"%d\n" % i for i in range(1, 13))
        assert "ATTEMPT_ADOPTED" in [e["type"] for e in s.events(run)]
        s.check_journal()


def test_step_that_ended_meanwhile_is_settled():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("short", "sleep 1; echo done; echo x > made", []), ("next", "cat made", ["short"])])
        s.wait_live(run)
        s.kill()
        time.sleep(2)
        s.start()
        assert s.wait(run)["state"] == "succeeded"
        assert s.times("short") == 1 and s.times("next") == 1
        assert s.output(run, "short") == b"done\n" and s.output(run, "next") == b"x\n"
        s.check_journal()


def test_supervisor_dies_again_and_again():
    with Counted() as s:
        s.start()
        run = s.begin_plan([(f"s{i}", f"sleep 0.3; echo {i} >> log", [f"s{i - 1}"] if i else []) for i in range(8)])
        for _ in range(12):
            time.sleep(0.25)
            s.kill()
            s.start()
        assert s.wait(run)["state"] == "succeeded"
        for i in range(8):
            assert s.times(f"s{i}") == 1, f"s{i} ran {s.times(f's{i}')} times"
        s.check_journal()


def test_keeper_and_supervisor_die_and_the_step_runs_again_from_the_same_stack():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("first", "echo one > file", []), ("second", "cat file; echo two >> file; sleep 3; cat file", ["first"])])
        s.wait_times("second", 1)
        s.wait_live(run)
        before = s.status(run)
        s.kill()
        s.kill_keeper()
        s.start()
        after = s.status(run)
        assert after["done"] == before["done"], (before, after)
        assert s.wait(run)["state"] == "succeeded"
        assert s.times("first") == 1, "a committed step ran twice"
        assert s.times("second") == 2
        assert s.attempts(run, "second") == ["lost", "exited"]
        assert s.output(run, "second") == b"one\none\ntwo\n", "it did not start from the same stack"
        s.check_journal()


def test_keeper_alone_dies():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("work", "sleep 1; echo done", [])])
        s.wait_live(run)
        s.wait_times("work", 1)
        assert s.remember_keeper()
        s.kill_keeper()
        assert s.wait(run)["state"] == "succeeded"
        assert s.times("work") == 2 and s.attempts(run, "work") == ["lost", "exited"]
        s.check_journal()


def test_a_lost_attempt_says_so_and_has_no_exit():
    with Counted() as s:
        s.embedded = True  # so that nothing follows it before it was looked at
        s.start()
        run = s.begin_plan([("work", "sleep 30", [])])
        s.wait_live(run)
        s.wait_times("work", 1)
        s.kill()
        s.kill_keeper()
        s.start()
        step = s.step(run, "work")
        a = step["attempts"][0]
        assert (a["state"], a["exit_code"], a["wall_us"]) == ("lost", None, 0) and a["why"], a
        assert step["result"]["exit_code"] is None, step
        shown = next(x for x in s.holdfast("show", run, "work").stdout.splitlines() if "#1" in x)
        assert "lost" in shown and a["why"] in shown and "exit" not in shown and "0ms" not in shown, shown
        lost = next(e for e in s.events(run) if e["type"] == "ATTEMPT_LOST")
        assert "exit_code" not in lost["payload"] and lost["payload"]["why"] == a["why"], lost
        line = next(x for x in s.holdfast("log", run).stdout.splitlines() if "ATTEMPT_LOST" in x)
        assert a["why"] in line and "exit" not in line, line
        status = s.holdfast("status", run).stdout
        assert f"lost: {a['why']}" in status, status
        # what proves that it may run again is a record of this step, and is named rightly
        again = s.status(run)["safe_to_retry"][0]
        proof = next(e for e in s.events(run) if e["lsn"] == again["lsn"])
        assert (again["item"], again["class"]) == ("work", "SAFE"), again
        assert (proof["type"], proof["step"]) == (again["event"], "work"), (proof, again)
        s.check_journal()


def in_the_place_of_the_keeper(s):
    """A socket that a keeper's death leaves the supervisor to connect to; what accepts there and closes is a keeper that
    dies in its hello."""
    path = next(os.path.join(d, "keeper") for d, _, files in os.walk(s.root) if "keeper" in files
                and stat.S_ISSOCK(os.stat(os.path.join(d, "keeper")).st_mode))
    os.unlink(path)
    dying = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dying.bind(path)
    dying.listen(8)
    dying.settimeout(10)
    return dying, path


def test_keeper_that_dies_in_its_hello_has_not_been_taken_over():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("work", "sleep 1; echo done", [])])
        s.wait_live(run)
        s.wait_times("work", 1)
        assert s.remember_keeper()
        dying, path = in_the_place_of_the_keeper(s)
        with dying:
            s.kill_keeper()
            for _ in range(3):
                dying.accept()[0].close()
            os.unlink(path)
        assert s.wait(run)["state"] == "succeeded", s.logged()
        assert s.process.poll() is None and "taken over" not in s.logged(), s.logged()
        assert s.attempts(run, "work") == ["lost", "exited"]
        s.check_journal()


def test_keeper_that_is_never_reached_ends_the_supervisor_as_an_error():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("work", "sleep 1; echo done", [])])
        s.wait_live(run)
        s.wait_times("work", 1)
        assert s.remember_keeper()
        dying, path = in_the_place_of_the_keeper(s)
        with dying:
            dying.settimeout(0.1)
            s.kill_keeper()
            end = time.monotonic() + 20
            while s.process.poll() is None:
                assert time.monotonic() < end, s.logged()
                try:
                    dying.accept()[0].close()
                except TimeoutError:
                    pass
            os.unlink(path)
        assert s.process.returncode > 0, s.process.returncode
        assert "the keeper cannot be reached" in s.logged() and "taken over" not in s.logged(), s.logged()
        s.start()
        assert s.wait(run)["state"] == "succeeded", s.logged()
        s.check_journal()


def keepers_socket(s):
    return os.path.join(s.state, "v1", "keeper")


def lose_the_runtime_folder(s):
    shutil.rmtree(s.runtime())  # as logind does at the last logout
    return {}


def move_the_runtime_folder(s):
    shutil.rmtree(s.runtime())
    other = os.path.join(s.root, "xdg")
    os.mkdir(other, 0o700)
    return {"XDG_RUNTIME_DIR": other}


def lose_the_keepers_socket(s):
    os.unlink(keepers_socket(s))
    return {}


def replace_the_keepers_socket(s):
    """As a copy of the state directory put back over it does."""
    os.unlink(keepers_socket(s))
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(os.path.join(s.state, "v1"), os.O_PATH)
    dead.bind(f"/proc/self/fd/{folder}/keeper")
    os.close(folder)
    dead.close()
    return {}


def test_a_keeper_whose_socket_is_gone_is_found_again():
    for lose in (lose_the_runtime_folder, move_the_runtime_folder, lose_the_keepers_socket, replace_the_keepers_socket):
        with Counted() as s:
            s.start()
            run = s.begin_plan([("work", "echo x > made; sleep 4; cat made", []), ("next", "cat made", ["work"])])
            s.wait_live(run)
            s.wait_times("work", 1)
            keeper = s.remember_keeper()
            s.kill()
            found = s.start(lose(s))
            assert found["keeper"] == keeper, (lose, found, keeper, s.logged())
            assert s.wait(run)["state"] == "succeeded", s.logged()
            assert s.times("work") == 1 and s.attempts(run, "work") == ["exited"], lose
            assert "ATTEMPT_ADOPTED" in [e["type"] for e in s.events(run)], lose
            s.check_journal()


def test_an_idle_keeper_whose_socket_is_gone_is_found_again():
    for lose in (lose_the_runtime_folder, lose_the_keepers_socket):
        with Counted() as s:
            s.start()
            assert s.wait(s.begin_plan([("before", "true", [])]))["state"] == "succeeded"
            keeper = s.remember_keeper()
            assert keeper
            s.kill()
            assert s.start(lose(s))["keeper"] == keeper, (lose, s.logged())
            run = s.begin_plan([("after", "true", [])])
            assert s.wait(run)["state"] == "succeeded" and s.attempts(run, "after") == ["exited"], s.logged()


def test_a_keeper_that_lives_and_never_listens_is_not_called_dead():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("work", "sleep 2", [])])
        s.wait_live(run)
        s.wait_times("work", 1)
        keeper = s.remember_keeper()
        s.kill()
        os.kill(keeper, signal.SIGSTOP)
        os.unlink(keepers_socket(s))
        s.process, said = s.spawn()
        s.process.wait(60)
        assert said != "ready\n" and s.process.returncode > 0, (said, s.process.returncode)
        assert "a keeper lives and does not listen" in said + s.logged(), (said, s.logged())
        assert s.times("work") == 1
        os.kill(keeper, signal.SIGCONT)
        assert s.start()["keeper"] == keeper
        assert s.wait(run)["state"] == "succeeded", s.logged()
        assert s.times("work") == 1 and s.attempts(run, "work") == ["exited"]
        s.check_journal()


def install(s):
    """The programs, as an installation lays them out: each new file takes the place of the one before."""
    folder = os.path.join(s.root, "programs")
    os.makedirs(folder, exist_ok=True)
    for name in ("tools/holdfastd", "sandbox/holdfast-keeper", "sandbox/holdfast-init", "sandbox/holdfast-sealer"):
        target = os.path.join(folder, os.path.basename(name))
        shutil.copy2(os.path.join(supervised.BUILD, name), target + ".new")
        os.rename(target + ".new", target)
    return os.path.join(folder, "holdfastd")


def test_a_keeper_of_before_an_upgrade_keeps_its_steps_and_gets_no_others():
    before = supervised.DAEMON
    try:
        with Counted() as s:
            supervised.DAEMON = install(s)
            s.start()
            run = s.begin_plan([("long", "echo x > made; sleep 3", []), ("next", "cat made", ["long"])])
            s.wait_live(run)
            s.wait_times("long", 1)
            old = s.remember_keeper()
            install(s)
            s.kill()
            assert s.start()["keeper"] == old, s.logged()
            assert s.wait(run)["state"] == "succeeded", s.logged()
            assert s.times("long") == 1 and s.attempts(run, "long") == ["exited"] and s.output(run, "next") == b"x\n"
            for _ in range(50):  # as long as layers of the run before are still in its care it goes on
                assert s.wait(s.begin_plan([("after", "true", [])]))["state"] == "succeeded", s.logged()
                new = s.remember_keeper()
                if new != old:
                    break
                time.sleep(0.2)
            assert new and new != old, (old, new, s.logged())
            gone = not os.path.exists(f"/proc/{old}")
            assert gone or open(f"/proc/{old}/stat").read().split(") ")[1][0] in "ZX", "two keepers"
            assert s.wait(s.begin_plan([("again", "true", [])]))["state"] == "succeeded", s.logged()
            assert s.remember_keeper() == new, s.logged()
            s.check_journal()
    finally:
        supervised.DAEMON = before


def in_care(s):
    """What is left of attempts that are over, and of their empty layers."""
    v1 = os.path.join(s.state, "v1")
    return os.listdir(os.path.join(v1, "spool")) + [n for n in os.listdir(os.path.join(v1, "layers")) if n[0] != "+"]


def test_a_keeper_of_before_an_upgrade_that_does_not_end_is_killed():
    before = supervised.DAEMON
    try:
        with Counted() as s:
            supervised.DAEMON = install(s)
            s.start()
            assert s.wait(s.begin_plan([("one", "true", [])]))["state"] == "succeeded", s.logged()
            old = s.remember_keeper()
            end = time.monotonic() + 30
            while in_care(s):
                assert time.monotonic() < end, (in_care(s), s.logged())
                time.sleep(0.02)
            install(s)
            s.kill()
            assert s.start()["keeper"] == old, s.logged()
            os.kill(old, signal.SIGSTOP)
            assert s.wait(s.begin_plan([("two", "true", [])]))["state"] == "succeeded", s.logged()
            assert f"process {old}, does not end: it is killed" in s.logged()
            new = s.remember_keeper()
            assert new and new != old, (old, new, s.logged())
            gone = not os.path.exists(f"/proc/{old}")
            assert gone or open(f"/proc/{old}/stat").read().split(") ")[1][0] in "ZX", "two keepers"
            s.check_journal()
    finally:
        supervised.DAEMON = before


def test_embedded_settles_and_starts_nothing_before_it_is_told():
    with Counted() as s:
        s.embedded = True
        s.start()
        run = s.begin_plan([("one", "sleep 2", []), ("two", "true", ["one"])])
        s.wait_live(run)
        s.kill()
        s.kill_keeper()
        s.start()
        time.sleep(1.5)
        assert s.times("one") == 1 and s.attempts(run, "one") == ["lost"], "a reading command started an attempt"
        assert s.post(f"/v1/runs/{run}/resume").status == 200
        assert s.wait(run)["state"] == "succeeded"
        assert s.times("one") == 2 and s.times("two") == 1


def test_nothing_is_left_behind():
    with Counted() as s:
        s.start()
        run = s.begin_plan([("one", "echo x > a; sleep 5", [])])
        s.wait_live(run)
        s.kill()
        s.kill_keeper()
        s.start()
        s.wait(run)
        time.sleep(3.5)  # layers that nobody names are looked for after two seconds
        layers = os.listdir(os.path.join(s.state, "v1", "layers"))
        assert len([n for n in layers if n[0] != "+"]) == 1, layers
        assert len(layers) <= 2, layers  # what the living keeper made ahead, and nothing of the dead one's
        spool = os.listdir(os.path.join(s.state, "v1", "spool"))
        assert spool == [], spool


def test_a_sealer_that_always_dies_pauses_the_run_after_growing_pauses():
    if not failpoints():
        print("     (built without failpoints)")
        return
    with Counted() as s:
        s.start({"HOLDFAST_FAILPOINT": "sealer.walked=kill"})
        run = s.begin_plan([("work", "echo x > made", []), ("next", "cat made", ["work"])], "{backoff: 100ms..400ms}")
        paused = s.wait(run, ["paused"])
        assert "10 attempts in a row were lost" in paused["why"] and "sealer" in paused["why"], paused
        assert s.attempts(run, "work") == ["lost"] * 10 and s.times("work") == 10
        events = s.events(run)
        waits = [e for e in events if e["type"] == "STEP_BACKOFF"]
        assert len(waits) == 8, waits  # the first loss is an accident, and after the last nothing follows by itself
        begun = [moment(e) for e in events if e["type"] == "ATTEMPT_STARTED"]
        for k, gap in enumerate(b - a for a, b in zip(begun[1:], begun[2:])):
            assert gap >= 0.75 * min(0.1 * 2 ** k, 0.4), (k, gap)
        s.check_journal()
        s.stop()
        s.kill_keeper()
        s.start()
        assert s.status(run)["state"] == "paused", "a restart is no person"
        assert s.post(f"/v1/runs/{run}/resume").status == 200
        assert s.wait(run)["state"] == "succeeded", s.status(run)
        assert s.output(run, "next") == b"x\n" and s.times("work") == 11
        time.sleep(3)
        layers = [n for n in os.listdir(os.path.join(s.state, "v1", "layers")) if n[0] != "+"]
        assert len(layers) == 1, layers
        s.check_journal()


def moment(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


FAILPOINTS = [
    "attempts.start", "attempts.ended", "adopt.sealed",
    "journal.before_write", "journal.after_write_before_sync", "journal.after_sync", "journal.blob_written",
    "journal.blob_renamed",
]


def test_every_failpoint_of_the_supervisor():
    if not failpoints():
        print("     (built without failpoints)")
        return
    for name in FAILPOINTS:
        for nth in (1, 2, 5):
            with Counted() as s:
                p, said = s.spawn({"HOLDFAST_FAILPOINT": f"{name}=kill@{nth}"})
                s.process = p
                run = None
                if said == "ready\n":
                    try:
                        run = s.begin_plan([("one", "echo 1 > one; seq 20000", []), ("two", "cat one; echo 2 > two", ["one"])])
                        s.wait(run, seconds=5)
                    except (AssertionError, OSError, EOFError):
                        pass
                    s.remember_keeper()
                died = ended(p)
                if died:
                    s.process = None
                else:
                    s.stop()
                assert died or nth > 1, f"{name} was never passed"
                s.start()
                for r in s.get("/v1/runs?all=1").json()["runs"]:
                    done = s.wait(r["run"])
                    assert done["state"] == "succeeded", f"{name}@{nth}: {done}"
                    assert s.output(r["run"], "two") == b"1\n", name
                    assert s.times("one") <= 2 and s.times("two") <= 2, f"{name}@{nth}: {s.times('one')} {s.times('two')}"
                if run:
                    assert s.status(run)["state"] == "succeeded", "an acknowledged run is gone"
                s.check_journal()


def test_a_request_that_could_not_be_sent_costs_no_step():
    if not failpoints():
        print("     (built without failpoints)")
        return
    for nth, error in [(n, e) for n in range(2, 6) for e in ("ETOOMANYREFS", "ENOMEM")]:  # the first is the hello
        with Counted() as s:
            s.start({"HOLDFAST_FAILPOINT": f"client.send=error:{error}@{nth}"})
            run = s.begin_plan([("one", "echo 1 > one", []), ("two", "cat one", ["one"])], "{backoff: 100ms..400ms}")
            done = s.wait(run)
            assert done["state"] == "succeeded", f"{nth}: {done}"
            for step in ("one", "two"):  # each that ran is an attempt that the journal knows to have run
                begun = [a for a in s.attempts(run, step) if a != "not-started"]
                assert s.times(step) == len(begun), f"{error}@{nth}: {s.times(step)} {s.attempts(run, step)}"
            if nth == 2:
                assert s.attempts(run, "one") == ["not-started", "exited"], s.attempts(run, "one")
            s.check_journal()


def test_a_layer_that_cannot_be_looked_at_is_not_called_damaged():
    if not failpoints():
        print("     (built without failpoints)")
        return
    for error in ("EMFILE", "ENFILE", "ENOMEM"):
        with Counted() as s:
            s.start({"HOLDFAST_FAILPOINT": f"intact.open=error:{error}@1"})
            run = s.begin_plan([("one", "echo 1 > one", []), ("two", "cat one", ["one"])], "{backoff: 100ms..400ms}")
            assert s.wait(run, ["succeeded", "failed", "paused"])["state"] == "succeeded", s.status(run)
            assert s.attempts(run, "two") == ["not-started", "exited"], s.attempts(run, "two")


def ended(p):
    try:
        p.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True


def failpoints():
    return os.environ.get("HOLDFAST_HAS_FAILPOINTS", "1") == "1"


if __name__ == "__main__":
    main(sys.modules[__name__])
