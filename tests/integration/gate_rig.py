"""A holdfast-gate with a real keeper's and a real courier's place taken: sockets, descriptors and frames are the true
ones, and what the courier answers is decided here, by path. Listeners stand on 127.0.0.1 instead of inside a sandbox."""

import array
import fcntl
import os
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

BUILD = os.environ["HOLDFAST_BUILD"]
GATE = os.path.join(BUILD, "sandbox", "holdfast-gate")
# AddressSanitizer keeps what was freed: how much memory is used says nothing then.
SANITIZED = b"__asan_init" in open(GATE, "rb").read()
TABLE, CA, LISTENERS, TRUNK, ATTEMPT_END, NAME = range(1, 7)
REQUEST, TUNNEL, BODY, BODY_END, DATA, DATA_END = range(1, 7)
RESPONSE, REFUSED, TUNNEL_OPEN, ABORT = range(16, 20)
TLS, HTTP, PASSTHROUGH, TCP = range(4)
SLOTS = 64


# ---- CBOR, as much as is spoken here ----


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")
    raise ValueError(n)


def encode(v):
    if v is True or v is False:
        return b"\xf5" if v else b"\xf4"
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(map(encode, v))
    return head(5, len(v)) + b"".join(encode(k) + encode(v[k]) for k in sorted(v))


def decode(b, at=0):
    major, n = b[at] >> 5, b[at] & 31
    at += 1
    if major == 7:
        return n == 21, at
    if n >= 24:
        size = 1 << n - 24
        n, at = int.from_bytes(b[at:at + size], "big"), at + size
    if major == 0:
        return n, at
    if major in (2, 3):
        v = b[at:at + n]
        return (v if major == 2 else v.decode()), at + n
    out = []
    for _ in range(n * (2 if major == 5 else 1)):
        v, at = decode(b, at)
        out.append(v)
    return (out if major == 4 else dict(zip(out[::2], out[1::2]))), at


class Action:
    """An effect-http, by the names of its keys."""

    KEYS = {2: "method", 3: "scheme", 4: "host", 5: "port", 6: "path", 7: "query", 8: "headers", 9: "websocket", 10: "body", 11: "body_len"}

    def __init__(self, m):
        for key, name in self.KEYS.items():
            setattr(self, name, m.get(key))
        self.headers = {k: v.decode("latin-1") for k, v in self.headers or []}


# ---- the courier ----


class Channel:
    def __init__(self, sock):
        sock.setblocking(True)
        self.sock = sock

    def exactly(self, n):
        out = bytearray()
        while len(out) < n:
            piece = self.sock.recv(n - len(out))
            if not piece:
                raise EOFError
            out += piece
        return bytes(out)

    def frame(self):
        length, kind = struct.unpack("<IB3x", self.exactly(8))
        return kind, self.exactly(length)

    def say(self, kind, body=b""):
        self.sock.sendall(struct.pack("<IB3x", len(body), kind) + body)

    def respond(self, status, headers, body=b"", length=True, bodyless=False):
        m = {1: status, 2: [[k, v.encode()] for k, v in headers]}
        if length:
            m[3] = len(body)
        self.say(RESPONSE, encode(m))
        if bodyless or status in (101, 204, 304):
            return
        for at in range(0, len(body), 65536):
            self.say(BODY, body[at:at + 65536])
        self.say(BODY_END)


class Courier:
    """Takes channels off the trunk and answers by path. What it saw is in requests, notes, tunnels."""

    def __init__(self):
        self.requests, self.notes, self.tunnels, self.cuts = [], [], [], 0
        self.routes = {}
        self.lock = threading.Lock()
        self.listens = threading.Event()  # cleared: it is busy, and the trunk fills
        self.listens.set()

    def serve(self, trunk):
        def loop():
            while True:
                self.listens.wait()
                try:
                    data, fds, _, _ = socket.recv_fds(trunk, 8192, 4)
                except OSError:
                    return
                if not data:
                    trunk.close()
                    return
                m, _ = decode(data)
                if not fds:
                    with self.lock:
                        self.notes.append({"attempt": m[1], "kind": m[2], "host": m[3], "port": m[4], "why": m[5]})
                    continue
                threading.Thread(target=self.channel, args=(Channel(socket.socket(fileno=fds[0])), m), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()

    def channel(self, c, opened):
        try:
            while True:
                kind, body = c.frame()
                m, _ = decode(body)
                if kind == TUNNEL:
                    self.tunnel(c, m)
                    return
                assert kind == REQUEST, kind
                a = Action(m[1])
                a.attempt, a.dropped, a.has_length, a.data = opened[1], m.get(3, []), m.get(2, False), b""
                with self.lock:
                    self.requests.append(a)
                self.routes.get(a.path, Courier.echo)(self, c, a)
        except (EOFError, ConnectionError, BrokenPipeError):
            with self.lock:
                self.cuts += 1
        finally:
            c.sock.close()

    def body(self, c, a):
        out = bytearray()
        while a.body is not None:
            kind, piece = c.frame()
            if kind == BODY_END:
                break
            assert kind == BODY, kind
            out += piece
        a.data = bytes(out)
        return a.data

    def echo(self, c, a):
        data = self.body(c, a)
        text = f"{a.method} {a.scheme}://{a.host}:{a.port}{a.path}?{a.query or ''} {len(data)}\n".encode()
        c.respond(200, [("content-type", "text/plain"), ("x-from", "courier")], text, bodyless=a.method == "HEAD")

    def tunnel(self, c, m):
        with self.lock:
            self.tunnels.append(m)
        if m[1].startswith("refused"):
            c.say(REFUSED, encode({1: 403, 2: "{}"}))
            return
        c.say(TUNNEL_OPEN)
        while True:
            kind, body = c.frame()
            if kind == DATA_END:
                c.say(DATA, b"end")
                c.say(DATA_END)
                return
            c.say(DATA, body.upper())


# ---- the keeper ----


def make_ca(folder):
    key, cert, conf = (os.path.join(folder, n) for n in ("ca.key", "ca.pem", "ca.cnf"))
    with open(conf, "w") as f:
        f.write("[req]\ndistinguished_name=d\nx509_extensions=v\nprompt=no\n[d]\nCN=Holdfast run\n[v]\n"
                "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
                "nameConstraints=critical,permitted;DNS:example.com,permitted;DNS:example.org,excluded;IP:0.0.0.0/0.0.0.0,"
                "excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0\n")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", key, "-out", cert, "-config", conf], check=True, capture_output=True)
    return cert, open(cert, "rb").read() + open(key, "rb").read()


def memfd(data):
    fd = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, 1033, 15)  # F_ADD_SEALS, all
    return fd


class Gate:
    """with Gate([(host, [(port, mode)])...], limits="HEAD,BODY,IDLE") as g: g.port(host, port), g.courier"""

    def __init__(self, entries, limits=None, nofile=None):
        self.entries, self.limits, self.nofile, self.courier, self.names = entries, limits, nofile, Courier(), []
        self.attempt = os.urandom(16)

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="gate-")
        self.cafile, self.pem = make_ca(self.folder)
        offset, rows = 2, []
        for host, ports in self.entries:
            slots = SLOTS if host.startswith("*") else 1
            rows.append({1: host, 2: b"\xc6\x12" + offset.to_bytes(2, "big"),
                         3: bytes.fromhex("fd486f6c6466") + bytes(7) + offset.to_bytes(3, "big"), 4: slots,
                         5: [[p, m] for p, m in sorted(ports)]})
            offset += slots
        self.table = encode({1: 1, 2: rows})
        self.listeners, self.where = [], {}
        self.listen(0, ("udp", "tcp", "udp", "tcp"))
        for host, ports in self.entries:
            for slot in range(SLOTS if host.startswith("*") else 1):
                for p, _ in sorted(ports):
                    for v6 in (False, True):
                        s = self.listen(1, ("tcp",))
                        self.where[host, slot, p, v6] = s
        self.start()
        return self

    def listen(self, _, kinds):
        for kind in kinds:
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            s.bind(("127.0.0.1", 0))
            if kind == "tcp":
                s.listen(128)
            self.listeners.append(s)
        return self.listeners[-1].getsockname()[1]

    def start(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lock = os.open(os.path.join(self.folder, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        # By way of a shell-free helper that puts 3 and 4 in place: the gate looks at nothing else.
        high3, high4 = fcntl.fcntl(theirs, fcntl.F_DUPFD, 50), fcntl.fcntl(lock, fcntl.F_DUPFD, 50)

        def place():
            os.dup2(high3, 3)
            os.dup2(high4, 4)
            if self.nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile))

        args = [GATE] + ([self.limits] if self.limits else [])
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, env={}, close_fds=False, preexec_fn=place)
        for fd in (high3, high4, lock):
            os.close(fd)
        theirs.close()
        self.control = ours
        self.say(TABLE, memfd(self.table))
        self.say(CA, memfd(self.pem))
        for entry, slot, name in self.names:
            self.say(NAME, entry=entry, slot=slot, name=name)
        self.trunk()
        for at in range(0, len(self.listeners), 16):
            fds = [s.fileno() for s in self.listeners[at:at + 16]]
            self.send(LISTENERS, fds, first=at, attempt=self.attempt)
        threading.Thread(target=self.hear, args=(ours,), daemon=True).start()

    def trunk(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.courier.serve(ours)
        self.send(TRUNK, [theirs.fileno()])
        theirs.close()
        self.courier_trunk = ours

    def hear(self, control):
        while True:
            try:
                m = control.recv(288)
            except OSError:
                return
            if len(m) != 288:
                return
            kind, _ = struct.unpack_from("II", m)
            entry, slot = struct.unpack_from("II", m, 24)
            if kind == NAME:
                self.names.append((entry, slot, m[32:].split(b"\0")[0].decode()))

    def say(self, kind, fd=None, **more):
        self.send(kind, [fd] if fd is not None else [], **more)
        if fd is not None:
            os.close(fd)

    def send(self, kind, fds, first=0, attempt=bytes(16), entry=0, slot=0, name=""):
        m = struct.pack("II16sII256s", kind, first, attempt, entry, slot, name.encode())
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.control.sendmsg([m], anc)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.control.close()

    def __exit__(self, *_):
        self.kill()
        for s in self.listeners:
            s.close()
        shutil.rmtree(self.folder)

    # ---- for tests ----

    def port(self, host, port, slot=0):
        return self.where[host, slot, port, False]

    def connect(self, host, port, slot=0):
        s = socket.create_connection(("127.0.0.1", self.port(host, port, slot)), timeout=20)
        return s

    def raw(self, host, port, data, until_close=True):
        """All that comes back for data: (bytes, was it a reset)."""
        s, out = None, b""
        try:
            s = self.connect(host, port)
            s.sendall(data)
            while True:
                piece = s.recv(65536)
                if not piece:
                    return out, False
                out += piece
                if not until_close and b"\r\n\r\n" in out:
                    return out, False
        except ConnectionResetError:
            return out, True
        finally:
            if s:
                s.close()

    def curl(self, url, *args, host=None, port=443):
        host = host or url.split("/")[2].split(":")[0]
        listed = host if (host, 0, port, False) in self.where else next(h for h, _ in self.entries if h.startswith("*"))
        return subprocess.run(["curl", "-sS", "--cacert", self.cafile, "--connect-to", f"::127.0.0.1:{self.port(listed, port)}",
                               "--noproxy", "*", "--max-time", "20", *args, url], capture_output=True, check=False)

    def wait_for(self, what, seconds=10):
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.01)
