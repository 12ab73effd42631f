"""Programs as people have them, in a sandbox, against real servers: what the policy grants works unmodified, what it does
not grant fails with a reason, and nothing else leaves.

All of it happens in a network namespace that this test made: the servers stand on 10.77.0.1 of its loopback, dnsmasq
answers for acme.example on 10.77.0.53, and a raw socket sees every packet of the namespace.
"""

import contextlib
import glob
import http.server
import json
import os
import re
import pwd
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
import supervised  # noqa: E402

HERE, NAMES = "10.77.0.1", "10.77.0.53"
HOLDFAST = os.path.join(supervised.BUILD, "tools", "holdfast")
CLIENT = os.path.join(supervised.BUILD, "tests", "integration", "static_client")
TOOLS = ("nginx", "fcgiwrap", "dnsmasq", "ip", "curl", "wget", "git", "openssl")
os.environ["PATH"] += ":/usr/sbin:/sbin"

POLICY = """
version: 1
name: network
extends: [offline]
agency: assist
env: {{keep: [PATH]}}
net:
  - {{id: web, do: allow, http: {{host: [www.acme.example, registry.acme.example], method: [GET, HEAD]}}, {local}}}
  - {{id: wild, do: allow, http: {{host: "*.pkgs.acme.example", method: [GET]}}, {local}}}
  - {{id: fenced, do: allow, http: {{host: fenced.acme.example, method: [GET]}}, effect: read, {local},
      except: [{{host: fenced.acme.example, path: /admin/**}}]}}
  - {{id: grave, do: allow, http: {{host: fenced.acme.example, method: [GET], path: /pay}}, effect: irreversible, {local}}}
  - {{id: plain, do: allow, http: {{scheme: http, host: plain.acme.example, method: [GET]}}, address: [10.77.0.0/24]}}
  - {{id: secret, do: allow, http: {{host: api.acme.example, method: [GET]}}, secret: token, {local}}}
  - {{id: fetch, do: allow, git: {{remote: "https://git.acme.example/git/app.git", op: fetch}}, {local}}}
  - {{id: push, do: allow, git: {{remote: "https://git.acme.example/git/app.git", op: push,
      refs: ["refs/heads/agent/*"]}}, effect: reversible, {local}}}
  - {{id: db, do: allow, tcp: {{host: db.acme.example, port: 5432}}, effect: read, address: [10.77.0.0/24]}}
  - {{id: elsewhere, do: allow, http: {{host: outside.acme.example}}, ca: {ca}}}
secrets:
  token: {{from: {{file: {root}/token}}, to: [api.acme.example], header: Authorization, format: "Bearer {{}}", env: API_TOKEN}}
limits: {{wall: 2m, memory: 2GiB}}
allow_weaker: [memory, cpu, landlock]
"""

NGINX = """
daemon off;
master_process off;
pid {root}/nginx.pid;
error_log {root}/nginx.log;
events {{}}
http {{
  access_log {root}/access.log;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  default_type text/plain;
  server {{
    listen 10.77.0.1:443 ssl;
    listen 10.77.0.1:80;
    ssl_certificate {root}/server.pem;
    ssl_certificate_key {root}/server.key;
    root {root}/www;
    location = /whoami {{ return 200 "$host $http_authorization\\n"; }}
    location = /left-pad {{ default_type application/json; try_files /left-pad/index.html =404; }}
    location = /@acme/pad {{ default_type application/json; try_files /@acme/pad/index.html =404; }}
    location = /elsewhere {{ return 302 https://nowhere.example/; }}
    location ~ ^/open {{ return 200 "open\\n"; }}
    location = /post {{ return 200 "posted\\n"; }}
    location ~ ^/git(/.*)$ {{
      include /etc/nginx/fastcgi_params;
      fastcgi_pass unix:{root}/fcgi;
      fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT {root}/git;
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param PATH_INFO $1;
      fastcgi_param REMOTE_USER agent;
    }}
  }}
}}
"""


class Capture(threading.Thread):
    """What a raw socket on every interface of the namespace sees: (protocol, address, port), and names that were asked."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.sock.settimeout(0.2)
        self.seen, self.names, self.over = set(), set(), False

    def run(self):
        while not self.over:
            with contextlib.suppress(TimeoutError):
                self.look(self.sock.recv(65536))

    def look(self, packet):
        if packet[0] >> 4 == 6:
            self.seen.add(("ip6", socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
            return
        head = (packet[0] & 15) * 4
        to, inner = socket.inet_ntoa(packet[16:20]), packet[head:]
        if packet[9] == 6 and inner[13] & 18 == 2:  # SYN
            self.seen.add(("tcp", to, struct.unpack("!H", inner[2:4])[0]))
        elif packet[9] == 17:
            port = struct.unpack("!H", inner[2:4])[0]
            if struct.unpack("!H", inner[:2])[0] == 53:
                return  # an answer
            self.seen.add(("udp", to, port))
            if port == 53:
                self.names.add(self.name(inner[8 + 12:]))
        elif packet[9] not in (6, 17):
            self.seen.add((f"protocol {packet[9]}", to, 0))

    @staticmethod
    def name(question):
        labels = []
        while question[0]:
            labels.append(question[1:1 + question[0]].decode("latin-1"))
            question = question[1 + question[0]:]
        return ".".join(labels).lower()

    def stop(self):
        time.sleep(0.3)
        self.over = True
        self.join()
        self.sock.close()


class World:
    """Servers, a supervisor, a workspace."""

    def __init__(self, policy=POLICY):
        self.s = supervised.Supervised()
        self.root = self.s.root
        self.processes = []
        self.policy_text = policy

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.s.stop()
        finally:
            for p in self.processes:
                p.terminate()
            for p in self.processes:
                p.wait()
            self.s.clean()

    def path(self, *names):
        return os.path.join(self.root, *names)

    def write(self, name, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def call(self, *argv, **more):
        r = subprocess.run(argv, capture_output=True, text=True, check=False, **more)
        assert r.returncode == 0, (argv, r.stdout, r.stderr)
        return r.stdout

    def serve(self, *argv, **more):
        self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.s.log, stderr=self.s.log, **more))

    def build(self):
        os.chmod(self.root, 0o755)
        self.certificates()
        self.files()
        self.repository()
        self.write("nginx.conf", NGINX.format(root=self.root))
        self.serve("nginx", "-c", self.path("nginx.conf"), "-e", self.path("nginx.log"))
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as fcgi:
            fcgi.bind(self.path("fcgi"))
            fcgi.listen(64)
            subprocess_in = fcgi.fileno()
            self.processes.append(subprocess.Popen(["fcgiwrap"], stdin=subprocess_in, stdout=self.s.log, stderr=self.s.log))
        self.serve("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-daemon",
                   f"--listen-address={NAMES}", "--bind-interfaces", f"--address=/acme.example/{HERE}",
                   "--address=/outside.acme.example/203.0.113.7", "--user=", "--group=", "--pid-file=")
        self.write("home/.config/holdfast/config.yaml", f"version: 1\nresolver: [{NAMES}]\n")
        self.write("token", "s3cret-t0ken\n", 0o600)
        self.policy = self.write("policy.yaml", self.policy_text.format(
            root=self.root, ca=self.path("ca.pem"), local=f"address: [10.77.0.0/24], ca: {self.path('ca.pem')}"))
        for port in (443, 80):
            self.await_port(HERE, port)
        self.s.start()

    def await_port(self, address, port, seconds=15):
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((address, port), 1).close()
                return
            assert time.monotonic() < end, f"nothing listens on {address}:{port}\n{self.s.logged()}"
            time.sleep(0.05)

    def certificates(self):
        self.call("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                  "-subj", "/CN=Acme test root", "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"))
        self.call("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                  "/CN=acme.example", "-keyout", self.path("server.key"), "-out", self.path("server.csr"))
        self.write("san", "subjectAltName=DNS:*.acme.example,DNS:*.pkgs.acme.example\n")
        self.call("openssl", "x509", "-req", "-in", self.path("server.csr"), "-CA", self.path("ca.pem"), "-CAkey",
                  self.path("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", self.path("san"), "-out",
                  self.path("server.pem"))

    def files(self):
        self.write("www/hello", "hello from acme\n")
        self.write("www/big", "x" * (8 << 20))
        self.write("package/package.json", json.dumps({"name": "left-pad", "version": "1.0.0", "main": "i.js"}))
        self.write("package/i.js", "module.exports = () => 'padded';\n")
        os.makedirs(self.path("www/left-pad/-"))
        tarball = self.path("www/left-pad/-/left-pad-1.0.0.tgz")
        with tarfile.open(tarball, "w:gz") as t:
            t.add(self.path("package"), "package")
        self.write("www/left-pad/index.html", json.dumps({
            "name": "left-pad", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
                "name": "left-pad", "version": "1.0.0",
                "dist": {"tarball": "https://registry.acme.example/left-pad/-/left-pad-1.0.0.tgz"}}}}))
        os.makedirs(self.path("www/@acme/pad"))
        with open(self.path("www/left-pad/index.html")) as f:
            self.write("www/@acme/pad/index.html", f.read().replace('"name": "left-pad"', '"name": "@acme/pad"'))
        shutil.copy(CLIENT, os.path.join(self.s.workspace, "static_client"))

    def repository(self):
        bare, work = self.path("git/app.git"), self.path("seed")
        env = {**os.environ, "HOME": self.s.home, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
               "GIT_COMMITTER_EMAIL": "a@b"}
        self.call("git", "init", "-q", "--bare", "-b", "main", bare, env=env)
        self.call("git", "-C", bare, "config", "http.receivepack", "true", env=env)
        self.call("git", "init", "-q", "-b", "main", work, env=env)
        self.write("seed/file", "one\n")
        self.call("git", "-C", work, "add", "file", env=env)
        self.call("git", "-C", work, "commit", "-qm", "one", env=env)
        self.call("git", "-C", work, "push", "-q", bare, "main", env=env)

    def exec(self, *argv, policy=None, timeout=60, agency=None):
        command = [HOLDFAST, "--state", self.s.state, "exec", "--policy", policy or self.policy, "--workspace", self.s.workspace]
        if agency:
            command += ["--agency", agency]
        return subprocess.run([*command, "--", *argv], capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, env=self.s.environment({"PATH": "/usr/bin:/bin"}), cwd=self.s.workspace)

    def shell(self, script, **more):
        return self.exec("/bin/sh", "-c", script, **more)

    def good(self, *argv, **more):
        r = self.exec(*argv, **more)
        assert r.returncode == 0, f"{argv}: {r.returncode}\n{r.stdout}\n{r.stderr}\n{self.s.logged()}"
        return r.stdout

    def bad(self, *argv, **more):
        r = self.exec(*argv, **more)
        assert r.returncode != 0, f"{argv} went well:\n{r.stdout}\n{r.stderr}\n{self.s.logged()}"
        return r.stdout + r.stderr

    def end_embedded(self):
        """The supervisor that a command started in the place of one that was killed."""
        pid = self.s.get("/v1/daemon").json()["pid"]
        self.s.remember_keeper()
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 20
        while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < end:
            time.sleep(0.05)
        self.s.process = None

    def pids(self, name):
        """Of helpers that this world's keeper started."""
        keeper = self.s.remember_keeper()
        out = []
        for folder in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError), open(folder + "/stat") as f:
                fields = f.read()
                parent = int(fields.rsplit(")", 1)[1].split()[1])
                with open(folder + "/cmdline") as c:
                    if parent == keeper and c.read().split("\0")[0].endswith(name):
                        out.append(int(os.path.basename(folder)))
        return out


# ---- clients


def test_curl():
    with World() as w:
        assert w.good("curl", "-sS", "https://www.acme.example/hello") == "hello from acme\n"
        assert len(w.good("curl", "-sS", "https://www.acme.example/big")) == 8 << 20
        assert w.good("curl", "-sS", "http://plain.acme.example/hello") == "hello from acme\n"
        assert w.good("curl", "-sS", "https://one.pkgs.acme.example/hello") == "hello from acme\n"
        # a name that no rule has does not exist; a port that no rule has is refused
        assert "resolve" in w.bad("curl", "-sS", "https://nowhere.example/")
        assert "resolve" in w.bad("curl", "-sS", "https://a.b.pkgs.acme.example/")
        assert "onnect" in w.bad("curl", "-sS", "https://www.acme.example:8443/")
        assert "onnect" in w.bad("curl", "-sS", f"https://{HERE}/hello", "--max-time", "5")
        denied = w.good("curl", "-sS", "-X", "DELETE", "-w", "%{http_code}", "https://www.acme.example/hello")
        assert denied.endswith("403"), denied
        assert json.loads(denied[:-3])["error"] == "denied", denied
        # the name resolves to an address that no rule covers... and that is not dialled
        assert "203.0.113.7" not in w.bad("curl", "-sSf", "--max-time", "20", "https://outside.acme.example/")
        # where a redirect leads is decided anew
        assert "resolve" in w.bad("curl", "-sSL", "https://www.acme.example/elsewhere")


def test_wget():
    with World() as w:
        assert w.good("wget", "-qO-", "https://www.acme.example/hello") == "hello from acme\n"
        assert w.good("wget", "-qO-", "http://plain.acme.example/hello") == "hello from acme\n"
        assert "403" in w.bad("wget", "-O-", "--post-data=x", "https://www.acme.example/post")
        assert "resolve" in w.bad("wget", "-O-", "https://nowhere.example/")


def test_openssl_and_a_static_client():
    with World() as w:
        # the certificate is the run's, and the system's own files say so
        out = w.good("openssl", "s_client", "-connect", "www.acme.example:443", "-servername", "www.acme.example",
                     "-verify_return_error", "-verify_hostname", "www.acme.example")
        assert "Verify return code: 0 (ok)" in out and "Holdfast run" in out, out
        assert "Holdfast run" in w.shell("unset SSL_CERT_FILE; openssl s_client -CApath /etc/ssl/certs -connect "
                                         "www.acme.example:443 -servername www.acme.example -verify_return_error").stdout
        # a client that names another host in TLS than the one that it resolved
        w.bad("openssl", "s_client", "-connect", "www.acme.example:443", "-servername", "api.acme.example", "-verify_return_error")
        client = os.path.join(w.s.workspace, "static_client")
        assert w.good(client, "plain.acme.example", "80", "/hello").endswith("hello from acme\n")
        assert "dns 3" in w.bad(client, "nowhere.example", "80", "/")
        # nothing but the network of the run's own names: the host's addresses lead nowhere
        out = w.bad("python3", "-c", "import socket; socket.create_connection(('1.1.1.1', 53), 5)")
        assert "unreachable" in out, out


def test_git():
    with World() as w:
        url = "https://git.acme.example/git/app.git"
        script = (f"set -e; git clone -q {url} app; cd app; cat file; git config user.name a; git config user.email a@b; "
                  "git checkout -q -b agent/fix; echo two >> file; git commit -qam two; ")
        r = w.shell(script + "git push -q origin agent/fix && echo pushed", agency="autonomous")
        assert r.returncode == 0 and r.stdout == "one\npushed\n", (r, w.s.logged())
        heads = w.call("git", "-C", w.path("git/app.git"), "for-each-ref", "--format=%(refname)")
        assert "refs/heads/agent/fix" in heads, heads
        r = w.shell("cd app 2>/dev/null || git clone -q " + url + " app && cd app; git config user.name a; "
                    "git config user.email a@b; echo x >> file; git commit -qam x; git push origin HEAD:main", agency="autonomous")
        assert r.returncode != 0 and "remote rejected" in r.stderr and "holdfast: denied" in r.stderr, (r, w.s.logged())
        assert w.call("git", "-C", w.path("git/app.git"), "rev-list", "--count", "main").strip() == "1"
        assert w.shell("git clone -q https://git.acme.example/git/other.git").returncode != 0


def test_what_a_push_may_change():
    """New commits on a branch that is covered; no history that is written anew, no branch that is removed."""
    with World() as w:
        url = "https://git.acme.example/git/app.git"
        begin = (f"rm -rf app; git clone -q {url} app && cd app && git config user.name a && git config user.email a@b && "
                 "git config gc.auto 0 && ")
        r = w.shell(begin + "git checkout -q -b agent/x && for i in 1 2 3; do echo $i >> file; git commit -qam $i; done && "
                    "git push -q origin agent/x && for i in 4 5; do echo $i >> file; git commit -qam $i; done && "
                    "git push -q origin agent/x && git push -q origin agent/x:refs/heads/agent/y && echo pushed", agency="autonomous")
        assert r.returncode == 0 and r.stdout == "pushed\n", (r, w.s.logged())
        count = ["git", "-C", w.path("git/app.git"), "rev-list", "--count"]
        assert w.call(*count, "agent/x").strip() == "6"
        for change in ("git commit -q --amend -m other && git push -f origin agent/x",
                       "git reset -q --hard HEAD~2 && git push -f origin agent/x", "git push origin :agent/x",
                       "git push origin agent/x:refs/tags/v1"):
            r = w.shell(begin + "git checkout -q agent/x && " + change, agency="autonomous")
            assert r.returncode != 0 and "remote rejected" in r.stderr and "holdfast: denied" in r.stderr, (change, r, w.s.logged())
        assert w.call(*count, "agent/x").strip() == "6"
        # one ref that is denied denies the push, and says so of both
        r = w.shell(begin + "git checkout -q agent/x && echo 6 >> file && git commit -qam 6 && "
                    "git push origin agent/x HEAD:refs/heads/main", agency="autonomous")
        assert r.returncode != 0 and w.call(*count, "agent/x").strip() == "6", (r, w.s.logged())
        assert r.stderr.count("holdfast: denied") == 2, r.stderr
        # a fetch that is shallow, and one with nothing to say
        assert w.good("/bin/sh", "-c", f"git clone -q --depth 1 {url} s && cd s && git fetch -q --unshallow && git fetch && "
                      "git rev-list --count HEAD").strip() == "1"


def test_python_requests():
    with World() as w:
        if subprocess.run(["/usr/bin/python3", "-c", "import requests"], check=False).returncode:
            return
        script = "import requests; r = requests.{}; print(r.status_code, r.text)"
        assert w.good("python3", "-c", script.format("get('https://www.acme.example/hello')")) == "200 hello from acme\n\n"
        out = w.good("python3", "-c", script.format("post('https://www.acme.example/post', json={'a': 1})"))
        assert out.startswith("403 ") and '"denied"' in out, out
        assert "Name or service not known" in w.bad("python3", "-c", script.format("get('https://nowhere.example/')"))


def test_node_and_npm():
    with World() as w:
        if not shutil.which("node"):
            return
        assert w.good("node", "-e", "fetch('https://www.acme.example/hello').then(r => r.text()).then(t => console.log(t))") \
            == "hello from acme\n\n"
        assert "ENOTFOUND" in w.bad("node", "-e", "fetch('https://nowhere.example/')")
        if shutil.which("npm"):
            r = w.shell("npm install --no-audit --no-fund --registry https://registry.acme.example/ left-pad@1.0.0 && "
                        "node -e 'console.log(require(\"left-pad\")())'")
            assert "padded" in r.stdout, (r, w.s.logged())
            # Of a scope: npm asks for /@acme%2fpad.
            r = w.shell("npm install --no-audit --no-fund --registry https://registry.acme.example/ @acme/pad@1.0.0 && "
                        "node -e 'console.log(require(\"@acme/pad\")())'")
            assert "padded" in r.stdout, (r, w.s.logged())


def test_psql():
    server = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if not server or not shutil.which("psql"):
        return
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:  # initdb wants a name
        print("     psql is left out: this user has no name")
        return
    with World() as w:
        folder = os.path.dirname(server[0])
        data = w.path("pg")
        os.mkdir(data, 0o700)
        as_user = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(data, owner.pw_uid, owner.pw_gid)
            as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        w.call(*as_user, os.path.join(folder, "initdb"), "-D", data, "-U", "app", "-A", "trust", "--no-sync", env=env, cwd="/")
        with open(os.path.join(data, "pg_hba.conf"), "a") as f:
            f.write("host all all 10.77.0.0/24 trust\n")
        w.serve(*as_user, os.path.join(folder, "postgres"), "-D", data, "-h", HERE, "-k", "", env=env, cwd="/")
        w.await_port(HERE, 5432)
        assert w.good("psql", "-h", "db.acme.example", "-U", "app", "-Atc", "select 6 * 7", "postgres") == "42\n"
        assert "onnect" in w.bad("psql", "-h", "db.acme.example", "-p", "5433", "-U", "app", "-c", "select 1", "postgres")


# ---- secrets


def test_a_secret_is_in_the_request_and_not_in_the_sandbox():
    with World() as w:
        out = w.good("/bin/sh", "-c", 'echo "$API_TOKEN"; curl -sS -H "Authorization: Bearer $API_TOKEN" '
                     "https://api.acme.example/hello; cat /proc/self/environ")
        assert "hello from acme" in out and "s3cret" not in out, out
        held = out.splitlines()[0]
        assert held.startswith("holdfast-") and len(held) > 40, held
        with open(w.path("access.log")) as f:
            log = f.read()
        assert "GET /hello" in log, log
        # a server that sends it back is not listened to
        assert "s3cret" not in w.shell("curl -sS https://api.acme.example/whoami").stdout
        for root, _, files in os.walk(w.s.state):
            for name in files:
                with contextlib.suppress(OSError), open(os.path.join(root, name), "rb") as f:
                    assert b"s3cret-t0ken" not in f.read(), f"the secret is in {root}/{name}"
        assert "s3cret" not in w.s.logged()
        # a file that others can read is no secret: what needs it is refused, and what does not goes on
        os.chmod(w.path("token"), 0o644)
        assert w.good("curl", "-sS", "https://www.acme.example/hello") == "hello from acme\n"
        w.bad("curl", "-sSf", "https://api.acme.example/hello")


# ---- what a run may use, and what a person is asked


def plan_of(w, steps):
    policy = os.path.join(w.s.workspace, "policy.yaml")
    shutil.copy(w.policy, policy)
    return "version: 1\nname: n\nsteps:\n" + "".join(
        f"  - name: s{i}\n    run: [/bin/sh, -c, {json.dumps(c)}]\n" for i, c in enumerate(steps))


def run_plan(w, steps, policy, **more):
    """Returns the run's id. The policy is the user's own word for it."""
    with open(os.path.join(w.root, "plan.yaml"), "w") as f:
        f.write(plan_of(w, steps))
    r = subprocess.run([HOLDFAST, "--state", w.s.state, "--json", "run", "--detach", "--workspace", w.s.workspace, "--policy",
                        policy, f.name], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       env=w.s.environment({"PATH": "/usr/bin:/bin"}), check=False)
    assert r.returncode == 0, (r, w.s.logged())
    return json.loads(r.stdout.splitlines()[0])["run"]


def test_a_runs_budget_is_one_over_its_steps():
    with World() as w:
        policy = w.write("budget.yaml", w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local=(
            f"address: [10.77.0.0/24], ca: {w.path('ca.pem')}")).replace("limits: {wall: 2m,", "limits: {wall: 2m, requests: 3,"))
        get = "curl -sS -o /dev/null -w '%{http_code} ' https://www.acme.example/hello; "
        # what a courier sends by itself it tells every 100 ms
        run = run_plan(w, [get * 2 + "sleep 0.5", get * 3], policy)
        w.s.wait(run)
        said = w.s.output(run, "s0"), w.s.output(run, "s1")
        assert said == (b"200 200 ", b"200 429 429 "), (said, w.s.logged())


def test_what_needs_a_person_waits_and_is_sent_once():
    with World() as w:
        policy = w.write("ask.yaml", w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local=(
            f"address: [10.77.0.0/24], ca: {w.path('ca.pem')}")).replace(
            "  - {id: plain,", "  - {id: post, do: ask, http: {host: www.acme.example, method: [POST], path: /post}, "
            f"rate: {{count: 5, per: 1h}}, address: [10.77.0.0/24], ca: {w.path('ca.pem')}}}\n  - {{id: plain,").replace(
            "memory: 2GiB}", "memory: 2GiB, requests: 10, egress: 1000}"))
        t, out = in_background(w, "/bin/sh", "-c", "curl -sS -o /dev/null https://www.acme.example/hello; sleep 0.5; "
                               "curl -sS -d hello https://www.acme.example/post", policy=policy)
        end = time.monotonic() + 20
        while True:
            items = w.s.get("/v1/approvals").json()["approvals"]
            if items:
                break
            assert time.monotonic() < end and t.is_alive(), (out, w.s.logged())
            time.sleep(0.1)
        card = w.s.get("/v1/approvals/" + items[0]["approval"]).json()["card"]
        assert "\nlimit      5 in 3600 s by its rule; 4 left of it after this one\n" in card, card
        assert re.search(r"\nbudget     9 of 10 requests, 9\d\d of 1000 bytes out left to this run before this one\n", card), card
        with open(w.path("access.log")) as f:
            assert "POST" not in f.read()
        r = subprocess.run([HOLDFAST, "--state", w.s.state, "approve", items[0]["approval"][:12]], capture_output=True, text=True,
                           env=w.s.environment(), stdin=subprocess.DEVNULL, check=False)
        t.join()
        assert r.returncode == 0 and out[0].stdout == "posted\n", (r, out, w.s.logged())
        with open(w.path("access.log")) as f:
            assert f.read().count("POST /post") == 1


def test_what_waits_long_holds_no_process():
    with World() as w:
        local = f"address: [10.77.0.0/24], ca: {w.path('ca.pem')}"
        policy = w.write("suspend.yaml", w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local=local).replace(
            "  - {id: plain,", "  - {id: post, do: ask, http: {host: www.acme.example, method: [POST], path: /post}, "
            + local + "}\n  - {id: plain,") + "approvals: {freeze: 1s, suspend: 2s}\n")
        run = run_plan(w, ["curl -sS -d hello https://www.acme.example/post"], policy)
        end = time.monotonic() + 30
        while w.s.status(run)["state"] != "waiting" or w.pids("holdfast-gate") or w.pids("holdfast-courier"):
            assert time.monotonic() < end, (w.s.status(run), w.s.logged())
            time.sleep(0.2)
        w.s.kill()
        w.s.kill_keeper()
        w.s.start()  # as after a reboot
        item = w.s.get("/v1/approvals").json()["approvals"][0]["approval"]
        r = subprocess.run([HOLDFAST, "--state", w.s.state, "approve", item[:12]], capture_output=True, text=True,
                           env=w.s.environment(), stdin=subprocess.DEVNULL, check=False)
        assert r.returncode == 0, (r, w.s.logged())
        s = w.s.wait(run)
        assert w.s.output(run, "s0") == b"posted\n" and s["state"] == "succeeded", (s, w.s.logged())
        with open(w.path("access.log")) as f:
            assert f.read().count("POST /post") == 1


def test_a_run_that_is_over_leaves_no_process():
    with World() as w:
        w.good("curl", "-sS", "https://www.acme.example/hello")
        end = time.monotonic() + 10
        while w.pids("holdfast-gate") or w.pids("holdfast-courier"):
            assert time.monotonic() < end, "they live on"
            time.sleep(0.1)
        assert not glob.glob(os.path.join(w.s.state, "v1", "spool", "*.n"))


# ---- what dies


def loop(n, pause=0.1):
    return ("i=0; while [ $i -lt %d ]; do curl -fsS --max-time 20 --retry 8 --retry-all-errors --retry-delay 1 "
            "https://www.acme.example/hello; i=$((i+1)); sleep %s; done") % (n, pause)


def in_background(w, *argv, **more):
    out = []
    t = threading.Thread(target=lambda: out.append(w.exec(*argv, timeout=100, **more)))
    t.start()
    return t, out


def test_gate_and_courier_are_killed_and_come_back():
    with World() as w:
        t, out = in_background(w, "/bin/sh", "-c", loop(40))
        killed = 0
        end = time.monotonic() + 60
        while killed < 4 and t.is_alive() and time.monotonic() < end:
            time.sleep(0.7)
            for pid in w.pids(("gate", "courier")[killed % 2]):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        t.join()
        assert killed == 4, killed
        assert out[0].returncode == 0 and out[0].stdout == "hello from acme\n" * 40, (out[0], w.s.logged())


def test_the_supervisor_is_killed_and_the_network_goes_on():
    with World() as w:
        t, out = in_background(w, "/bin/sh", "-c", loop(30))
        time.sleep(1.5)
        gates = w.pids("holdfast-gate")
        w.s.kill()
        t.join()  # who asked has started the next one
        assert gates and out[0].stdout == "hello from acme\n" * 30, (out[0], w.s.logged())
        # its next attempt finds a network again
        assert w.good("curl", "-sS", "https://www.acme.example/hello") == "hello from acme\n"
        w.end_embedded()


def test_the_keeper_is_killed_and_the_step_runs_again():
    with World() as w:
        t, out = in_background(w, "/bin/sh", "-c", loop(20))
        time.sleep(1.5)
        assert w.pids("holdfast-gate") and w.pids("holdfast-courier")
        helpers = w.pids("holdfast-gate") + w.pids("holdfast-courier")
        w.s.kill_keeper()
        end = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{p}") for p in helpers):
            assert time.monotonic() < end, "they outlive their keeper"
            time.sleep(0.05)
        t.join()
        run = w.s.get("/v1/runs").json()["runs"][0]["run"]
        assert w.s.output(run, "sh") == b"hello from acme\n" * 20, (out[0], w.s.logged())


class Counter:
    """A service that counts what it was asked, and takes its time to answer."""

    def __init__(self, w):
        counts = self.counts = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                counts[body] = counts.get(body, 0) + 1
                time.sleep(0.15)
                self.send_response(200)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"ok\n")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((HERE, 8443), Handler)
        self.server.handle_error = lambda *_: None  # a courier that was killed
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(w.path("server.pem"), w.path("server.key"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self.counts

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def settled(w, run, seconds=60):
    """The run's state once it is over or waits for a person."""
    end = time.monotonic() + seconds
    while True:
        r = subprocess.run([HOLDFAST, "--state", w.s.state, "--json", "status", run], capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, env=w.s.environment(), check=False)
        s = json.loads(r.stdout) if r.stdout else {}
        if s.get("state") in ("succeeded", "failed", "cancelled") or s.get("needs_person"):
            return s
        assert time.monotonic() < end, (r, w.s.logged())
        time.sleep(0.2)


def test_whatever_dies_nothing_is_sent_twice():
    rounds, seed = int(os.environ.get("HOLDFAST_ROUNDS", "6")), int(os.environ.get("HOLDFAST_SEED", "1"))
    draw = random.Random(seed)
    with World() as w, Counter(w) as counts:
        policy = w.write("count.yaml", w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local=(
            f"address: [10.77.0.0/24], ca: {w.path('ca.pem')}")).replace(
            "  - {id: plain,", "  - {id: count, do: allow, http: {host: www.acme.example, port: 8443, method: [POST]}, "
            f"address: [10.77.0.0/24], ca: {w.path('ca.pem')}}}\n  - {{id: plain,").replace("agency: assist", "agency: autonomous"))
        w.s.stop()  # from here on each command has a supervisor of its own, as it is without a service
        for n in range(rounds):
            before = set(counts)
            with open(w.path("plan.yaml"), "w") as f:
                f.write(plan_of(w, ["".join(f"curl -sS -d {seed}-{n}-{i} https://www.acme.example:8443/count; " for i in range(6))]))
            r = subprocess.run([HOLDFAST, "--state", w.s.state, "--json", "run", "--detach", "--workspace", w.s.workspace,
                                "--policy", policy, "--agency", "autonomous", f.name], capture_output=True, text=True, check=False,
                               stdin=subprocess.DEVNULL, env=w.s.environment({"PATH": "/usr/bin:/bin"}))
            assert r.returncode == 0, (r, w.s.logged())
            run = json.loads(r.stdout.splitlines()[0])["run"]
            who = draw.choice(["holdfast-gate", "holdfast-courier", "keeper", "supervisor"])
            time.sleep(draw.uniform(0.1, 1.4))
            d = w.s.get("/v1/daemon").json()
            w.s.keepers.add(d["keeper"])
            for pid in {"keeper": [d["keeper"]], "supervisor": [d["pid"]]}.get(who) or w.pids(who):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if who == "supervisor":  # one that only reads starts nothing
                subprocess.run([HOLDFAST, "--state", w.s.state, "resume", run], capture_output=True, check=False, timeout=60,
                               env=w.s.environment(), stdin=subprocess.DEVNULL)
            s = settled(w, run)
            print(f"     round {n}: {who}: {s['state']}", flush=True)
            sent = {k: v for k, v in counts.items() if k not in before}
            assert all(v == 1 for v in sent.values()), (n, who, sent, s, w.s.logged())
            if s["state"] == "succeeded":
                assert len(sent) == 6 or who in ("holdfast-gate", "holdfast-courier"), (n, who, sent, s)
            else:  # a gate that dies takes its client's connection with it, and curl says so
                assert s["needs_person"] or who in ("holdfast-gate", "holdfast-courier"), (n, who, s, w.s.logged())
                subprocess.run([HOLDFAST, "--state", w.s.state, "cancel", run], capture_output=True, check=False,
                               env=w.s.environment(), stdin=subprocess.DEVNULL)
        w.end_embedded()


# ---- walls


def test_two_runs_do_not_see_each_others_names():
    with World() as w:
        other = w.write("other.yaml", w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local=(
            f"address: [10.77.0.0/24], ca: {w.path('ca.pem')}")).replace("www.acme.example, registry", "else.acme.example, registry"))
        t, out = in_background(w, "/bin/sh", "-c", "sleep 3; curl -sS https://www.acme.example/hello; "
                               "curl -sS https://else.acme.example/hello 2>&1")
        r = w.shell("curl -sS https://else.acme.example/hello; curl -sS https://www.acme.example/hello 2>&1", policy=other)
        t.join()
        for text in (r.stdout, out[0].stdout):
            assert text.startswith("hello from acme\n") and "not resolve" in text, (r, out, w.s.logged())


def test_a_step_without_net_rules_has_no_network():
    with World(POLICY.split("net:")[0] + "limits: {{wall: 2m}}\nallow_weaker: [memory, cpu, landlock]\n") as w:
        assert "resolve" in w.bad("curl", "-sS", "https://www.acme.example/")
        assert w.good("cat", "/etc/resolv.conf").startswith("# no name server")
        assert not w.pids("holdfast-gate") and not w.pids("holdfast-courier")


def test_what_was_refused_is_in_the_steps_record():
    with World() as w:
        w.good("/bin/sh", "-c", "curl -sS https://nowhere.example/; curl -sS https://www.acme.example/a%2fb; "
               "curl -sSk --connect-to ::www.acme.example https://other.example/; curl -sS -X POST https://www.acme.example/post; true")
        run = w.s.get("/v1/runs").json()["runs"][-1]["run"]
        log = subprocess.run([HOLDFAST, "--state", w.s.state, "log", run], capture_output=True, text=True, check=True,
                             env=w.s.environment({"PATH": "/usr/bin:/bin"})).stdout
        for line in ("denied nowhere.example: no rule", "denied www.acme.example:443: the path has %2f",
                     "denied other.example:443: TLS names another host", "denied POST www.acme.example:443/post -> 403"):
            assert line in log, log
        said = {words[0]: subprocess.run([HOLDFAST, "--state", w.s.state, *words], capture_output=True, text=True, check=True,
                                         env=w.s.environment({"PATH": "/usr/bin:/bin"})).stdout
                for words in (("status", run), ("show", run, w.s.get("/v1/runs/" + run).json()["steps"][0]["name"]))}
        assert f"effects: 0 done of 0 proposed, {log.count('  denied ')} denied, 0 failed, 0 in doubt; 0 plain reads" in said["status"], said
        for line in log.splitlines():  # the step's attempt shows each, as the log does
            assert "  denied " not in line or line in said["show"], (line, said)


def test_a_steps_end_waits_for_its_last_reads_and_refusals():
    with World() as w:
        script = "curl -sS https://www.acme.example/hello; sleep 1; for i in 1 2 3 4 5; do getent hosts n$i.example; done; true"
        out = []
        t = threading.Thread(target=lambda: out.append(w.shell(script)))
        t.start()
        end = time.monotonic() + 20
        while not w.pids("holdfast-courier"):
            assert time.monotonic() < end, w.s.logged()
            time.sleep(0.01)
        time.sleep(0.5)
        courier = w.pids("holdfast-courier")[0]
        os.kill(courier, signal.SIGSTOP)  # the gate answers for names alone
        try:
            time.sleep(1.5)
            assert not out, out
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(courier, signal.SIGCONT)
        t.join()
        assert out[0].returncode == 0, out
        run = w.s.get("/v1/runs").json()["runs"][-1]["run"]
        log = subprocess.run([HOLDFAST, "--state", w.s.state, "log", run], capture_output=True, text=True, check=True,
                             env=w.s.environment({"PATH": "/usr/bin:/bin"})).stdout
        for line in ["GET www.acme.example:443/hello", *(f"denied n{i}.example: no rule" for i in range(1, 6))]:
            assert line in log, (line, log)


def test_what_is_excepted_is_not_reached_by_a_twin_of_its_path():
    twins = ("admin", "admin/x", "%61dmin/x", "ADMIN", "Admin/x", "admin./x", "admin%20/x", "admin%20./x", "admin;v=1/x", "%ef%bd%81dmin",
             "admin%3fx", "ad%c2%admin/x", "admin::$DATA")
    refused = ("admin//x", "./admin", "x/../admin", "admin%2fx", "admin%00", "admin%5cx", "..%20/admin", "%c0%ae/admin", "x/%e2%80%a5/admin")
    with World() as w:
        fetch = "curl -sS --path-as-is --max-time 5 -o /dev/null -w '%{http_code} ' 'https://fenced.acme.example/"
        out = w.shell("".join(f"{fetch}{p}';" for p in ("open", "open./x", *twins, *refused)), timeout=90)
        codes = out.stdout.split()
        assert codes[:2] == ["200", "200"], out
        for path, code in zip(twins, codes[2:], strict=False):
            assert code == "403", (path, code, out)
        for path, code in zip(refused, codes[2 + len(twins):], strict=True):
            assert code in ("400", "403"), (path, code, out)
        with open(w.path("access.log")) as f:
            seen = [line for line in f if "admin" in line.lower() or "%" in line or ";" in line]
        assert not seen, seen
        # what is graver by its path is so by a twin of it: it waits for a person
        pay = ("pay", "PAY", "pay.")
        t, out = in_background(w, "/bin/sh", "-c", "".join(f"curl -sS --path-as-is https://fenced.acme.example/{p} & " for p in pay) + "wait")
        end = time.monotonic() + 30
        while len(items := w.s.get("/v1/approvals").json()["approvals"]) < len(pay):
            assert time.monotonic() < end and t.is_alive(), (items, out, w.s.logged())
            time.sleep(0.1)
        for item in items:
            r = subprocess.run([HOLDFAST, "--state", w.s.state, "deny", item["approval"][:12], "--reason", "no"], capture_output=True,
                               text=True, env=w.s.environment(), stdin=subprocess.DEVNULL, check=False)
            assert r.returncode == 0, r
        t.join()
        with open(w.path("access.log")) as f:
            assert "pay" not in f.read().lower()


def test_nothing_else_leaves():
    with World() as w:
        capture = Capture()
        capture.start()
        w.good("curl", "-sS", "https://www.acme.example/hello")
        w.shell("for h in nowhere.example www.google.com a.b.pkgs.acme.example; do curl -sS --max-time 5 https://$h/; done; "
                "python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('198.18.0.77', 53))\"; "
                "curl -sS --max-time 3 http://1.1.1.1/; curl -sS --max-time 3 http://10.77.0.1/; ping -c1 -W1 10.77.0.1; "
                "wget -qO- --timeout=3 http://[fd48:6f6c:6466::77]/; true")
        w.good("curl", "-sS", "http://plain.acme.example/hello")
        capture.stop()
        allowed = {("tcp", HERE, 443), ("tcp", HERE, 80), ("udp", NAMES, 53), ("tcp", NAMES, 53)}
        assert capture.seen <= allowed, capture.seen - allowed
        assert ("tcp", HERE, 443) in capture.seen and "www.acme.example" in capture.names, (capture.seen, capture.names)
        assert all(n.endswith("acme.example") and not n.startswith("a.b.") for n in capture.names), capture.names


def inside(module=None):
    subprocess.run("ip link set lo up && ip addr add 10.77.0.1/32 dev lo && ip addr add 10.77.0.53/32 dev lo && "
                   "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start", shell=True, check=True)
    supervised.main(module or sys.modules[__name__])


def into_namespace():
    """Runs this program again in a network namespace of its own."""
    missing = [t for t in TOOLS if not shutil.which(t)]
    missing += [n for n in ("holdfast-gate", "holdfast-courier") if not any(
        os.path.exists(os.path.join(supervised.BUILD, "sandbox", f, n)) for f in ("", "gate"))]
    if missing:
        print("skipped: not installed:", *missing)
        sys.exit(77)
    space = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-current-user", "--keep-caps", "--net"]
    os.environ["HOLDFAST_TEST_NETNS"] = "1"
    os.execvp(space[0], [*space, sys.executable, *sys.argv])


if __name__ == "__main__":
    if os.environ.get("HOLDFAST_TEST_NETNS"):
        inside()
    into_namespace()
