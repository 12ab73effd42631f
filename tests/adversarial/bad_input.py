"""Programs that are none, names that nobody expects, trees that are too much: each a clear answer, nothing lost, nothing half
landed. What is bad about state and the API is in state_folder.py, full_disk.py, restore.py and api.py."""

import os
import struct
import sys

sys.path.insert(0, os.path.dirname(__file__))
from hostile import PYTHON, Hostile, main  # noqa: E402

NAMES = (b"\xff\xfe", b"a\nb", b"-rf", b"--help", b"\x1b[2J", b"x" * 255, b"\xe2\x80\xae", b" lead", b"trail ", b"q'\"$(id)`", b"tab\t", b"back\\slash",
         b"\xc3\xa9", b"e\xcc\x81", b"a:b", b"%s%n", b"*", b"~", b"=", b"#")


def put(c, name, data, mode=0o755):
    with open(c.path(name), "wb") as f:
        f.write(data)
    os.chmod(c.path(name), mode)


def test_what_cannot_be_executed_is_126_or_127_and_says_why():
    with Hostile() as c:
        with open("/bin/true", "rb") as f:
            elf = bytearray(f.read())
        elf[18:20] = struct.pack("<H", 0x1234)  # e_machine: nobody's
        put(c, "foreign", bytes(elf))
        put(c, "cut", bytes(elf[:40]))
        put(c, "junk", b"\0\1\2\3")
        put(c, "empty", b"")
        put(c, "text", b"echo hi\n")
        put(c, "lost", b"#!/nowhere/sh\n")
        put(c, "loop", b"#!./loop\n")
        put(c, "plain", b"#!/bin/sh\n", 0o644)
        os.mkdir(c.path("folder"))
        os.symlink("itself", c.path("itself"))
        os.mkfifo(c.path("fifo"))
        said = {"foreign": "no program of this machine", "cut": "no program", "junk": "no program", "empty": "no program", "text": "#!/bin/sh",
                "lost": "interpreter", "loop": "levels", "plain": "Permission denied", "folder": "Permission denied", "itself": "levels",
                "fifo": "Permission denied", "missing": "No such file"}
        for name, words in said.items():
            code, out, err = c.run("exec", "--", "./" + name)
            assert code == (127 if name in ("lost", "missing") else 126) and out == "" and words in err, (name, code, out, err)
        assert c.run("exec", "--", "no-such-program")[0] == 127
        code, _, err = c.run("exec", "--", "x" * 5000)
        assert code == 126 and len(err) < 600 and "File name too long" in err, (code, err)


def test_an_end_is_told_as_it_was():
    with Hostile() as c:
        for script, code in (("exit 255", 255), ("kill -SEGV $$", 139), ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -HUP $$", 129),
                             ("trap '' TERM; exec 0<&- 1>&- 2>&-; exit 3", 3), ("kill -PIPE $$", 141), ("kill -42 $$", 170)):
            got = c.run("exec", "--", "sh", "-c", script)
            assert got[0] == code, (script, got)


def test_names_of_any_bytes_land_as_they_are():
    make = f"import os\nfor n in {NAMES!r}: open(n,'wb').write(n)\nos.mkdir('deep'); os.chdir('deep')\n" \
           "for i in range(19): os.mkdir('d'*200); os.chdir('d'*200)\nopen('leaf','w').write('leaf')\n"
    with Hostile() as c:
        code, out, err = c.run("exec", "--land", "--", PYTHON, "-c", make)
        assert code == 0, (code, out, err)
        tree = os.fsencode(c.tree)
        for n in NAMES:
            with open(os.path.join(tree, n), "rb") as f:
                assert f.read() == n, n
        fd = os.open(c.path("deep"), os.O_PATH)
        for _ in range(19):
            fd, old = os.open("d" * 200, os.O_PATH, dir_fd=fd), fd
            os.close(old)
        assert os.stat("leaf", dir_fd=fd).st_size == 4
        os.close(fd)
        run = c.latest()
        for args in (("diff", run), ("show", run), ("log", run)):
            code, out, err = c.run("--plain", *args)
            assert code == 0 and "\x1b" not in out + err and "\u202e" not in out + err, (args, code, out, err)
        assert c.run("undo", run)[0] == 0
        assert sorted(os.listdir(c.tree)) == ["a.txt"], os.listdir(c.tree)


def test_a_tree_past_its_limit_lands_nothing_and_says_which():
    for script, words in (("for i in 1 2 3 4 5 6 7 8; do truncate -s 15M f$i; done", ("disk", "limit", "past")),  # holes count, as they are hashed
                          ("truncate -s 1T sparse", ("size", "disk", "limit"))):
        with Hostile() as c:
            p = c.policy("  - {path: \"${workspace}\", access: stage}\n", more="limits: {disk: 16MiB}\n")
            code, out, err = c.sh(f"echo x > small; {script}", "--policy", p, "--land")
            assert code != 0 and any(w in (out + err).lower() for w in words), (script, code, out, err)
            assert os.listdir(c.tree) == ["a.txt"], (script, os.listdir(c.tree))
            assert c.run("exec", "--", "true")[0] == 0 and c.run("verify")[0] == 0


def test_a_filler_of_the_disk_is_ended_and_leaves_nothing():
    with Hostile() as c:
        p = c.policy("  - {path: \"${workspace}\", access: stage}\n", more="limits: {disk: 8MiB}\n")
        code, out, err = c.sh("i=0; while :; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); sleep 0.02; done", "--policy", p, "--land")
        assert code != 0 and "disk" in err, (code, out, err)
        assert os.listdir(c.tree) == ["a.txt"]

        def layers():
            return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, fs in os.walk(os.path.join(c.state, "v1", "layers")) for f in fs)

        if os.geteuid() == 0:  # else the work folders of layers are closed to us
            c.until(lambda: layers() < 1 << 20, 10)


def test_attributes_and_special_files_end_where_they_are_made():
    with Hostile() as c:
        script = ("import os, socket\nopen('f','w').write('x')\n"
                  "for n in ('user.a', 'user.overlay.opaque', 'trusted.overlay.opaque', 'security.capability', 'system.posix_acl_access'):\n"
                  "  try: os.setxattr('f', n, b'y')\n  except OSError: pass\n"
                  "os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket'); os.link('f', 'hard'); os.symlink('/etc/passwd', 'out')\n"
                  "for m in (0o020666, 0o060666):\n  try: os.mknod('device', m, 0x103); print('DEVICE')\n  except OSError: pass\n")
        code, out, err = c.run("exec", "--land", "--", PYTHON, "-c", script)
        assert code == 0 and out == "", (code, out, err)
        assert sorted(os.listdir(c.tree)) == ["a.txt", "f", "hard", "out"], os.listdir(c.tree)
        assert os.listxattr(c.path("f")) == [] and os.stat(c.path("f")).st_nlink == 1


def test_many_files_land_whole_and_go_again():
    count = 40 * int(os.environ.get("HOLDFAST_ROUNDS", "8"))
    with Hostile() as c:
        code, _, err = c.run("exec", "--land", "--", PYTHON, "-c", f"import os\nos.mkdir('d')\nfor i in range({count}): open('d/%d' % i, 'w').write(str(i))")
        assert code == 0, err
        assert len(os.listdir(c.path("d"))) == count
        assert c.run("undo", c.latest())[0] == 0
        assert os.listdir(c.tree) == ["a.txt"]


if __name__ == "__main__":
    main(globals())
