#!/usr/bin/env python3
"""The courier, played with by a keeper, a gate and a supervisor of the test's own.

Real servers on loopback addresses of a network namespace that the test made; certificates by openssl(1).

usage: courier.py COURIER POLICY_ENCODER [TEST...]
"""
import array
import base64
import fcntl
import hashlib
import json
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

# ---- canonical CBOR, as far as it is needed here ----


def head(major, n):
    for code, size, fmt in ((24, 1 << 8, "B"), (25, 1 << 16, ">H"), (26, 1 << 32, ">I"), (27, 1 << 64, ">Q")):
        if n < 24:
            return bytes([major << 5 | n])
        if n < size:
            return bytes([major << 5 | code]) + struct.pack(fmt, n)
    raise ValueError(n)


def enc(v):
    if v is True or v is False:
        return b"\xf5" if v else b"\xf4"
    if isinstance(v, int):
        return head(0, v) if v >= 0 else head(1, -1 - v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(map(enc, v))
    if isinstance(v, dict):
        return head(5, len(v)) + b"".join(enc(k) + enc(v[k]) for k in sorted(v))
    raise TypeError(v)


def dec(b, at=0):
    major, n = b[at] >> 5, b[at] & 31
    at += 1
    if n >= 24 and major != 7:
        size = 1 << (n - 24)
        n = int.from_bytes(b[at:at + size], "big")
        at += size
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major in (2, 3):
        return (b[at:at + n] if major == 2 else b[at:at + n].decode()), at + n
    if major == 4:
        out = []
        for _ in range(n):
            v, at = dec(b, at)
            out.append(v)
        return out, at
    if major == 5:
        out = {}
        for _ in range(n):
            k, at = dec(b, at)
            out[k], at = dec(b, at)
        return out, at
    return {20: False, 21: True, 22: None}[n], at


# ---- frames ----

REQUEST, TUNNEL, BODY, BODY_END, DATA, DATA_END = 1, 2, 3, 4, 5, 6
RESPONSE, REFUSED, TUNNEL_OPEN, ABORT = 16, 17, 18, 19
HELLO, PROPOSE, READS, RESULT, DELIVERED, CUT, DRAINED = range(1, 8)
SETTINGS, ATTEMPT, ATTEMPT_END, ANSWER, RELEASE = 32, 33, 34, 35, 36
SEND, DENY, REPLAY, WAITING = 1, 2, 3, 4
CONFIRMED, REFUSED_OUT, DOUBT = 1, 2, 3
WAIT_S = 10


def recv_fds(sock, size, timeout=WAIT_S):
    sock.settimeout(timeout)
    data, anc, _flags, _ = sock.recvmsg(size, socket.CMSG_SPACE(16 * 4))
    fds = array.array("i")
    for level, kind, body in anc:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(body[:len(body) - len(body) % 4])
    return data, list(fds)


def send_fds(sock, data, fds=()):
    anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], anc)


def memfd(content):
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def read_fd(fd):
    os.lseek(fd, 0, os.SEEK_SET)
    out = b""
    while piece := os.read(fd, 1 << 20):
        out += piece
    os.close(fd)
    return out


class Courier:
    """A courier with its keeper's side; attach() gives it a supervisor."""

    def __init__(self, policy, secrets=(), ca=None, limits=None):
        self.dir = tempfile.mkdtemp()
        self.run = os.urandom(16)
        self.attempt = os.urandom(16)
        self.policy, self.secrets, self.ca, self.limits = encode(policy), secrets, ca, limits or {}
        self.connections = 0
        self.reads = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lock = os.open(os.path.join(self.dir, self.run.hex() + ".n"), os.O_RDWR | os.O_CREAT, 0o600)
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        keep = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD, 50), fcntl.fcntl(lock, fcntl.F_DUPFD, 50)

        def child():
            os.dup2(keep[0], 3)
            os.dup2(keep[1], 4)

        self.process = subprocess.Popen([COURIER], stderr=self.log, preexec_fn=child, close_fds=False,
                                        env={"ASAN_OPTIONS": "detect_leaks=0"})  # which would need ptrace
        theirs.close()
        for fd in keep + (lock,):
            os.close(fd)
        self.control = ours
        self.trunk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.say_control(4, theirs)
        self.supervisor = None

    def say_control(self, kind, sock=None, attempt=bytes(16)):
        send_fds(self.control, struct.pack("=II16sII256s", kind, 0, attempt, 0, 0, b""), [sock.fileno()] if sock else [])
        if sock:
            sock.close()

    def attach(self, tell=True):
        if self.supervisor:
            self.supervisor.close()
        self.supervisor, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.say_control(7, theirs)
        hello, _ = self.hear(HELLO)
        assert hello[1] == self.run
        if tell:
            self.tell()
        return hello

    def tell(self):
        m = {0: ATTEMPT, 1: self.attempt, **self.limits}
        if self.secrets:
            m[4] = [[n, b"placeholder-" + n.encode(), v] for n, v in self.secrets]
        fds = [memfd(self.policy)]
        if self.ca:
            m[5] = [self.ca.encode()]
            fds.append(os.open(self.ca, os.O_RDONLY))
        self.say(m, fds)
        for fd in fds:
            os.close(fd)

    def say(self, m, fds=()):
        send_fds(self.supervisor, enc(m), fds)

    def hear(self, kind=None, timeout=WAIT_S):
        """The next message that is no batch of reads, or the next of `kind`."""
        while True:
            data, fds = recv_fds(self.supervisor, 1 << 17, timeout)
            if not data:
                raise EOFError("the courier closed the report channel")
            m, end = dec(data)
            assert end == len(data) and enc(m) == data, "not canonical"
            if m[0] == READS:
                self.reads += m[1]
                if kind != READS:
                    continue
            assert kind in (None, m[0]), f"{m} in place of {kind}"
            return m, fds

    def silent(self, seconds=0.3):
        try:
            m, _ = self.hear(timeout=seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"heard {m}")

    def read_note(self):
        while not self.reads:
            self.hear(READS)
        return self.reads.pop(0)

    def channel(self):
        ours, theirs = socket.socketpair()
        self.connections += 1
        send_fds(self.trunk, enc({1: self.attempt, 2: self.connections}), [theirs.fileno()])
        theirs.close()
        return Channel(ours)

    def get(self, url, **kw):
        ch = self.channel()
        ch.request("GET", url, **kw)
        return ch

    def close(self):
        self.control.close()
        assert self.process.wait(10) == 0, self.log_text()
        self.log.close()
        shutil.rmtree(self.dir)

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self.log_text(), file=sys.stderr)
            self.process.kill()
            self.process.wait()
            self.log.close()
            shutil.rmtree(self.dir)
        else:
            self.close()


class Channel:
    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(WAIT_S)

    def send(self, kind, body=b""):
        self.sock.sendall(struct.pack("<IBBH", len(body), kind, 0, 0) + body)

    def exactly(self, n):
        out = b""
        while len(out) < n:
            piece = self.sock.recv(n - len(out))
            if not piece:
                raise EOFError
            out += piece
        return out

    def frame(self):
        n, kind, _, _ = struct.unpack("<IBBH", self.exactly(8))
        return kind, self.exactly(n)

    def request(self, method, url, headers=(), body=None, websocket=False):
        scheme, rest = url.split("://", 1)
        place, _, path = rest.partition("/")
        host, _, port = place.partition(":")
        path, _, query = ("/" + path).partition("?")
        a = {1: 1, 2: method, 3: scheme, 4: host, 5: int(port or (443 if scheme == "https" else 80)), 6: path}
        if query:
            a[7] = query
        if headers:
            a[8] = [[k, v.encode() if isinstance(v, str) else v] for k, v in sorted(headers)]
        if websocket:
            a[9] = True
        m = {1: a}
        if body is not None:
            a[10], a[11] = bytes(32), len(body)
            m[2] = True
        self.send(REQUEST, enc(m))
        if body is not None:
            for at in range(0, len(body), 65536):
                self.send(BODY, body[at:at + 65536])
            self.send(BODY_END)

    def answer(self):
        """(status, headers, body) of a response, or (status, None, json) of a refusal."""
        kind, body = self.frame()
        if kind == REFUSED:
            m, _ = dec(body)
            return m[1], None, json.loads(m[2])
        assert kind == RESPONSE, (kind, body)
        m, _ = dec(body)
        return m[1], {k: v.decode() for k, v in m[2]}, self.rest(m[1])

    def rest(self, status=200):
        out = b""
        if status in (204, 304):
            return out
        while True:
            kind, body = self.frame()
            if kind == BODY_END:
                return out
            assert kind == BODY, (kind, body)
            out += body

    def quiet(self, seconds=0.3):
        return not select.select([self.sock], [], [], seconds)[0]

    def close(self):
        self.sock.close()


# ---- servers ----


class Server:
    """HTTP/1.1, one thread a connection; `handle(request, conn)` answers by raw bytes."""

    def __init__(self, handle, address="127.0.0.1", tls=None, port=0):
        self.handle, self.seen, self.connections = handle, [], 0
        self.sock = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.port = self.sock.getsockname()[1]
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.set_alpn_protocols(["http/1.1"])
            self.context.load_cert_chain(*tls)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            if self.context:
                conn = self.context.wrap_socket(conn, server_side=True)
            f = conn.makefile("rb")
            while line := f.readline():
                headers, raw = {}, [line]
                while (h := f.readline()) not in (b"\r\n", b""):
                    raw.append(h)
                    k, _, v = h.decode().partition(":")
                    headers[k.lower()] = v.strip()
                body = f.read(int(headers.get("content-length", 0)))
                r = {"line": line.decode().strip(), "headers": headers, "body": body, "raw": b"".join(raw), "file": f}
                self.seen.append(r)
                if self.handle(r, conn) == "close":
                    break
            conn.shutdown(socket.SHUT_RDWR)
            conn.close()
        except (OSError, ssl.SSLError):
            pass

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def reply(body, status=200, headers=()):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def plain(body=b"hello\n", **kw):
    return lambda r, conn: conn.sendall(reply(body, **kw))


class Dns:
    """Answers every A question with one address; remembers the names."""

    def __init__(self, address):
        self.seen = []
        self.address = socket.inet_aton(address)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            q, where = self.sock.recvfrom(512)
            at, labels = 12, []
            while q[at]:
                labels.append(q[at + 1:at + 1 + q[at]].decode())
                at += 1 + q[at]
            kind = struct.unpack(">H", q[at + 1:at + 3])[0]
            self.seen.append(".".join(labels).lower())
            question = q[12:at + 5]
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + self.address if kind == 1 else b""
            self.sock.sendto(q[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if answer else 0, 0, 0) + question + answer, where)


class LongDns:
    """Its answers over UDP are cut short, whatever they hold; over TCP they are whole, with `count` addresses."""

    def __init__(self, address, count, tcp=True):
        self.udp, self.tcp, self.count, self.address = [], [], count, socket.inet_aton(address)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()
        if tcp:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self.serve, daemon=True).start()

    def run(self):
        while True:
            q, where = self.sock.recvfrom(512)
            self.udp.append(q)
            self.sock.sendto(q[:2] + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + q[12:], where)

    def serve(self):
        while True:
            s, _ = self.listener.accept()
            with s:
                data = b""
                while len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
                    data += s.recv(4096)
                q = data[2:]
                self.tcp.append(q)
                kind = struct.unpack(">H", q[-4:-2])[0]
                n = self.count if kind == 1 else 0
                one = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + self.address
                out = q[:2] + struct.pack(">HHHHH", 0x8180, 1, n, 0, 0) + q[12:] + one * n
                s.sendall(struct.pack(">H", len(out)) + out[:700])
                s.sendall(out[700:])


class Certs:
    """An authority of the test's own, and what it signed."""

    def __init__(self, folder):
        self.dir = folder
        self.ca = self.path("ca.pem")
        self.ssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path("ca.key"),
                 "-out", self.ca, "-subj", "/CN=test", "-days", "2")

    def path(self, name):
        return os.path.join(self.dir, name)

    def ssl(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=self.dir)

    def sign(self, name, days="2", authority=True):
        key, cert, req = self.path(name + ".key"), self.path(name + ".pem"), self.path(name + ".req")
        self.ssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", req, "-subj", "/CN=" + name,
                 "-addext", "subjectAltName=DNS:" + name)
        signer = ["-CA", self.ca, "-CAkey", self.path("ca.key")] if authority else ["-key", key]
        self.ssl("x509", "-req", "-in", req, "-out", cert, "-days", days, "-copy_extensions", "copy", *signer)
        return cert, key


def encode(policy):
    return subprocess.run([ENCODER], input=policy.encode(), check=True, capture_output=True).stdout


def policy(*rules, more=""):
    return "version: 1\nagency: autonomous\nnet:\n" + "".join(f"  - {r}\n" for r in rules) + more


HERE = "address: [127.0.0.1]"
POOL_MAX = 16  # COURIER_POOL_MAX


# ---- tests ----


def plain_reads_go_by_themselves():
    s = Server(plain(b"hello\n", headers=["X-A: b", "Connection: x-hop", "X-Hop: 1", "Set-Cookie: a=1", "Set-Cookie: b=2"]))
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.channel()
        for _ in range(2):
            ch.request("GET", f"http://a.example.com:{s.port}/x%20y?q=1", headers=[("accept", "*/*"), ("user-agent", "t")])
            kind, body = ch.frame()
            m, _ = dec(body)
            assert kind == RESPONSE and m[1] == 200 and m[3] == 6, m
            assert m[2] == [["x-a", b"b"], ["set-cookie", b"a=1"], ["set-cookie", b"b=2"]], m
            assert ch.rest() == b"hello\n"
        note = c.read_note()
        assert note[1] == c.attempt and note[5] == 200 and note[7] == "a.example.com" and note[10] == "r", note
        assert note[13] == 6, note
        assert s.seen[0]["line"] == "GET /x%20y?q=1 HTTP/1.1"
        assert s.seen[0]["headers"] == {"host": f"a.example.com:{s.port}", "accept": "*/*", "user-agent": "t"}
        assert s.connections == 1, "keep-alive"
    s.close()


def all_of_an_attempt_is_told_before_its_end():
    s = Server(plain())
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.channel()
        for i in range(5):  # but for the first they wait for each other
            ch.request("GET", f"http://a.example.com:{s.port}/{i}")
            assert ch.answer()[0] == 200
        for i in range(5):
            send_fds(c.trunk, enc({1: c.attempt, 2: 1, 3: f"n{i}.example", 4: 0, 5: "no"}))
        send_fds(c.trunk, enc({1: c.attempt, 2: 5, 3: "", 4: 0, 5: ""}))
        m, _ = c.hear(DRAINED)
        assert m[1] == c.attempt
        assert [r.get(8, r[7]) for r in c.reads] == [b"/%d" % i for i in range(5)] + [f"n{i}.example" for i in range(5)], c.reads
        c.attach(tell=False)  # a supervisor that died may not have heard it
        assert c.hear(DRAINED)[0][1] == c.attempt
    s.close()


def what_the_gate_refused_while_no_supervisor_hears_it_is_counted():
    kept, refused, other = 8192, 9000, os.urandom(16)
    with Courier(policy("{id: r, do: allow, http: {host: a.example.com}}")) as c:
        for i in range(refused):
            send_fds(c.trunk, enc({1: c.attempt, 2: 1, 3: f"n{i}.example", 4: 0, 5: "no"}))
        send_fds(c.trunk, enc({1: other, 2: 1, 3: "last.example", 4: 0, 5: "no"}))
        send_fds(c.trunk, enc({1: c.attempt, 2: 5, 3: "", 4: 0, 5: ""}))
        hello = c.attach(tell=False)
        assert hello[1] == c.run and c.hear(DRAINED)[0][1] == c.attempt
        assert [r[7] for r in c.reads[:kept]] == [f"n{i}.example" for i in range(kept)]
        told = {c.attempt: 0, other: 0}
        counted = 0
        for r in c.reads:
            assert r[4], r
            n = int(r[11].split(" more ")[0]) if " more " in r[11] else 1
            counted += n if " more " in r[11] else 0
            told[r[1]] += n
        # what the trunk still held when the supervisor came is listed again
        assert told == {c.attempt: refused, other: 1} and counted > 0, (told, counted)


def a_host_of_before_keeps_no_host_of_now_out_of_the_pool():
    servers = [Server(plain()) for _ in range(POOL_MAX + 1)]
    p = policy(*(f"{{id: r{i}, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}"
                 for i, s in enumerate(servers)))
    with Courier(p) as c:
        c.attach()
        for s in [*servers, servers[-1], servers[1]]:
            assert c.get(f"http://a.example.com:{s.port}/").answer()[0] == 200
        assert [s.connections for s in servers] == [1] * len(servers), [s.connections for s in servers]
    for s in servers:
        s.close()


def what_no_rule_covers_is_refused_in_words():
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: a.example.com, method: GET, path: /ok}}, {HERE}}}",
               f"{{id: n, do: deny, http: {{scheme: http, host: a.example.com, path: /no}}, why: not this}}",
               f"{{id: b, do: allow, http: {{scheme: http, host: b.example.com, body_max: 4}}, effect: read, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        status, _, j = c.get("http://a.example.com/no").answer()
        assert status == 403 and j["error"] == "denied" and j["rule"] == "n" and "not this" in j["why"] and j["hint"], j
        note = c.read_note()
        assert note[4] and note[5] == 403 and note[8] == b"/no", note
        ch = c.channel()
        ch.request("POST", "http://a.example.com/ok", body=b"x")
        assert ch.answer()[0] == 403
        ch.request("POST", "http://b.example.com/ok", body=b"12345")
        assert ch.answer()[0] == 413
        for _ in range(3):  # without a body there is nothing to throw away before the next
            ch.request("GET", "http://other.example.com/")
            assert ch.answer()[0] == 403
        ch.request("POST", "http://a.example.com/ok", body=b"x")
        assert ch.answer()[0] == 403
        ch.close()


def what_a_supervisor_that_does_not_read_has_not_recorded_is_not_done():
    """Its queue has an end: past it all is refused, and what was answered before is told once it reads again."""
    asked = 16000
    p = policy(f"{{id: n, do: deny, http: {{scheme: http, host: a.example.com}}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.channel()
        ch.sock.settimeout(60)

        def ask():
            for _ in range(asked):
                ch.request("GET", "http://a.example.com/")

        asking = threading.Thread(target=ask)
        asking.start()
        answers = [ch.answer()[0] for _ in range(asked)]
        asking.join()
        told = answers.index(503)
        assert set(answers[:told]) == {403} and set(answers[told:]) == {503}, answers
        assert told > 8192
        while len(c.reads) < told:
            c.hear(READS)
        assert len(c.reads) == told and all(r[4] and r[5] == 403 for r in c.reads), len(c.reads)
        ch.request("GET", "http://a.example.com/")
        assert ch.answer()[0] == 403
        ch.close()


def upstream_tls_is_verified(certs):
    good = Server(plain(), tls=certs.sign("good.example.com"))
    wrong = Server(plain(), tls=certs.sign("other.example.com"))
    own = Server(plain(), tls=certs.sign("own.example.com", authority=False))
    hosts = {"good": (good, None), "wrong": (wrong, "ostname"), "own": (own, "self")}
    rules = [f"{{id: {n}, do: allow, http: {{host: {n}.example.com, port: {s.port}}}, {HERE}, ca: {certs.ca}}}" for n, (s, _) in hosts.items()]
    rules.append(f"{{id: sys, do: allow, http: {{host: sys.example.com, port: {good.port}}}, {HERE}}}")
    with Courier(policy(*rules), ca=certs.ca) as c:
        c.attach()
        for name, (s, reason) in hosts.items():
            status, _, j = c.get(f"https://{name}.example.com:{s.port}/").answer()
            assert (status, j) == (200, b"hello\n") if not reason else status == 502 and j["error"] == "tls" and reason in j["why"], (name, j)
        status, _, j = c.get(f"https://sys.example.com:{good.port}/").answer()
        assert status == 502 and j["error"] == "tls", j
        assert not wrong.seen and not own.seen
    for s, _ in hosts.values():
        s.close()


def effect(c, ch, verdict=SEND, **more):
    """Hears a proposal and answers it."""
    m, fds = c.hear(PROPOSE)
    body = read_fd(fds[0]) if fds else None
    a = {0: ANSWER, 1: m[1], 2: os.urandom(16), 3: verdict}
    fds = more.pop("fds", ())
    a.update(more.pop("keys", {}))
    c.say(a, fds)
    return m, body, a[2]


def an_effect_waits_for_its_records():
    s = Server(plain(b"0123456789", status=201, headers=["Location: /y"]))
    p = policy(f"{{id: w, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.channel()
        ch.request("POST", f"http://a.example.com:{s.port}/x", headers=[("content-type", "text/plain"), ("idempotency-key", "theirs")], body=b"body" * 50000)
        m, fds = c.hear(PROPOSE)
        action, _ = dec(m[3])
        body = read_fd(fds[0])
        assert body == b"body" * 50000 and action[10] == hashlib.sha256(body).digest() and action[11] == len(body)
        assert not s.seen and ch.quiet()
        e = os.urandom(16)
        c.say({0: ANSWER, 1: m[1], 2: e, 3: WAITING})
        assert ch.quiet() and not s.seen
        c.say({0: ANSWER, 1: m[1], 2: e, 3: SEND, 4: "Idempotency-Key", 5: "ours"})
        r, fds = c.hear(RESULT)
        assert r[2] == e and r[3] == CONFIRMED and r[4] == 201 and r[5] == [["location", b"/y"]], r
        assert read_fd(fds[0]) == b"0123456789" and r[8] == 10
        assert s.seen[0]["body"] == body and s.seen[0]["headers"]["idempotency-key"] == "ours"
        kind, _ = ch.frame()
        kind, part = ch.frame()
        assert kind == BODY and part == b"012345678" and ch.quiet(), part
        c.say({0: RELEASE, 1: e})
        assert ch.rest() == b"9"
        d, _ = c.hear(DELIVERED)
        assert d[1] == e
        # the next on the same connection, whose answer has no body: nothing of it goes inside before
        ch.request("DELETE", f"http://a.example.com:{s.port}/x")
        s.handle = plain(b"", status=204)
        m, body, e = effect(c, ch)
        c.hear(RESULT)
        assert body is None and ch.quiet()
        c.say({0: RELEASE, 1: e})
        assert ch.answer()[0] == 204
        c.hear(DELIVERED)
    s.close()


def an_effect_is_denied_or_replayed():
    s = Server(plain())
    p = policy(f"{{id: w, do: ask, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.channel()
        url = f"http://a.example.com:{s.port}/x"
        ch.request("POST", url, body=b"{}")
        effect(c, ch, DENY, keys={6: 403, 8: "w", 9: "a person said no", 10: "try b"})
        status, _, j = ch.answer()
        assert status == 403 and j == {"error": "denied", "rule": "w", "why": "a person said no", "hint": "try b"}, j
        big = os.urandom(1 << 20) * 3
        ch.request("POST", url, body=b"{}")
        fd = memfd(big)
        _, _, e = effect(c, ch, REPLAY, keys={6: 200, 7: [["x-a", b"b"]]}, fds=[fd])
        status, headers, body = ch.answer()
        assert status == 200 and headers == {"x-a": "b"} and body == big
        assert c.hear(DELIVERED)[0][1] == e
        assert not s.seen
    s.close()


def a_replay_that_cannot_be_read_to_its_end_ends_in_a_reset(certs):
    """It is cut for its client, whenever that shows: never said to be delivered, and nobody else suffers."""
    folder = os.path.dirname(certs.ca)
    s = Server(plain())
    p = policy(f"{{id: w, do: ask, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    url, big = f"http://a.example.com:{s.port}/x", bytes(4 << 20)
    with Courier(p) as c:
        c.attach()

        def replayed(fd):
            ch = c.channel()
            ch.request("POST", url, body=b"{}")
            m, _, _ = effect(c, ch, REPLAY, keys={6: 200, 7: [["x-a", b"b"]]}, fds=[fd])
            return ch, m[1]

        def cut(ch, number):
            got = 0
            while piece := ch.sock.recv(1 << 20):
                got += len(piece)
            assert got < len(big), got
            assert c.hear(CUT)[0][1] == number
            ch.close()

        path = os.path.join(folder, "blob")
        with open(path, "wb") as f:
            f.write(big)
        unreadable = os.open(path, os.O_WRONLY)
        for _ in range(3):
            cut(*replayed(unreadable))
        os.close(unreadable)
        short = memfd(big)
        ch, number = replayed(short)
        ch.frame()
        os.ftruncate(short, 0)  # while most of it waits for its reader
        cut(ch, number)
        os.close(short)
        whole = memfd(big)
        ch, _ = replayed(whole)
        os.close(whole)
        assert ch.answer()[2] == big
        c.hear(DELIVERED)
        c.silent()
    s.close()


def a_supervisor_that_comes_back_hears_all_that_is_open():
    go = threading.Event()

    def slow(r, conn):
        go.wait(10)
        conn.sendall(reply(b"done"))

    s = Server(slow)
    p = policy(f"{{id: w, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        first = c.attach()
        url = f"http://a.example.com:{s.port}/x"
        waits, sends = c.channel(), c.channel()
        waits.request("POST", url, body=b"1")
        m1, _ = c.hear(PROPOSE)
        sends.request("POST", url, body=b"2")
        _, _, e2 = effect(c, sends)
        while not s.seen:
            time.sleep(0.01)
        again = c.attach(tell=False)
        assert again[2] == first[2] and again[3] == [e2], again
        m, fds = c.hear(PROPOSE)
        assert m == m1 and read_fd(fds[0]) == b"1"
        go.set()
        r, _ = c.hear(RESULT)
        c.attach(tell=False)
        seen = {m[0]: m for m in (c.hear()[0], c.hear()[0])}
        assert seen[RESULT] == r and seen[PROPOSE] == m1
        c.say({0: RELEASE, 1: e2})
        assert sends.answer()[2] == b"done"
        assert c.hear(DELIVERED)[0][1] == e2
        c.say({0: ANSWER, 1: m1[1], 2: bytes(16), 3: DENY, 6: 403, 9: "no"})
        assert waits.answer()[0] == 403
    s.close()


def a_client_that_breaks_stops_nothing_that_was_sent():
    go = threading.Event()

    def slow(r, conn):
        go.wait(10)
        conn.sendall(reply(b"done"))

    s = Server(slow)
    p = policy(f"{{id: w, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        url = f"http://a.example.com:{s.port}/x"
        ch = c.channel()
        ch.request("POST", url, body=b"1")
        m, _ = c.hear(PROPOSE)
        ch.close()
        assert c.hear(CUT)[0][1] == m[1]
        e = os.urandom(16)
        c.say({0: ANSWER, 1: m[1], 2: e, 3: SEND})
        r, _ = c.hear(RESULT)
        assert r[3] == REFUSED_OUT and r[2] == e and not s.seen, r
        c.say({0: RELEASE, 1: e})
        ch = c.channel()
        ch.request("POST", url, body=b"2")
        m, _, e = effect(c, ch)
        while not s.seen:
            time.sleep(0.01)
        ch.close()
        assert c.hear(CUT)[0][1] == m[1]
        go.set()
        r, fds = c.hear(RESULT)
        assert r[3] == CONFIRMED and r[2] == e and read_fd(fds[0]) == b"done"
        c.say({0: RELEASE, 1: e})
        assert c.silent()
    s.close()


def half_an_answer_is_in_doubt_and_sent_again_when_told():
    answers = [b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n", b"", reply(b"done")]

    def half(r, conn):
        conn.sendall(answers.pop(0))
        return "close"

    s = Server(half)
    p = policy(f"{{id: w, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}",
               f"{{id: gone, do: allow, http: {{scheme: http, host: gone.example.com, port: 1}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        url = f"http://a.example.com:{s.port}/x"
        ch = c.channel()
        ch.request("POST", url, body=b"1")
        m, _, e = effect(c, ch)
        # part of it went inside: the client's connection is reset
        assert ch.frame()[0] == RESPONSE and ch.frame()[0] == ABORT
        seen = {m[0]: m for m in (c.hear()[0], c.hear()[0])}
        assert seen[CUT][1] == m[1] and seen[RESULT][3] == DOUBT, seen
        ch = c.channel()
        ch.request("POST", url, body=b"1")
        m, _, e = effect(c, ch)
        r, _ = c.hear(RESULT)
        assert r[3] == DOUBT and ch.quiet()
        c.say({0: ANSWER, 1: m[1], 2: e, 3: SEND})
        r, _ = c.hear(RESULT)
        assert r[3] == CONFIRMED
        c.say({0: RELEASE, 1: e})
        assert ch.answer()[2] == b"done"
        assert c.hear(DELIVERED)[0][1] == e
        # not one byte was sent: proof that it did not happen
        ch.request("POST", "http://gone.example.com:1/", body=b"1")
        m, _, e = effect(c, ch)
        r, _ = c.hear(RESULT)
        assert r[3] == REFUSED_OUT, r
        status, _, j = ch.answer()
        assert status == 502 and j["error"] == "unreachable", j
        c.say({0: RELEASE, 1: e})
    s.close()


SECRET = b"s3cr3t/+value=of-the-run"


def a_secret_goes_out_and_never_in(certs):
    chunks = []

    def echo(r, conn):
        body = b"".join(chunks)
        conn.sendall(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in chunks:
            conn.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(0.02)
        conn.sendall(b"0\r\n\r\n")
        return body

    s = Server(echo, tls=certs.sign("api.example.com"))
    p = policy(f"{{id: w, do: allow, http: {{host: api.example.com, port: {s.port}, method: [GET, HEAD, POST]}}, effect: read, secret: tok, {HERE}, ca: {certs.ca}}}",
               f"{{id: e, do: allow, http: {{host: api.example.com, port: {s.port}, method: PUT}}, secret: tok, {HERE}, ca: {certs.ca}}}",
               more="secrets:\n  tok: {from: {env: X}, to: [api.example.com], header: Authorization, format: '{basic:me}'}\n")
    url = f"https://api.example.com:{s.port}/"
    b64 = base64.b64encode
    forms = [SECRET, SECRET.hex().encode(), SECRET.hex().upper().encode(), b"%" + b"%".join(b"%02X" % x for x in SECRET), b64(SECRET),
             b64(b"a" + SECRET), b64(b"ab" + SECRET + b"c"), base64.urlsafe_b64encode(b"x" + SECRET), b64(b"me:" + SECRET),
             SECRET.replace(b"/", b"%2f").replace(b"+", b"%2B"), b"".join(b"\\u%04x" % x for x in SECRET),
             SECRET.replace(b"/", b"\\/"), b64(SECRET).replace(b"=", b"\\u003D")]
    with Courier(p, secrets=[("tok", SECRET)], ca=certs.ca) as c:
        c.attach()
        chunks[:] = [b"nothing here"]
        status, _, body = c.get(url, headers=[("authorization", "Bearer placeholder-tok"), ("accept-encoding", "gzip")]).answer()
        assert (status, body) == (200, b"nothing here")
        sent = s.seen[0]["headers"]
        assert sent["authorization"] == "Basic " + b64(b"me:" + SECRET).decode() and sent["accept-encoding"] == "identity", sent
        for form in forms:
            for cut in (0, 1, len(form) // 2):
                chunks[:] = [b"before " + form[:cut], form[cut:] + b" after"]
                if not cut:
                    chunks.insert(0, b"{}")
                status, headers, body = c.get(url).answer()
                assert status == 502 and json.loads(body)["error"] == "withheld", (form, cut, status, body)
        # long: begun inside, then reset, and the secret's first byte stayed out
        chunks[:] = [b"x" * 65536] * 40 + [SECRET]
        ch = c.get(url)
        assert ch.frame()[0] == RESPONSE
        got = b""
        while (f := ch.frame())[0] == BODY:
            got += f[1]
        assert f[0] == ABORT and SECRET[:4] not in got and len(got) >= 1 << 20, (f[0], len(got))
        # a stream of events goes inside as it comes, but for what may begin the secret
        def events(r, conn):
            conn.sendall(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n")
            go.wait(10)
            conn.sendall(b"5\r\n" + SECRET[:5] + b"\r\n")
            time.sleep(0.1)
            conn.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(SECRET) - 5, SECRET[5:]))

        go = threading.Event()
        s.handle = events
        ch = c.get(url)
        assert ch.frame()[0] == RESPONSE and ch.frame() == (BODY, b"data:1") and ch.quiet()
        go.set()
        assert ch.frame()[0] == ABORT
        s.handle = echo
        # in an effect's record neither
        chunks[:] = [SECRET]
        ch = c.channel()
        ch.request("PUT", url, body=b"1")
        _, _, e = effect(c, ch)
        r, fds = c.hear(RESULT)
        assert r[3] == CONFIRMED and r[4] == 502 and SECRET not in read_fd(fds[0]), r
        c.say({0: RELEASE, 1: e})
        assert ch.answer()[0] == 502
        c.hear(DELIVERED)
        # a header, and what cannot be looked through
        s.handle = lambda r, conn: conn.sendall(reply(b"", headers=["X-Echo: " + SECRET.decode()]))
        assert c.get(url).answer()[0] == 502
        s.handle = lambda r, conn: conn.sendall(reply(b"zzzz", headers=["Content-Encoding: gzip"]))
        assert c.get(url).answer()[0] == 502
        s.handle = lambda r, conn: conn.sendall(reply(b"zzzz", headers=["Content-Encoding: identity", "Content-Encoding: gzip"]))
        assert c.get(url).answer()[0] == 502
        assert SECRET not in c.log_text().encode() and str(c.reads).find("s3cr3t") < 0
    s.close()


def no_private_and_no_own_address_is_dialled():
    s = Server(plain())
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: '*.example.com', port: {s.port}}}}}",
               f"{{id: in, do: allow, http: {{scheme: http, host: in.example.org, port: {s.port}}}, address: [127.0.0.0/8]}}",
               f"{{id: out, do: allow, http: {{scheme: http, host: out.example.org, port: {s.port}}}, address: [10.0.0.0/8]}}")
    dns = Dns("127.0.0.1")
    with Courier(p) as c:
        c.attach(tell=False)
        c.say({0: SETTINGS, 1: f"127.0.0.1:{dns.port}"})
        c.tell()
        for name in ("a.example.com", "out.example.org"):
            status, _, j = c.get(f"http://{name}:{s.port}/").answer()
            assert status == 403 and j["error"] == "denied" and "127.0.0.1" in j["why"], j
        assert not s.connections
        assert c.get(f"http://in.example.org:{s.port}/").answer()[2] == b"hello\n"
        before = len(dns.seen)
        assert c.get(f"http://not.permitted.example.org:{s.port}/").answer()[0] == 403
        assert len(dns.seen) == before and set(dns.seen) == {"a.example.com", "out.example.org", "in.example.org"}, dns.seen
    s.close()


def an_answer_that_is_too_long_for_udp_is_asked_over_tcp():
    s = Server(plain())
    p = policy(f"{{id: in, do: allow, http: {{scheme: http, host: '*.example.org', port: {s.port}}}, address: [127.0.0.0/8]}}")
    long, mute = LongDns("127.0.0.1", 60), LongDns("127.0.0.1", 60, tcp=False)
    with Courier(p) as c:
        c.attach(tell=False)
        c.say({0: SETTINGS, 1: f"127.0.0.1:{long.port}"})
        c.tell()
        assert c.get(f"http://in.example.org:{s.port}/").answer()[2] == b"hello\n"
        assert {struct.unpack(">H", q[-4:-2])[0] for q in long.tcp} == {1, 28} and len(long.tcp) == 2, long.tcp
        assert all(q[12:].lower().startswith(b"\2in\7example\3org\0") for q in long.tcp), long.tcp
        # one that does not speak TCP, and then another that does
        c.say({0: SETTINGS, 1: f"127.0.0.1:{mute.port}"})
        status, _, j = c.get(f"http://no.example.org:{s.port}/").answer()
        assert status == 502 and "TCP" in j["why"], j
        c.say({0: SETTINGS, 1: f"127.0.0.1:{mute.port} 127.0.0.1:{long.port}"})
        for i in range(2):
            assert c.get(f"http://n{i}.example.org:{s.port}/").answer()[2] == b"hello\n"
        # a client that goes away meanwhile stops nothing
        c.get(f"http://gone.example.org:{s.port}/").close()
        assert c.get(f"http://last.example.org:{s.port}/").answer()[2] == b"hello\n"
    s.close()


def a_large_download_needs_no_memory():
    size = 1 << 30

    def large(r, conn):
        conn.sendall(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(1 << 20)
        for _ in range(size >> 20):
            conn.sendall(piece)

    s = Server(large)
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.get(f"http://a.example.com:{s.port}/")
        assert ch.frame()[0] == RESPONSE
        time.sleep(0.5)  # nobody reads: it must stop, not grow
        got, start = 0, time.time()
        buf = bytearray(1 << 20)
        while got < size + (size // 65536) * 8:
            n = ch.sock.recv_into(buf)
            assert n
            got += n
        peak = next(int(line.split()[1]) for line in open(f"/proc/{c.process.pid}/status") if line.startswith("VmHWM"))
        print(f"  1 GiB in {time.time() - start:.1f} s, peak {peak} kB", file=sys.stderr)
        assert peak < 64 * 1024 or "asan" in COURIER, peak
    s.close()


def streams_are_passed_both_ways():
    def upper(conn):
        while data := conn.recv(65536):
            conn.sendall(data.upper())
        conn.sendall(b"bye")
        conn.close()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: [upper(listener.accept()[0]) for _ in range(2)], daemon=True).start()
    port = listener.getsockname()[1]
    p = policy(f"{{id: t, do: allow, tcp: {{host: db.example.com, port: {port}}}, {HERE}}}",
               f"{{id: no, do: deny, tcp: {{host: db.example.com, port: 1}}}}")
    with Courier(p) as c:
        c.attach()
        ch = c.channel()
        ch.send(TUNNEL, enc({1: "db.example.com", 2: 1}))
        assert ch.answer()[0] == 403
        ch.close()
        ch = c.channel()
        ch.send(TUNNEL, enc({1: "db.example.com", 2: port}))
        m, _, e = effect(c, ch)
        assert dec(m[3])[0] == {1: 3, 3: "tcp", 4: "db.example.com", 5: port}
        assert ch.frame()[0] == TUNNEL_OPEN
        ch.send(DATA, b"abc")
        assert ch.frame() == (DATA, b"ABC")
        ch.send(DATA_END)
        assert ch.frame() == (DATA, b"bye")
        assert ch.frame()[0] == DATA_END
        r, _ = c.hear(RESULT)
        assert r[3] == CONFIRMED and r[7] == 3 and r[8] == 6, r
        c.say({0: RELEASE, 1: e})
        assert c.hear(DELIVERED)[0][1] == e
        ch.close()
        # a client that goes: nothing is left open
        ch = c.channel()
        ch.send(TUNNEL, enc({1: "db.example.com", 2: port}))
        m, _, e = effect(c, ch)
        assert ch.frame()[0] == TUNNEL_OPEN
        ch.close()
        assert c.hear(RESULT)[0][3] == CONFIRMED
        c.say({0: RELEASE, 1: e})
        c.hear(DELIVERED)
    listener.close()


def a_websocket_is_opaque_once_it_is_open():
    def upgrade(r, conn):
        key = r["headers"]["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        if r["line"].split()[1] == "/bad":
            accept = "AAAA"
        conn.sendall(f"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\nhi".encode())
        while data := r["file"].read1(100):
            conn.sendall(data[::-1])
        return "close"

    s = Server(upgrade)
    p = policy(f"{{id: w, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        url = f"http://a.example.com:{s.port}/"
        ch = c.channel()
        ch.request("GET", url, websocket=True)
        _, _, e = effect(c, ch)
        kind, body = ch.frame()
        assert kind == RESPONSE and dec(body)[0][1] == 101
        assert ch.frame() == (DATA, b"hi")
        ch.send(DATA, b"abc")
        assert ch.frame() == (DATA, b"cba")
        ch.close()
        r, _ = c.hear(RESULT)
        assert r[3] == CONFIRMED and r[4] == 101, r
        c.say({0: RELEASE, 1: e})
        c.hear(DELIVERED)
        ch = c.channel()
        ch.request("GET", url + "bad", websocket=True)
        _, _, e = effect(c, ch)
        assert c.hear(RESULT)[0][3] == DOUBT
        ch.close()
        c.hear(CUT)
    s.close()


def budgets_and_rates_end_in_429():
    s = Server(plain())
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}, rate: {{count: 2, per: 1h}}}}",
               f"{{id: b, do: allow, http: {{scheme: http, host: b.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p, limits={3: 3}) as c:
        c.attach()
        got = [c.get(f"http://a.example.com:{s.port}/").answer()[0] for _ in range(3)]
        got += [c.get(f"http://b.example.com:{s.port}/").answer()[0] for _ in range(2)]
        assert got == [200, 200, 429, 200, 429], got
    s.close()


def bad_answers_of_a_server_are_502():
    bad = [b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"nonsense\r\n\r\n",
           b"HTTP/1.1 200 X\r\nA : b\r\n\r\n", b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b""]
    s = Server(lambda r, conn: (conn.sendall(bad[int(r["line"].split()[1][1:])]), "close")[1])
    p = policy(f"{{id: r, do: allow, http: {{scheme: http, host: a.example.com, port: {s.port}}}, {HERE}}}")
    with Courier(p) as c:
        c.attach()
        for i in range(len(bad)):
            status, _, j = c.get(f"http://a.example.com:{s.port}/{i}").answer()
            assert status == 502 and j["error"] in ("malformed", "broken"), (i, j)
        s.handle = lambda r, conn: conn.sendall(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + reply(b"ok"))
        assert c.get(f"http://a.example.com:{s.port}/").answer()[2] == b"ok"
        s.handle = lambda r, conn: conn.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 7\r\n\r\n")
        ch = c.channel()
        ch.request("HEAD", f"http://a.example.com:{s.port}/")
        kind, body = ch.frame()
        assert kind == RESPONSE and dec(body)[0][3] == 7 and ch.quiet()
        # a gate that talks nonsense loses its channel, and nobody else does
        broken = c.channel()
        broken.sock.sendall(b"\xff" * 64)
        assert broken.sock.recv(1) == b""
        assert c.get(f"http://a.example.com:{s.port}/").frame()[0] == RESPONSE
    s.close()


TESTS = [plain_reads_go_by_themselves, what_the_gate_refused_while_no_supervisor_hears_it_is_counted,
         all_of_an_attempt_is_told_before_its_end,
         what_a_supervisor_that_does_not_read_has_not_recorded_is_not_done, a_host_of_before_keeps_no_host_of_now_out_of_the_pool,
         what_no_rule_covers_is_refused_in_words, upstream_tls_is_verified, an_effect_waits_for_its_records,
         an_effect_is_denied_or_replayed, a_replay_that_cannot_be_read_to_its_end_ends_in_a_reset,
         a_supervisor_that_comes_back_hears_all_that_is_open,
         a_client_that_breaks_stops_nothing_that_was_sent, half_an_answer_is_in_doubt_and_sent_again_when_told,
         a_secret_goes_out_and_never_in, no_private_and_no_own_address_is_dialled,
         an_answer_that_is_too_long_for_udp_is_asked_over_tcp, a_large_download_needs_no_memory,
         streams_are_passed_both_ways, a_websocket_is_opaque_once_it_is_open, budgets_and_rates_end_in_429,
         bad_answers_of_a_server_are_502]


def lo_up():
    SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
    with socket.socket() as s:
        req = fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", struct.unpack("16sh14x", req)[1] | IFF_UP))


def main():
    if "HOLDFAST_IN_NETNS" not in os.environ:
        os.environ["HOLDFAST_IN_NETNS"] = "1"
        flags = ["--net"] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps", "--net"]
        os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])
    lo_up()
    certs = Certs(tempfile.mkdtemp())
    try:
        for t in TESTS:
            if sys.argv[3:] and t.__name__ not in sys.argv[3:]:
                continue
            print(t.__name__, file=sys.stderr, flush=True)
            t(*([certs] if t.__code__.co_argcount else []))
    finally:
        shutil.rmtree(certs.dir)


if __name__ == "__main__":
    COURIER, ENCODER = sys.argv[1:3]
    main()
