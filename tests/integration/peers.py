"""Who may ask: our own uid, in our own user and pid namespace."""

import os
import subprocess
import sys

from supervised import Supervised, main

# Says "STATUS" of GET /v1/daemon, or the error of the connection, from wherever it is run.
ASK = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.settimeout(10)
d = os.open(sys.argv[1], os.O_PATH)
try:
    s.connect("/proc/self/fd/%d/control" % d)
    s.sendall(b"GET /v1/daemon HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    print(s.recv(4096).decode())
except OSError as e:
    print("error", e)
"""


def ask(s, *wrapper):
    p = subprocess.run([*wrapper, sys.executable, "-c", ASK, s.runtime()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, check=False)
    return p.stdout


def test_plain_peer_is_served():
    with Supervised() as s:
        s.start()
        assert " 200 " in ask(s).split("\r\n")[0]


def test_peer_in_another_user_namespace_is_refused():
    with Supervised() as s:
        s.start()
        for wrapper in (["unshare", "-U", "--map-root-user"], ["unshare", "-U", "--map-current-user"]):
            out = ask(s, *wrapper)
            assert " 403 " in out and "namespace" in out, out


def test_peer_in_another_pid_namespace_is_refused():
    with Supervised() as s:
        s.start()
        wrapper = ["unshare", "--pid", "--fork"]
        if os.geteuid() != 0:
            wrapper = ["unshare", "-U", "--map-current-user", "--pid", "--fork"]
        out = ask(s, *wrapper)
        assert " 403 " in out and "namespace" in out, out
        assert s.get("/v1/runs").json()["runs"] == []


def test_another_user_does_not_reach_it():
    if os.geteuid() != 0:
        return  # only root can become another one
    with Supervised() as s:
        s.start()
        os.chmod(s.root, 0o755)
        out = ask(s, "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
        assert "200" not in out.split("\r\n")[0], out


def test_a_step_does_not_reach_it():
    with Supervised() as s:
        s.start()
        run = s.begin(["/usr/bin/python3", "-c", ASK, s.runtime()])
        done = s.wait(run)
        out = s.output(run, done["steps"][0]["name"]) + s.output(run, done["steps"][0]["name"], "err")
        assert b" 200 " not in out and b"No such file" in out, out


if __name__ == "__main__":
    main(sys.modules[__name__])
