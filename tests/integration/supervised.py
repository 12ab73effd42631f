"""A real holdfastd on a state directory of its own, and a client that says exactly what it is told to say.

Used by the tests beside it. Everything that is made here is below one temporary folder and is gone at the end; only
processes that were started here are ended.
"""

import array
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

BUILD = os.environ.get("HOLDFAST_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
DAEMON = os.path.join(BUILD, "tools", "holdfastd")


class Answer:
    def __init__(self, status, headers, body, fds):
        self.status, self.headers, self.body, self.fds = status, headers, body, fds

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class Client:
    """One connection. Reads an answer whole, or a stream piece by piece."""

    def __init__(self, runtime, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(runtime, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/control")
        finally:
            os.close(folder)
        self.sock.settimeout(timeout)  # after connecting: with one, a full backlog is an error and no wait
        self.have = b""
        self.fds = []

    def close(self):
        self.sock.close()

    def send(self, data, fds=()):
        if fds:
            n = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            data = data[n:]
        self.sock.sendall(data)

    def more(self):
        data, ancillary, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                got = array.array("i")
                got.frombytes(payload[: len(payload) - len(payload) % 4])
                self.fds += list(got)
        if not data:
            raise EOFError("the supervisor closed the connection")
        self.have += data

    def until(self, mark):
        while mark not in self.have:
            self.more()
        out, self.have = self.have.split(mark, 1)
        return out

    def exactly(self, n):
        while len(self.have) < n:
            self.more()
        out, self.have = self.have[:n], self.have[n:]
        return out

    def head(self):
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict((k.lower(), v.strip()) for k, v in (l.split(":", 1) for l in lines[1:]))
        return status, headers

    def chunks(self):
        while True:
            size = int(self.until(b"\r\n"), 16)
            piece = self.exactly(size)
            self.exactly(2)
            if size == 0:
                return
            yield piece

    def answer(self):
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(self.chunks())
        else:
            body = self.exactly(int(headers.get("content-length", 0)))
        fds, self.fds = self.fds, []
        return Answer(status, headers, body, fds)

    def request(self, method, target, body=None, fds=None, request_id=None, headers=""):
        text = b"" if body is None else json.dumps(body).encode()
        fds = fds or {}
        head = f"{method} {target} HTTP/1.1\r\nHost: holdfast\r\n{headers}"
        if method == "POST":
            head += f"Holdfast-Request: {request_id or uuid.uuid4().hex}\r\nContent-Length: {len(text)}\r\n"
        if fds:
            head += "Holdfast-Fds: " + ",".join(fds) + "\r\n"
        self.send(head.encode() + b"\r\n" + text, list(fds.values()))
        return self.answer()


class Supervised:
    """A state directory, a workspace, and the supervisors that serve them one after another."""

    def __init__(self, embedded=False):
        self.root = tempfile.mkdtemp(prefix="holdfast-test-", dir=os.environ.get("HOLDFAST_TEST_DIR", "/var/tmp"))
        self.state = os.path.join(self.root, "state")
        self.workspace = os.path.join(self.root, "workspace")
        self.home = os.path.join(self.root, "home")
        os.mkdir(self.workspace)
        os.mkdir(self.home)
        self.embedded = embedded
        self.process = None
        self.keepers = set()
        self.log = open(os.path.join(self.root, "log"), "ab")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            self.clean()

    def clean(self):
        for pid in self.keepers:
            self.end(pid)
        self.log.close()
        for _ in range(50):  # the keeper's processes take a moment to let go of their files
            subprocess.run(["chmod", "-R", "u+rwX", self.root], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(self.root, ignore_errors=True)
            if not os.path.exists(self.root):
                return
            time.sleep(0.1)

    def end(self, pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def environment(self, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
        env["HOME"] = self.home
        env.update(extra or {})
        return env

    def spawn(self, extra_env=None, args=()):
        """Starts one and returns (process, what it said on its ready descriptor)."""
        ready, theirs = os.pipe()
        command = [DAEMON, "--state", self.state, "--ready-fd", str(theirs), *args]
        if self.embedded:
            command.append("--embedded")
        p = subprocess.Popen(command, pass_fds=[theirs], env=self.environment(extra_env), stdin=subprocess.DEVNULL,
                             stdout=self.log, stderr=self.log, start_new_session=True)
        os.close(theirs)
        with os.fdopen(ready, "rb") as f:
            said = f.readline().decode()
        return p, said

    def start(self, extra_env=None):
        self.process, said = self.spawn(extra_env)
        assert said == "ready\n", f"it said {said!r}\n{self.logged()}"
        return self.get("/v1/daemon").json()

    def logged(self):
        with open(os.path.join(self.root, "log"), errors="replace") as f:
            return f.read()

    def runtime(self):
        with open(os.path.join(self.state, "runtime")) as f:
            return f.read()

    def client(self, timeout=30):
        return Client(self.runtime(), timeout)

    def get(self, target):
        c = self.client()
        try:
            return c.request("GET", target)
        finally:
            c.close()

    def post(self, target, body=None, fds=None, request_id=None):
        c = self.client()
        try:
            return c.request("POST", target, body if body is not None else {}, fds, request_id)
        finally:
            c.close()

    def holdfast(self, *args):
        """A command on this state directory, as a script runs it."""
        command = [os.path.join(BUILD, "tools", "holdfast"), "--state", self.state, "--plain", *args]
        return subprocess.run(command, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.remember_keeper()
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(20)
            assert code == 0, f"the supervisor ended with {code}\n{self.logged()}"  # sanitizers and asserts speak here
        self.process = None

    def remember_keeper(self):
        try:
            pid = self.get("/v1/daemon").json()["keeper"]
        except (OSError, EOFError, ValueError):
            return 0
        if pid:
            self.keepers.add(pid)
        return pid

    def kill(self):
        """As kill -9 does, and as the machine does when it runs out of memory."""
        self.remember_keeper()
        self.process.kill()
        self.process.wait()

    def kill_keeper(self):
        """kill -9 of the keeper too. All that it kept dies with it."""
        for pid in self.keepers:
            self.end(pid)
        self.keepers.clear()

    # ---- runs

    def run(self, argv=None, plan=None, request_id=None, **more):
        body = {"workspace": self.workspace, "env": {"PATH": os.environ["PATH"], "HOME": self.home}, **more}
        folder = os.open(self.workspace, os.O_RDONLY | os.O_DIRECTORY)
        fds = {"workspace": folder}
        stdin = body.pop("stdin", None)
        if argv:
            body.setdefault("exec", {})["argv"] = argv
        if stdin is not None:
            body["exec"]["stdin"] = True
            fds["stdin"] = os.memfd_create("stdin")
            os.write(fds["stdin"], stdin)
            os.lseek(fds["stdin"], 0, os.SEEK_SET)
        if plan is not None:
            fds["plan"] = os.memfd_create("plan")
            os.write(fds["plan"], plan.encode())
            os.lseek(fds["plan"], 0, os.SEEK_SET)
            body["plan_path"] = os.path.join(self.workspace, "plan.yaml")
        try:
            return self.post("/v1/runs", body, fds, request_id)
        finally:
            for fd in fds.values():
                os.close(fd)

    def begin(self, *args, **more):
        a = self.run(*args, **more)
        assert a.status == 201, f"{a}\n{self.logged()}"
        return a.json()["run"]

    def status(self, run):
        a = self.get(f"/v1/runs/{run}")
        assert a.status == 200, a
        return a.json()

    def wait(self, run, states=("succeeded", "failed", "cancelled"), seconds=60):
        end = time.monotonic() + seconds
        while True:
            s = self.status(run)
            if s["state"] in states:
                return s
            assert time.monotonic() < end, f"still {s['state']}: {json.dumps(s, indent=1)}\n{self.logged()}"
            time.sleep(0.02)

    def wait_live(self, run, seconds=30):
        """Until the run's step has started and its command was executed."""
        end = time.monotonic() + seconds
        while True:
            s = self.status(run)
            for f in s["in_flight"]:
                if f["state"] in ("running", "live"):
                    return s
            assert time.monotonic() < end, f"nothing runs: {json.dumps(s, indent=1)}\n{self.logged()}"
            time.sleep(0.02)

    def output(self, run, step, stream="out"):
        a = self.get(f"/v1/runs/{run}/steps/{step}/output?stream={stream}")
        assert a.status == 200, a
        return a.body

    def step(self, run, step):
        a = self.get(f"/v1/runs/{run}/steps/{step}")
        assert a.status == 200, a
        return a.json()

    def events(self, run):
        a = self.get(f"/v1/runs/{run}/events")
        assert a.status == 200, a
        return [json.loads(line) for line in a.body.splitlines()]


def main(module):
    """Runs every test_* of the module; says which failed. Exit status 77 (skipped) where a test asked for it all alone."""
    wanted = sys.argv[1:]
    failed = []
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    for name, test in tests:
        if wanted and name not in wanted:
            continue
        begun = time.monotonic()
        try:
            test()
            print(f"ok   {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception:  # each test is told by itself
            failed.append(name)
            traceback.print_exc()
            print(f"FAIL {name}", flush=True)
    print(f"{len(failed)} failed" if failed else "all passed")
    sys.exit(1 if failed else 0)
