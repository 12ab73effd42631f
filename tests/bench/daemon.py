"""A supervisor with a state directory of the bench's own, and a client of its control socket (supervisor/supervisor.h)."""
import json
import os
import select
import signal
import socket
import subprocess
import time
import uuid

READY_TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 60
ENDED = ("RUN_SUCCEEDED", "RUN_FAILED", "RUN_CANCELLED", "RUN_PAUSED")


class Refused(Exception):
    pass


class Connection:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        self.sock.connect(path)
        self.held = b""

    def close(self):
        self.sock.close()

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise Refused("the supervisor closed the connection")
        self.held += piece

    def line(self):
        while b"\r\n" not in self.held:
            self.more()
        line, self.held = self.held.split(b"\r\n", 1)
        return line.decode()

    def take(self, n):
        while len(self.held) < n:
            self.more()
        piece, self.held = self.held[:n], self.held[n:]
        return piece

    def send(self, method, target, body=None, fds=()):
        head = f"{method} {target} HTTP/1.1\r\nHost: holdfast\r\n"
        text = b"" if body is None else json.dumps(body).encode()
        if method != "GET":
            head += f"Holdfast-Request: {uuid.uuid4().hex}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        if fds:
            head += f"Holdfast-Fds: {','.join(name for name, _ in fds)}\r\n"
        data = head.encode() + b"\r\n" + text
        sent = socket.send_fds(self.sock, [data], [fd for _, fd in fds]) if fds else 0
        self.sock.sendall(data[sent:])

    def head(self):
        """Status and header fields of an answer."""
        status, fields = int(self.line().split()[1]), {}
        while line := self.line():
            name, value = line.split(":", 1)
            fields[name.lower()] = value.strip()
        return status, fields

    def chunk(self):
        n = int(self.line(), 16)
        piece = self.take(n)
        self.line()
        return piece

    def call(self, method, target, body=None, fds=()):
        self.send(method, target, body, fds)
        status, fields = self.head()
        if fields.get("transfer-encoding") == "chunked":
            text = b"".join(iter(self.chunk, b""))
        else:
            text = self.take(int(fields.get("content-length", 0)))
        answer = json.loads(text) if text else {}
        if status >= 400:
            raise Refused(f"{method} {target}: {answer.get('error', status)}")
        return answer


class Events:
    """The events of a run as they become durable, followed on a connection of its own."""

    def __init__(self, path, run):
        self.connection, self.text = Connection(path), b""
        self.connection.send("GET", f"/v1/runs/{run}/events?from=1&follow=1")
        status, _ = self.connection.head()
        if status != 200:
            raise Refused(f"events of {run}: {status}")

    def close(self):
        self.connection.close()

    def next(self):
        while b"\n" not in self.text:
            piece = self.connection.chunk()
            if not piece:
                raise Refused("the events ended")
            self.text += piece
        line, self.text = self.text.split(b"\n", 1)
        return json.loads(line)

    def until(self, *types):
        while True:
            event = self.next()
            if event["type"] in types:
                return event
            if event["type"] in (*ENDED, "STEP_FAILED", "STEP_DENIED", "STEP_EXHAUSTED"):
                raise Refused(f"instead of {types[0]}: {json.dumps(event)}")


class Daemon:
    """with Daemon(...) as d: a warm supervisor; afterwards neither it nor its keeper is there."""

    def __init__(self, bench, state):
        self.program, self.state = bench.holdfastd(), state
        self.socket = str(state / "run" / "control")

    def start(self):
        state_env = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}  # its sockets belong in the state directory
        ready, theirs = os.pipe()
        self.state.mkdir(mode=0o700, exist_ok=True)
        with open(self.state.parent / f"{self.state.name}.log", "ab") as log:
            self.process = subprocess.Popen([self.program, "--state", str(self.state), "--ready-fd", str(theirs)], pass_fds=(theirs,),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=state_env,
                                            start_new_session=True)
        os.close(theirs)
        with os.fdopen(ready, "rb") as f:
            said = f.readline() if select.select([f], [], [], READY_TIMEOUT_S)[0] else b"nothing in time"
        self.ready_ns = time.monotonic_ns()
        if said != b"ready\n":
            self.process.kill()
            self.process.wait()
            raise Refused(f"holdfastd does not start: {said.decode().strip()}")

    def __enter__(self):
        self.start()
        self.connection = Connection(self.socket)
        return self

    def __exit__(self, *_):
        """Its keeper outlives a supervisor by design, and is ended by the number that the supervisor says, held first."""
        keeper = None
        try:
            pid = self.connection.call("GET", "/v1/daemon").get("keeper")
            keeper = os.pidfd_open(pid) if pid and pid > 0 else None
            self.connection.call("POST", "/v1/daemon/stop", {})
            self.connection.close()
            self.process.wait(ANSWER_TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            if keeper is not None:
                signal.pidfd_send_signal(keeper, signal.SIGKILL)
                select.select([keeper], [], [], ANSWER_TIMEOUT_S)
                os.close(keeper)
            # a killed sandbox lets go of its mounts a moment later; an overlay's work folder has mode 000
            subprocess.run(["chmod", "-R", "u+rwX", str(self.state)], stderr=subprocess.DEVNULL, check=False)

    def create(self, body, workspace, plan=None, fds=()):
        """POST /v1/runs. workspace: a folder; plan: its text; fds: more, closed here."""
        fds = [*fds, ("workspace", os.open(workspace, os.O_RDONLY | os.O_DIRECTORY))]
        try:
            if plan is not None:
                fd = os.memfd_create("plan")
                os.write(fd, plan.encode())
                os.lseek(fd, 0, os.SEEK_SET)
                fds.append(("plan", fd))
            env = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
            return self.connection.call("POST", "/v1/runs", {"workspace": str(workspace), "env": env, **body}, fds)["run"]
        finally:
            for _, fd in fds:
                os.close(fd)

    def events(self, run):
        return Events(self.socket, run)
