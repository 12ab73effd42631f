"""What the examples with a network share: a network namespace of their own, real servers in it, a state directory, and words.

Of the servers only the services (pull requests, refunds) are ours: they count what is delivered. In front of git's own
http-backend stands nginx with TLS, and dnsmasq answers for acme.example. Nothing outside of the namespace is reached, and
everything is gone at the end; only processes that were started here are ended.
"""

import base64
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

HERE, NAMES, SERVICES = "10.77.0.1", "10.77.0.53", "10.77.0.2"
TOKEN = "acme-t0ken-that-no-step-sees"
NEEDED = ("nginx", "fcgiwrap", "dnsmasq", "ip", "git", "make", "curl", "openssl")
BASIC = base64.b64encode(b"x-access-token:" + TOKEN.encode()).decode()
NGINX = """
daemon off; master_process off; pid %(root)s/nginx.pid; error_log %(root)s/nginx.log; events {}
http {
  access_log off; client_body_temp_path %(root)s/t1; proxy_temp_path %(root)s/t2; fastcgi_temp_path %(root)s/t3;
  uwsgi_temp_path %(root)s/t4; scgi_temp_path %(root)s/t5;
  server {
    listen %(here)s:443 ssl; ssl_certificate %(root)s/server.pem; ssl_certificate_key %(root)s/server.key;
    location ~ ^(/.*)$ {
      if ($http_authorization != "Basic %(basic)s") { return 401; }
      include /etc/nginx/fastcgi_params; fastcgi_pass unix:%(root)s/fcgi;
      fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend; fastcgi_param GIT_PROJECT_ROOT %(root)s/git;
      fastcgi_param GIT_HTTP_EXPORT_ALL ""; fastcgi_param PATH_INFO $1; fastcgi_param REMOTE_USER agent;
    }
  }
}
"""


class Service(http.server.ThreadingHTTPServer):
    """POSTs are counted by what they say. hold: they are taken, and answered only when release() is called."""

    daemon_threads = True

    def __init__(self, root, answers):
        super().__init__((SERVICES, 443), Service.Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{root}/server.pem", f"{root}/server.key")
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.answers, self.delivered, self.open = answers, [], threading.Event()
        self.open.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # who hangs up is part of the show

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            value = self.server.answers.get(self.path)
            self.answer(200 if value is not None else 404, value if value is not None else {"error": "not found"})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "no token"})
                return
            self.server.delivered.append((self.path, body))
            self.server.open.wait()
            self.answer(201, {"id": len(self.server.delivered), **body})


class Stage:
    """with Stage(folder, services) as s: servers, files, and s.hf(...). answers: what a GET of the services gets."""

    def __init__(self, here, holdfast, answers):
        self.here, self.holdfast, self.processes, self.pids = here, holdfast, [], set()
        self.work = tempfile.mkdtemp(prefix="holdfast-demo.", dir="/var/tmp")
        os.chmod(self.work, 0o755)
        self.state, self.project, self.root = (f"{self.work}/{n}" for n in ("state", "project", "acme"))
        os.mkdir(self.root)
        shutil.copytree(here, self.project, ignore=shutil.ignore_patterns("run", "policy.yaml", "__pycache__"))
        with open(f"{here}/policy.yaml") as f:
            self.policy = self.write("policy.yaml", f.read().replace("/etc/acme", self.root))
        self.write("token", TOKEN + "\n", 0o600)
        self.write("config/holdfast/config.yaml", f"version: 1\nresolver: [{NAMES}]\n")
        self.env = {"PATH": "/usr/bin:/bin", "HOME": self.work, "XDG_CONFIG_HOME": f"{self.root}/config",
                    **{k: v for k, v in os.environ.items() if k.startswith("HOLDFAST_HELPERS")}}
        self.log = open(f"{self.root}/log", "ab")
        self.answers = answers

    def __enter__(self):
        try:
            self.certificates()
            self.services = Service(self.root, self.answers)
            self.serve("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-daemon",
                       f"--listen-address={NAMES}", "--bind-interfaces", f"--address=/git.acme.example/{HERE}",
                       f"--address=/api.acme.example/{SERVICES}", "--user=", "--group=", "--pid-file=")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.remember()
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for p in self.processes:
            p.kill()
            p.wait()
        self.log.close()
        if os.environ.get("HOLDFAST_DEMO_KEEP"):
            print("kept:", self.work)
            return
        for _ in range(50):
            subprocess.run(["chmod", "-R", "u+rwX", self.work], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(self.work, ignore_errors=True)
            if not os.path.exists(self.work):
                return
            time.sleep(0.1)

    def write(self, name, text, mode=0o644):
        path = f"{self.root}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def call(self, *argv, **more):
        return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, stderr=self.log, env=self.env, **more).stdout

    def serve(self, *argv, **more):
        more = {"stdin": subprocess.DEVNULL, **more}
        self.processes.append(subprocess.Popen(argv, stdout=self.log, stderr=self.log, **more))

    def certificates(self):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        ca, own = f"{self.root}/ca", f"{self.root}/server"
        self.call("openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=Acme root", "-keyout", ca + ".key", "-out", ca + ".pem")
        self.call("openssl", "req", "-new", *key, "-subj", "/CN=acme.example", "-keyout", own + ".key", "-out", own + ".csr")
        self.write("san", "subjectAltName=DNS:*.acme.example\n")
        self.call("openssl", "x509", "-req", "-in", own + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial",
                  "-days", "2", "-extfile", f"{self.root}/san", "-out", own + ".pem")

    def git_server(self, files):
        """https://git.acme.example/app.git with one commit of these files, for who has the token."""
        bare, seed = f"{self.root}/git/app.git", f"{self.root}/seed"
        for name, text in files.items():
            self.write(f"seed/{name}", text)
        me = ["-c", "user.name=acme", "-c", "user.email=acme@acme.example"]
        self.call("git", "init", "-q", "--bare", "-b", "main", bare)
        self.call("git", "-C", bare, "config", "http.receivepack", "true")
        self.call("git", "init", "-q", "-b", "main", seed)
        self.call("git", "-C", seed, "add", ".")
        self.call("git", "-C", seed, *me, "commit", "-qm", "app")
        self.call("git", "-C", seed, "push", "-q", bare, "main")
        self.write("nginx.conf", NGINX % {"root": self.root, "here": HERE, "basic": BASIC})
        self.serve("nginx", "-c", f"{self.root}/nginx.conf", "-e", f"{self.root}/nginx.log")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as fcgi:
            fcgi.bind(f"{self.root}/fcgi")
            fcgi.listen(64)
            self.serve("fcgiwrap", stdin=fcgi.fileno())
        self.wait_for("nginx", lambda: socket.create_connection((HERE, 443), 1).close() is None)
        return bare

    # ---- holdfast, as a person types it

    def hf(self, *args, expect=0):
        r = subprocess.run([self.holdfast, "--state", self.state, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           env=self.env, timeout=120, check=False)
        if r.returncode != expect:
            self.broken(f"holdfast {' '.join(args)}: exit {r.returncode}, not {expect}\n{r.stdout}{r.stderr}")
        return r.stdout

    def json(self, *args, expect=0):
        return json.loads(self.hf("--json", *args, expect=expect))

    def start(self):
        """holdfast run, followed until it waits for a person."""
        self.run = self.json("run", f"{self.project}/plan.yaml", "--workspace", self.project, "--policy", self.policy, "--detach")["run"]
        self.remember()

    def waiting(self):
        """The queue's first item, when there is one."""
        self.wait_for("an item in the queue, or the end of the run", lambda: self.json("queue")["approvals"] or self.is_over())
        if self.is_over():
            self.broken("the run ended before it asked")
        return self.json("queue")["approvals"][0]

    def is_over(self):
        return self.json("status", self.run)["state"] in ("succeeded", "failed", "cancelled")

    def ended(self):
        self.wait_for("the end of the run", self.is_over)
        return self.json("status", self.run)["state"]

    def remember(self):
        with contextlib.suppress(Exception):
            d = self.json("status")["daemon"]
            self.pids |= {d[k] for k in ("pid", "keeper") if d.get(k)}
            return d
        return {}

    def kill_supervisor(self, keeper=False):
        d = self.remember()
        for name in ("pid", "keeper") if keeper else ("pid",):
            os.kill(d[name], signal.SIGKILL)

    def in_state(self, text):
        """Files of the state directory that hold it."""
        r = subprocess.run(["grep", "-rlsaF", text, self.state], capture_output=True, text=True, check=False)
        return r.stdout.split()

    # ---- words

    def wait_for(self, what, fn, seconds=90):
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if fn():
                    return
            if time.monotonic() > end:
                self.broken(f"waited in vain for {what}")
            time.sleep(0.1)

    def holds(self, what, that):
        if not that:
            self.broken(what)
        print(f"  held  {what}", flush=True)

    def broken(self, what):
        print(f"  BROKEN  {what}")
        if hasattr(self, "run"):
            for args in (("log", self.run), ("status", self.run)):
                r = subprocess.run([self.holdfast, "--state", self.state, *args], stdin=subprocess.DEVNULL, capture_output=True,
                                   text=True, env=self.env, timeout=60, check=False)
                print(*r.stdout.splitlines()[-25:], sep="\n")
        with open(f"{self.root}/log", errors="replace") as f:
            print(*f.read().splitlines()[-10:], sep="\n")
        sys.exit(1)

    def show(self, text, lines=40):
        for line in text.splitlines()[:lines]:
            print("  |", line.replace(self.root, "/etc/acme"))

    def effects(self):
        """The log's lines of effects that are no plain reads, without time and number."""
        for line in self.hf("log", self.run).splitlines():
            if re.search(r"EFFECT_(?!READS|DELIVERED)", line):
                self.show(re.sub(r"^\S+ +\d+  EFFECT_(\w+) +", lambda m: m[1].lower().ljust(10), line))


def say(text):
    print(f"\n{text}", flush=True)


def main(file, play, answers=None):
    """run [HOLDFAST]: enters a network namespace of its own, and plays."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [t for t in NEEDED if not shutil.which(t)]
    if missing:
        print(f"not installed: {' '.join(missing)}; 'tools/install-deps build test' installs what this takes", file=sys.stderr)
        sys.exit(77)
    if "HOLDFAST_DEMO_NETNS" not in os.environ:
        os.environ["HOLDFAST_DEMO_NETNS"] = "1"
        space = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-current-user", "--keep-caps", "--net"]
        os.execvp(space[0], [*space, sys.executable, "-B", *sys.argv])
    subprocess.run(f"ip link set lo up && for a in {HERE} {NAMES} {SERVICES}; do ip addr add $a/32 dev lo; done && "
                   "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start", shell=True, check=True)
    holdfast = shutil.which(sys.argv[1] if len(sys.argv) > 1 else "holdfast")
    if not holdfast:
        sys.exit("no holdfast: run HOLDFAST")
    with Stage(os.path.dirname(os.path.abspath(file)), os.path.abspath(holdfast), answers or {}) as s:
        play(s)
    say("Everything held.")
