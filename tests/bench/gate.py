"""gate: an HTTP client in a sandbox, through gate and courier, beside the same client without anything between, and with mitmproxy
and squid (ssl-bump) as its proxies. All of it on the loopback of a network namespace of its own, one nginx for everybody."""
import json
import os
import queue
import random
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from daemon import Daemon, Refused
from figures import Row, Table

HERE, NAMES = "10.77.0.1", "10.77.0.53"
HOST = "www.acme.example"
SQUID_PORT, MITM_PORT, EFFECTS_PORT = 3128, 8080, 8081
CONNECTIONS = 16
SMALL, LARGE_MIB = 1024, 64
IDLE, SMOKE_IDLE = 1000, 20
READY_S, ANSWER_S = 30, 180
CERTGEN = "/usr/lib/squid/security_file_certgen"
POLICY = """
version: 1
name: bench
extends: [offline]
agency: assist
fs:
  - {{path: {folder}, access: rw}}
net:
  - {{id: tls, do: allow, http: {{host: www.acme.example, method: [GET]}}, effect: read, address: [10.77.0.0/24], ca: {folder}/ca.pem}}
  - {{id: plain, do: allow, http: {{scheme: http, host: www.acme.example, method: [GET]}}, effect: read, address: [10.77.0.0/24]}}
  - {{id: other, do: allow, http: {{scheme: http, host: www.acme.example, port: 8081, method: [GET]}}, effect: read,
     address: [10.77.0.0/24]}}
  - {{id: effect, do: allow, http: {{scheme: http, host: www.acme.example, port: 8081, method: [PUT]}}, effect: reversible,
     undo: {{text: nothing}}, address: [10.77.0.0/24]}}
  - {{id: asked, do: ask, http: {{scheme: http, host: www.acme.example, port: 8081, method: [POST]}}, effect: irreversible,
     address: [10.77.0.0/24]}}
limits: {{wall: 1h}}
"""
NGINX = """
daemon off; master_process off; pid {f}/nginx.pid; error_log {f}/nginx.log;
events {{ worker_connections 8192; }}
worker_rlimit_nofile 16384;
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; sendfile on;
  client_body_temp_path {f}/t1; proxy_temp_path {f}/t2; fastcgi_temp_path {f}/t3; uwsgi_temp_path {f}/t4; scgi_temp_path {f}/t5;
  server {{
    listen 10.77.0.1:443 ssl backlog=4096; listen 10.77.0.1:80 backlog=4096;
    ssl_certificate {f}/server.pem; ssl_certificate_key {f}/server.key; root {f}/www;
  }}
}}
"""
SQUID = """
http_port 10.77.0.1:3128 ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={f}/ca.pem tls-key={f}/ca.key
sslcrtd_program {certgen} -s {f}/certs -M 4MB
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
tls_outgoing_options cafile={f}/ca.pem
http_access allow all
cache deny all
access_log none
cache_log {f}/squid.log
pid_filename {f}/squid.pid
dns_nameservers 10.77.0.53
max_filedescriptors 16384
shutdown_lifetime 0 seconds
{user}
"""


# ---- the tables, made by who has the network namespace


class Way:
    """How one row's client comes to the server. ask(words) -> the line that it prints."""

    def __init__(self, name, note, ask, address, proxy=(), pids=None, must=False):
        self.name, self.note, self.ask, self.address, self.proxy = name, note, ask, address, proxy
        self.pids, self.must, self.failed = pids or (lambda: []), must, None

    def words(self, tls, path, connections, requests, how):
        return [HOST, self.address, "443" if tls else "80", "tls" if tls else "plain", path, str(connections), str(requests), how,
                *self.proxy]


class Direct:
    def __init__(self, program):
        self.program, self.held = program, None

    def __call__(self, words):
        p = subprocess.Popen([self.program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = p.stdout.readline()
        if words[7] == "hold":
            self.held = p
        else:
            p.wait(ANSWER_S)
        return line

    def release(self):
        self.held.communicate("\n")


class Inside:
    """A step that does, in one sandbox, what its pipe says."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("cmd", "out"):
            os.mkfifo(folder / name)
            os.chmod(folder / name, 0o666)
        self.fds = [os.open(folder / n, os.O_RDWR) for n in ("cmd", "out")]  # neither end of a pipe is ever the last

    def argv(self):
        return ["/bin/sh", "-c", 'while read -r line; do "$0"/load $line; done <"$0"/cmd >"$0"/out', str(self.folder)]

    def __call__(self, words):
        os.write(self.fds[0], (" ".join(words) + "\n").encode())
        line, until = b"", time.monotonic() + ANSWER_S
        while not line.endswith(b"\n"):
            if not select.select([self.fds[1]], [], [], max(0, until - time.monotonic()))[0]:
                return f"failed: no answer in {ANSWER_S} s"
            line += os.read(self.fds[1], 65536)
        return line.decode()

    def release(self):
        os.write(self.fds[0], b"\n")
        time.sleep(0.2)


class Measure:
    """One table: so many rounds of each way, in an order drawn anew each time."""

    def __init__(self, name, tls, path, connections, requests, how, unit=None, scale=1):
        self.name, self.tls, self.path, self.connections = name, tls, path, connections
        self.requests, self.how, self.unit, self.scale = requests, how, unit, scale

    def run(self, ways, rounds):
        kind = "inspected" if self.tls else "plain"
        rows = {w.name: Row(w.name, w.note, must=w.must, base=w.name == "direct") for w in ways}
        table = Table(f"gate, {kind}: {self.name}", rounds, list(rows.values()), self.unit)
        spent = {w.name: {} for w in ways}
        for _ in range(rounds):
            for way in random.sample(ways, len(ways)):
                row = rows[way.name]
                if row.left_out or way.failed:
                    row.left_out = row.left_out or way.failed
                    continue
                words = way.words(self.tls, self.path, self.connections, self.requests, self.how)
                before = cpu_us(way.pids())
                line = way.ask(words).strip()
                for pid, us in cpu_us(way.pids()).items():
                    spent[way.name][pid] = spent[way.name].get(pid, 0) + us - before.get(pid, 0)
                if not line or line.startswith("failed"):
                    row.left_out = line or "failed: it said nothing"
                elif self.connections == 1 and not self.unit:
                    for ns in line.split()[3:]:
                        row.add(int(ns))
                else:
                    took, done, *_ = map(int, line.split())
                    row.add(took, done * self.scale)
        for way in ways if self.unit == "requests" else []:
            done = rows[way.name].count
            said = [f"{name_of(pid)} {us / done:.0f}" for pid, us in spent[way.name].items() if us] if done else []
            if said:
                table.lines.append(f"{way.name}: CPU us a request: {', '.join(said)}")
        return table


def name_of(pid):
    return Path(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0].strip("()")).name


def cpu_us(pids):
    tick = 1000000 // os.sysconf("SC_CLK_TCK")
    fields = {p: Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split() for p in pids}
    return {p: (int(f[11]) + int(f[12])) * tick for p, f in fields.items()}


def resident_kib(pids):
    total = 0
    for pid in pids:
        total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
    return total


def children(pid):
    out = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            out.append(int(stat.parent.name))
    return out


def idle(ways, count):
    """Resident memory of what stands between, before and while connections are open that asked once."""
    lines = []
    for way in ways:
        pids = way.pids()
        if not pids or way.failed:
            continue
        before = resident_kib(pids)
        said = way.ask(way.words(True, "/small", count, count, "hold")).strip()
        time.sleep(0.5)
        after = resident_kib(way.pids())
        way.ask.release()
        lines.append(f"{way.name}: {said}" if said.startswith("failed") else
                     f"{way.name}: {before / 1024:.1f} MiB before, {(after - before) / 1024 * 1000 / count:.1f} MiB more a 1,000 connections")
    return lines


class Effects(threading.Thread):
    """A server that says when a request came."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server((HERE, EFFECTS_PORT))
        self.came = queue.SimpleQueue()
        self.start()

    def run(self):
        while True:
            threading.Thread(target=self.serve, args=self.listener.accept()[:1], daemon=True).start()

    def serve(self, c):
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while data := c.recv(65536):
            if not head:
                self.came.put(time.monotonic_ns())
            head += data
            if b"\r\n\r\n" in head:
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                head = b""


def sync_us(folder, n):
    """The middle one of so many syncs of a page that was added to a file."""
    took = []
    with open(folder / "syncs", "ab", buffering=0) as f:
        for _ in range(n):
            f.write(os.urandom(4096))
            start = time.monotonic_ns()
            os.fdatasync(f.fileno())
            took.append(time.monotonic_ns() - start)
    return sorted(took)[n // 2] / 1000


def ask_and_approve(inside, words, connection, server, row):
    """From the vote's first byte to the request's at the server."""
    said = threading.Thread(target=lambda: row.__setattr__("answer", inside(words)))
    said.start()
    end = time.monotonic() + READY_S
    while not (items := connection.call("GET", "/v1/approvals?max=1")["approvals"]):
        if time.monotonic() > end:
            raise Refused("an effect that is asked about does not wait")
        time.sleep(0.002)
    time.sleep(0.02)  # whoever made the card is done
    while not server.came.empty():
        server.came.get()
    start = time.monotonic_ns()
    connection.call("POST", f"/v1/approvals/{items[0]['approval']}/vote",
                    {"decision": "approve", "card_digest": items[0]["card_digest"]})
    row.add(server.came.get(timeout=READY_S) - start)
    said.join()


def measure_effects(inside, connection, folder, rounds, smoke):
    server = Effects()
    n = 16 if smoke else 400
    read, effect = Row("read", "allowed, reported in batches", must=True, base=True), Row("effect", "RESERVED and CONFIRMED", must=True)
    vote = Row("vote to release", "approve sent, to the first byte at the server", must=True)
    table = Table("gate, effects: one at a time", max(1, rounds // 30), [read, effect, vote])

    def words(method, count):
        return [HOST, "-", str(EFFECTS_PORT), "plain", f"{method}:/x", "1", str(count), "keep"]

    for row, method in ((read, "GET"), (effect, "PUT")):
        inside(words(method, 1))
        line = inside(words(method, n)).strip()
        if line.startswith("failed"):
            row.left_out = line
            continue
        for ns in line.split()[3:]:
            row.add(int(ns))
    for _ in range(3 if smoke else 30):
        ask_and_approve(inside, words("POST", 1), connection, server, vote)
    if read.samples and effect.samples:
        more = (effect.summary()["median"] - read.summary()["median"]) / 1000
        table.lines.append(f"an effect costs {more:,.0f} us more than a read; a sync here takes {sync_us(folder, n):,.0f} us")
    return table


class World:
    def __init__(self, build, folder):
        self.build, self.folder, self.processes = Path(build), Path(folder), []
        self.log = open(self.folder / "log", "ab")

    def holdfastd(self):
        return str(self.build / "tools" / "holdfastd")

    def call(self, *argv):
        subprocess.run(argv, check=True, stdout=self.log, stderr=self.log)

    def serve(self, *argv):
        self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.folder))
        return self.processes[-1]

    def close(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.log.close()

    def listens(self, port):
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            try:
                socket.create_connection((HERE, port), 1).close()
                return True
            except OSError:
                time.sleep(0.1)
        return False

    def servers(self):
        f = self.folder
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.call("openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=bench", "-keyout", f"{f}/ca.key", "-out", f"{f}/ca.pem")
        self.call("openssl", "req", "-new", *key, "-subj", f"/CN={HOST}", "-keyout", f"{f}/server.key", "-out", f"{f}/server.csr")
        (f / "san").write_text(f"subjectAltName=DNS:{HOST}\n")
        self.call("openssl", "x509", "-req", "-in", f"{f}/server.csr", "-CA", f"{f}/ca.pem", "-CAkey", f"{f}/ca.key",
                  "-CAcreateserial", "-days", "2", "-extfile", f"{f}/san", "-out", f"{f}/server.pem")
        (f / "www").mkdir()
        (f / "www" / "small").write_bytes(b"x" * SMALL)
        (f / "www" / "large").write_bytes(os.urandom(1 << 20) * LARGE_MIB)
        os.chmod(f / "www", 0o755)
        (f / "nginx.conf").write_text(NGINX.format(f=f) if os.geteuid() else "user root;" + NGINX.format(f=f))
        self.serve("nginx", "-c", f"{f}/nginx.conf", "-e", f"{f}/nginx.log")
        self.serve("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-daemon",
                   f"--listen-address={NAMES}", "--bind-interfaces", f"--address=/acme.example/{HERE}", "--user=", "--group=",
                   "--pid-file=")
        if not self.listens(443):
            raise Refused("nginx does not start: " + (f / "nginx.log").read_text()[-200:])

    def mitmproxy(self):
        way = Way("mitmproxy", "python", Direct(str(self.folder / "load")), HERE, (HERE, str(MITM_PORT)))
        if not shutil.which("mitmdump"):
            way.failed = "not installed"
            return way
        confdir = self.folder / "mitm"
        confdir.mkdir()
        p = self.serve("mitmdump", "-q", "--listen-host", HERE, "-p", str(MITM_PORT), "--set", f"confdir={confdir}", "--set",
                       f"ssl_verify_upstream_trusted_ca={self.folder}/ca.pem", "--set", "stream_large_bodies=1m")
        way.pids = lambda: [p.pid]
        if not self.listens(MITM_PORT):
            way.failed = "does not start"
        return way

    def squid(self):
        way = Way("squid", "ssl-bump, cache off", Direct(str(self.folder / "load")), "-", (HERE, str(SQUID_PORT)))
        f = self.folder / "squid"
        if not shutil.which("squid") or not os.path.exists(CERTGEN):
            way.failed = "not installed (with ssl-bump: squid-openssl)"
            return way
        f.mkdir()
        for name in ("ca.pem", "ca.key"):
            shutil.copy(self.folder / name, f / name)
        self.call(CERTGEN, "-c", "-s", f"{f}/certs", "-M", "4MB")
        user = ""
        if os.geteuid() == 0:
            user = "cache_effective_user proxy"
            self.call("chown", "-R", "proxy:proxy", f)
        (self.folder / "squid.conf").write_text(SQUID.format(f=f, certgen=CERTGEN, user=user))
        p = self.serve("squid", "-N", "-f", f"{self.folder}/squid.conf")
        way.pids = lambda: [p.pid, *children(p.pid)]
        if not self.listens(SQUID_PORT):
            way.failed = "does not start"
        return way


def measure_in(world, rounds, smoke):
    shutil.copy(world.build / "tests" / "bench" / "bench-load", world.folder / "load")
    os.chmod(world.folder, 0o755)
    world.servers()
    (world.folder / "home").mkdir()
    config = world.folder / "config" / "holdfast"
    config.mkdir(parents=True)
    (config / "config.yaml").write_text(f"version: 1\nresolver: [{NAMES}]\n")
    os.environ.update(XDG_CONFIG_HOME=str(config.parent), HOME=str(world.folder / "home"))
    workspace = world.folder / "workspace"
    workspace.mkdir()
    shared = world.folder / "shared"
    shared.mkdir()
    shutil.copy(world.folder / "load", shared / "load")
    shutil.copy(world.folder / "ca.pem", shared / "ca.pem")
    inside = Inside(shared)
    with Daemon(world, world.folder / "state") as daemon:
        policy = os.memfd_create("policy")
        os.write(policy, POLICY.format(folder=shared).encode())
        os.lseek(policy, 0, os.SEEK_SET)
        run = daemon.create({"exec": {"argv": inside.argv()}, "policy_path": "bench.yaml"}, workspace, fds=[("policy", policy)])
        keeper = daemon.connection.call("GET", "/v1/daemon")["keeper"]

        def helpers():
            return [p for p in children(keeper)
                    if Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[0].endswith((b"gate", b"courier"))]

        ways = [Way("direct", "nothing between", Direct(str(world.folder / "load")), HERE, must=True),
                Way("holdfast", "gate and courier", inside, "-", pids=helpers, must=True), world.mitmproxy(), world.squid()]
        try:
            return [*measure_ways(ways, rounds, smoke),
                    measure_effects(inside, daemon.connection, world.folder, rounds, smoke)]
        finally:
            daemon.connection.call("POST", f"/v1/runs/{run}/cancel", {})


def measure_ways(ways, rounds, smoke):
    n = 64 if smoke else 2000
    for way in ways:
        if not way.failed:
            way.ask(way.words(True, "/small", 1, 1, "keep"))
    held = idle(ways, SMOKE_IDLE if smoke else IDLE)
    tables = []
    for tls in (True, False):
        tables += [m.run(ways, r) for m, r in (
            (Measure("one request at a time, kept connection", tls, "/small", 1, n // 4, "keep"), max(1, rounds // 30)),
            (Measure("one request at a time, new connections", tls, "/small", 1, n // 16, "close"), max(1, rounds // 30)),
            (Measure(f"{n} requests, {CONNECTIONS} kept connections", tls, "/small", CONNECTIONS, n, "keep", "requests"),
             max(1, rounds // 15)),
            (Measure(f"{n // 4} requests, {CONNECTIONS} at a time, new connections", tls, "/small", CONNECTIONS, n // 4, "close",
                     "requests"), max(1, rounds // 15)),
            (Measure(f"a body of {LARGE_MIB} MiB", tls, "/large", 1, 1, "keep", "MiB", LARGE_MIB), max(1, rounds // 30)))]
    tables[0].lines += held
    return tables


# ---- the part of bench.py, which has no network namespace


def measure(bench):
    needed = [t for t in ("nginx", "dnsmasq", "ip", "openssl") if not shutil.which(t, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if needed:
        print(f"\ngate: left out: not installed: {' '.join(needed)}")
        return
    folder = bench.folder / "gate"
    folder.mkdir()
    space = ["unshare", "--net"] if bench.root else ["unshare", "--user", "--map-current-user", "--keep-caps", "--net"]
    r = subprocess.run([*space, sys.executable, "-B", os.path.abspath(__file__), str(bench.build), str(folder), str(bench.rounds),
                        "smoke" if bench.smoke else "full"], stdout=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        raise RuntimeError(f"gate: exit {r.returncode}")
    for t in json.loads(r.stdout):
        table = Table(t["name"], t["rounds"], [], t["unit"])
        for held in t["rows"]:
            row = Row("", "")
            vars(row).update(held)
            table.rows.append(row)
        table.lines = t["lines"]
        yield table


def main():
    build, folder, rounds, kind = sys.argv[1:]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    subprocess.run(f"ip link set lo up && ip addr add {HERE}/32 dev lo && ip addr add {NAMES}/32 dev lo && "
                   "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start", shell=True, check=True)
    world = World(build, folder)
    try:
        tables = measure_in(world, int(rounds), kind == "smoke")
    finally:
        world.close()
    json.dump([{"name": t.name, "rounds": t.rounds, "unit": t.unit, "lines": t.lines, "rows": [vars(r) for r in t.rows]}
               for t in tables], sys.stdout)


if __name__ == "__main__":
    main()
