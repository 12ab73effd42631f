"""Which state directories are refused, with the remedy; and that one supervisor serves one."""

import os
import stat
import subprocess
import sys
import time

from supervised import DAEMON, Supervised, main


def refused(s, *words, status=2):
    p, said = s.spawn()
    p.wait(20)
    assert p.returncode == status, f"{p.returncode}: {said}"
    for w in words:
        assert w in said, f"{w!r} is not in {said!r}"


def test_symlink_is_refused():
    with Supervised() as s:
        os.mkdir(s.state + ".real", 0o700)
        os.symlink(s.state + ".real", s.state)
        refused(s, "symbolic link", "--state")


def test_others_modes_are_refused():
    with Supervised() as s:
        for mode in (0o777, 0o755, 0o701, 0o4700):
            os.mkdir(s.state)
            os.chmod(s.state, mode)
            if mode & 0o77:
                refused(s, "mode", "chmod")
            os.rmdir(s.state) if not os.listdir(s.state) else None
            if os.path.exists(s.state):
                subprocess.run(["rm", "-rf", s.state], check=True)


def test_folder_that_everyone_may_exchange_is_refused():
    with Supervised() as s:
        os.mkdir(os.path.join(s.root, "open"))
        os.chmod(os.path.join(s.root, "open"), 0o777)
        s.state = os.path.join(s.root, "open", "state")
        refused(s, "everyone may write")


def test_folder_of_another_user_is_refused():
    if os.geteuid() == 0:
        with Supervised() as s:
            os.mkdir(s.state, 0o700)
            os.chown(s.state, 12345, 12345)
            refused(s, "uid 12345", "owner")
    else:
        with Supervised() as s:
            s.state = "/etc"
            refused(s, "uid 0")


def test_own_folders_are_made_for_us_alone():
    with Supervised() as s:
        s.start()
        for path in ("", "v1/journal", "v1/blobs"):
            st = os.lstat(os.path.join(s.state, path))
            assert stat.S_IMODE(st.st_mode) == 0o700, path
        st = os.lstat(os.path.join(s.runtime(), "control"))
        assert stat.S_IMODE(st.st_mode) & 0o077 == 0


def test_file_in_place_of_a_folder_is_refused():
    with Supervised() as s:
        with open(s.state, "w"):
            pass
        refused(s, "not a folder")


def test_second_supervisor_goes_and_says_why():
    with Supervised() as s:
        s.start()
        p, said = s.spawn()
        assert p.wait(20) == 9 and "another supervisor serves" in said and str(s.process.pid) in said, said
        assert s.get("/v1/daemon").json()["pid"] == s.process.pid


def test_lock_of_a_dead_one_is_taken():
    with Supervised() as s:
        a = s.start()
        s.kill()
        b = s.start()
        assert b["epoch"] > a["epoch"]


def test_embedded_goes_when_idle_and_not_while_a_client_is_there():
    with Supervised(embedded=True) as s:
        s.start()
        c = s.client()
        assert c.request("GET", "/v1/daemon").json()["embedded"] is True
        time.sleep(6)
        assert s.process.poll() is None, "it went while a client was connected"
        c.close()
        assert s.process.wait(15) == 0


def test_sigterm_ends_it_cleanly():
    with Supervised() as s:
        s.start()
        s.process.terminate()
        assert s.process.wait(10) == 0


def test_it_tells_systemd_that_it_is_ready():
    import socket
    with Supervised() as s:
        path = os.path.join(s.root, "notify")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(path)
        sock.settimeout(10)
        s.start({"NOTIFY_SOCKET": path})
        assert sock.recv(100) == b"READY=1"
        s.process.terminate()
        assert sock.recv(100) == b"STOPPING=1"
        sock.close()


def test_usage():
    assert subprocess.run([DAEMON, "--nonsense"], stderr=subprocess.DEVNULL).returncode == 2
    assert subprocess.run([DAEMON, "surplus"], stderr=subprocess.DEVNULL).returncode == 2


if __name__ == "__main__":
    main(sys.modules[__name__])
