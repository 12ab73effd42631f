"""The state directory's disk is full while the supervisor works: what was acknowledged is there, the error says what to do,
and with space again the run goes on.

The disk is a small tmpfs in a mount namespace of this test's own; as an ordinary user in a user namespace of its own too.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from supervised import Supervised, main

CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 0x4000, 1 << 18
SIZE = 128 << 20
# Nothing that this user's namespace, in which root has no number, cannot look at.
POLICY = b"""version: 1
name: small
fs:
  - {path: /usr, access: rx}
  - {path: /bin, access: rx}
  - {path: /lib, access: rx}
  - {path: /lib64, access: rx}
  - {path: "${workspace}", access: stage}
env: {keep: [PATH]}
allow_weaker: [memory, cpu, landlock]
"""
libc = ctypes.CDLL(None, use_errno=True)


def checked(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def mount(source, target, kind, flags, data=None):
    checked(libc.mount(source, target.encode(), kind, flags, data), "mount")


def own_namespaces():
    uid, gid = os.geteuid(), os.getegid()
    checked(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0)), "unshare")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as f:
                f.write(text)
    mount(None, "/", None, MS_REC | MS_PRIVATE)


class Small(Supervised):
    """With its state directory on the small disk."""

    def __init__(self):
        super().__init__()
        self.policy = POLICY
        self.state = os.path.join(os.environ["HOLDFAST_SMALL_DISK"], "state")
        self.filler = os.path.join(os.environ["HOLDFAST_SMALL_DISK"], "filler")
        os.mkdir(self.state, 0o700)

    def post(self, target, body=None, fds=None, request_id=None):
        if target == "/v1/runs":
            fds["policy"] = os.memfd_create("policy")
            os.write(fds["policy"], self.policy)
            os.lseek(fds["policy"], 0, os.SEEK_SET)
        return super().post(target, body, fds, request_id)

    def clean(self):
        for pid in self.keepers:
            self.end(pid)
        if os.path.exists(self.filler):
            self.empty()
        for _ in range(50):  # the keeper's processes take a moment to let go of their files
            subprocess.run(["chmod", "-R", "u+rwX", self.state], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(self.state, ignore_errors=True)
            if not os.path.exists(self.state):
                break
            time.sleep(0.1)
        super().clean()

    def fill(self, leave=0):
        """All but `leave` bytes."""
        with open(self.filler, "ab") as f:
            size = 1 << 20
            while size >= 4096:
                v = os.statvfs(os.path.dirname(self.filler))
                room = v.f_bavail * v.f_frsize
                if room <= leave + size:
                    size //= 2
                    continue
                try:
                    f.write(b"x" * size)
                    f.flush()
                except OSError:
                    size //= 2

    def empty(self):
        os.unlink(self.filler)

    def ensure(self):
        """A supervisor, be it a new one: a write that failed ends the old one."""
        if self.process.poll() is not None:
            self.start()

    def sound(self):
        for what in ("verify", "fsck"):
            a = self.get(f"/v1/{what}")
            assert a.status == 200 and a.json()["problems"] == 0, a


def plan(*commands):
    text = "version: 1\nland: never\nsteps:\n"
    for i, command in enumerate(commands):
        needs = f", needs: [s{i - 1}]" if i else ""
        text += f"  - {{name: s{i}, run: '{command}'{needs}}}\n"
    return text


def test_what_could_start_waits_and_goes_on_with_room():
    with Small() as s:
        s.start()
        run = s.begin(plan=plan("sleep 2; echo 1 > made", "cat made"))
        s.wait_live(run)
        s.fill(leave=20 << 20)
        end = time.monotonic() + 20
        while s.step(run, "s0")["state"] != "committed":
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        time.sleep(0.5)
        now = s.status(run)
        assert now["state"] == "running" and not now["in_flight"], now
        assert any("nearly full" in n and "free some space" in n for n in now["notes"]), now["notes"]
        refused = s.run(["true"])
        assert refused.status == 503, refused
        error = refused.json()
        assert "nearly full" in str(error) and "free some space" in str(error), error
        s.kill()  # and a supervisor that begins so says the same
        s.start()
        assert s.status(run)["state"] == "running" and not s.status(run)["in_flight"]
        s.empty()
        assert s.wait(run)["state"] == "succeeded"
        assert s.output(run, "s1") == b"1\n"
        assert s.wait(s.begin(["true"]))["state"] == "succeeded"
        s.sound()


def test_an_export_does_not_take_the_reserve():
    with Small() as s:
        s.start()
        s.wait(s.begin(["true"]))
        assert s.get("/v1/export").status == 200
        s.fill(leave=20 << 20)
        refused = s.get("/v1/export")
        assert refused.status == 503 and "nearly full" in str(refused.json()) and "free some space" in str(refused.json()), refused
        s.empty()
        assert s.get("/v1/export").status == 200
        s.sound()


def test_a_step_that_ends_on_a_full_disk_runs_again_with_room():
    with Small() as s:
        s.start()
        before = s.begin(["sh", "-c", "echo first; echo 1 > made"])
        done = s.wait(before)
        run = s.begin(plan=plan("sleep 2; echo second", "echo third"))
        s.wait_live(run)
        s.fill()
        end = time.monotonic() + 20
        # Its layer cannot be sealed, or, where the last block was room enough, it is whole.
        while s.step(run, "s0")["state"] not in ("runnable", "committed"):
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        if s.step(run, "s0")["state"] == "runnable":
            assert "No space left" in s.step(run, "s0")["why"], s.step(run, "s0")
        s.empty()
        s.ensure()
        assert s.wait(run)["state"] == "succeeded"
        assert s.output(run, "s0") == b"second\n" and s.output(run, "s1") == b"third\n"
        assert s.status(before) == done and s.output(before, done["steps"][0]["name"]) == b"first\n"
        s.sound()


def courier_of(keeper):
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as f, open(f"/proc/{name}/cmdline") as c:
            if int(f.read().rsplit(")", 1)[1].split()[1]) == keeper and c.read().split("\0")[0].endswith("holdfast-courier"):
                return int(name)
    return 0


def test_an_end_whose_measuring_is_lost_with_the_connection_is_settled():
    """Of a step whose courier is late: nothing else would settle it."""
    with Small() as s:
        s.policy += b"net: [{id: web, do: allow, http: {host: www.acme.example, method: [GET]}}]\n"
        s.start({"HOLDFAST_FAILPOINT": "attempts.measure=error:EIO"})
        go = os.path.join(s.workspace, "go")
        open(go, "w").close()
        run = s.begin(plan=plan(f"until test -s {go}; do sleep 0.05; done; echo over"))
        s.wait_live(run)
        keeper = s.remember_keeper()
        courier = courier_of(keeper)
        assert courier, s.logged()
        os.kill(courier, signal.SIGSTOP)
        try:
            s.fill(leave=20 << 20)
            with open(go, "w", encoding="ascii") as f:
                f.write("go")
            end = time.monotonic() + 30
            while s.step(run, "s0")["state"] != "committed":
                assert time.monotonic() < end, (s.status(run), s.logged())
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(courier, signal.SIGCONT)
        assert s.remember_keeper() == keeper, "the connection was lost, and not the keeper"
        s.empty()
        assert s.wait(run)["state"] == "succeeded" and s.output(run, "s0") == b"over\n"
        assert [a["state"] for a in s.step(run, "s0")["attempts"]] == ["exited"], s.step(run, "s0")
        s.sound()


def test_a_step_whose_output_found_no_room_is_not_committed_without_it():
    with Small() as s:
        s.start()
        run = s.begin(plan=plan("sleep 2; seq 1 500000"))
        s.wait_live(run)
        s.fill()
        end = time.monotonic() + 20
        while s.step(run, "s0")["state"] not in ("runnable", "committed"):
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        step = s.step(run, "s0")
        first = step["attempts"][0]
        assert step["state"] == "runnable" and first["state"] == "lost", step
        assert "its output could not be kept: No space left" in first["why"] and "free some space" in first["why"], first
        assert any(n.startswith("output kept: ") for n in first["notes"]), first
        s.empty()
        s.ensure()
        assert s.wait(run)["state"] == "succeeded"
        assert s.output(run, "s0") == b"".join(b"%d\n" % i for i in range(1, 500001))
        s.sound()


def test_a_step_that_fills_the_disk_itself_fails_and_says_so():
    """By its output that found no room, by a layer that cannot be sealed: another attempt would fill it again."""
    for command in ("cat /dev/zero > big 2>/dev/null; seq 1 500000",
                    "seq -f %0200.0f 40000 | xargs touch; cat /dev/zero > big 2>/dev/null; true"):  # a long manifest
        with Small() as s:
            s.start()
            before = s.begin(["sh", "-c", "echo first"])
            done = s.wait(before)
            run = s.begin(plan=plan(command))
            end = time.monotonic() + 60
            while True:
                s.ensure()
                try:
                    now = s.status(run)
                except (OSError, EOFError):
                    continue
                if now["state"] == "failed":
                    break
                assert now["state"] == "running" and time.monotonic() < end, (now, s.logged())
                time.sleep(0.05)
            step = s.step(run, "s0")
            assert len(step["attempts"]) == 1, step
            assert f"it filled the disk of {s.state}: " in step["why"] and " MiB of it are its own; free some space" in step["why"], step
            while (a := s.run(["true"])).status == 503:  # until its files are removed
                assert time.monotonic() < end, (a, s.logged())
                time.sleep(0.05)
            assert s.wait(a.json()["run"])["state"] == "succeeded"
            assert s.status(before) == done
            s.sound()


def test_the_reserve_is_taken_too_and_nothing_that_was_said_is_lost():
    with Small() as s:
        s.start()
        before = s.begin(["sh", "-c", "echo first"])
        done = s.wait(before)
        run = s.begin(plan=plan("sleep 1; echo a", "sleep 1; echo b", "echo c"))
        s.wait_live(run)
        end = time.monotonic() + 4
        while time.monotonic() < end and s.process.poll() is None:
            s.fill()  # what the supervisor gives up as well
            s.remember_keeper()
            time.sleep(0.02)
        s.empty()
        s.ensure()
        assert s.wait(run)["state"] == "succeeded"
        assert [s.output(run, name) for name in ("s0", "s1", "s2")] == [b"a\n", b"b\n", b"c\n"]
        assert s.status(before) == done and s.output(before, done["steps"][0]["name"]) == b"first\n"
        s.sound()


def with_small_disk():
    """In a child, since the disk goes with its namespace; and executed anew, since a client may have no capabilities."""
    disk = tempfile.mkdtemp(prefix="holdfast-test-disk-", dir=os.environ.get("HOLDFAST_TEST_DIR", "/var/tmp"))
    pid = os.fork()
    if pid == 0:
        own_namespaces()
        mount(b"tmpfs", disk, b"tmpfs", 0, f"size={SIZE},mode=700".encode())
        os.environ["HOLDFAST_SMALL_DISK"] = disk
        os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    _, status = os.waitpid(pid, 0)
    for _ in range(50):  # until the last process in that namespace is gone
        try:
            os.rmdir(disk)
            break
        except OSError:
            time.sleep(0.1)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    if "HOLDFAST_SMALL_DISK" in os.environ:
        main(sys.modules[__name__])
    with_small_disk()
