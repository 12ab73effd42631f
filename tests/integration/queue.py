"""The queue as people use it: who is told, what is listed first, what is shown, and the terminal that asks."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from cli import HOLDFAST, Cli
from supervised import main

GATED = "name: p\nland: never\nsteps:\n  - {name: pay, gate: ask, run: [/bin/true]}\n"


class Queue(Cli):
    def __init__(self):
        super().__init__()
        os.chmod(self.root, 0o755)
        self.told = os.path.join(self.root, "told")
        os.mkdir(self.told)

    def policy(self, text):
        path = os.path.join(self.root, "policy.yaml")
        with open(path, "w") as f:
            f.write("version: 1\nname: q\nextends: [offline]\n" + text)
        return path

    def notify(self, command="cat > \"$0/$1-$2.$$\"", on="opened, expiring, decided", more=""):
        return self.policy(f"fs:\n  - {{path: {self.told}, access: rw}}\n"
                           f"notify: {{run: [/bin/sh, -c, '{command}', {self.told}], on: [{on}]}}\n{more}")

    def gated(self, policy, plan=GATED, *args):
        code, out, err = self.run("run", self.plan(plan), "--policy", policy, "--no-input", *args)
        assert code == 4, (code, out, err)
        return self.json("queue")[1]["approvals"][0]

    def said(self, what):
        """Files of an event: (item's id, text)."""
        found = []
        for name in sorted(os.listdir(self.told)):
            event, rest = name.split("-", 1)
            if event == what:
                with open(os.path.join(self.told, name)) as f:
                    found.append((rest.split(".")[0], f.read()))
        return found

    def daemon(self):
        return self.json("status")[1]["daemon"]["pid"]


def test_people_are_told_what_was_opened_and_decided():
    with Queue() as c:
        a = c.gated(c.notify())
        c.until(lambda: c.said("opened"))
        shown = c.json("show", a["approval"])[1]["card"]
        assert c.said("opened") == [(a["approval"], shown)], (c.said("opened"), shown)
        assert c.run("approve", a["approval"], "--no-input", "--digest", a["card_digest"])[0] == 0
        c.until(lambda: c.said("approved"))
        assert c.said("approved")[0][0] == a["approval"]

        def told():
            events = [json.loads(x) for x in c.run("--json", "log", a["run"])[1].splitlines()]
            return [e["payload"]["told"] for e in events if e["type"] == "APPROVAL_TOLD"]
        c.until(lambda: told() == [1, 4])


def test_people_are_told_before_it_expires():
    with Queue() as c:
        a = c.gated(c.notify(on="expiring", more="approvals: {decide_by: 10s}\n"))
        assert not c.said("opened")
        c.until(lambda: c.waiting() is not None and c.said("expiring"), 20)  # a client keeps the supervisor
        assert c.said("expiring")[0][0] == a["approval"]
        assert c.said("denied") == [] and c.said("expired") == []


def test_what_was_not_told_is_told_by_the_next_supervisor():
    with Queue() as c:
        a = c.gated(c.notify(command="test -e \"$0/go\" || sleep 30; cat > \"$0/$1-$2.$$\""))
        time.sleep(0.5)
        os.kill(c.daemon(), signal.SIGKILL)
        open(os.path.join(c.told, "go-x"), "w").close()
        os.rename(os.path.join(c.told, "go-x"), os.path.join(c.told, "go"))
        assert c.json("queue")[1]["approvals"][0]["approval"] == a["approval"]
        c.until(lambda: [n for n in os.listdir(c.told) if n.startswith("opened-" + a["approval"])])


def test_a_command_that_fails_holds_nothing_up():
    with Queue() as c:
        a = c.gated(c.notify(command="exit 3"))
        assert c.run("approve", a["approval"], "--no-input", "--digest", a["card_digest"])[0] == 0
        c.until(lambda: c.json("status", a["run"])[1]["state"] == "succeeded")


def test_the_command_of_notify_has_the_walls_of_a_step():
    with Queue() as c:
        secret = os.path.join(c.root, "secret")
        with open(secret, "w") as f:
            f.write("x")
        c.gated(c.notify(command=f"cat {secret} > \"$0/$1-$2.x\" 2>&1; echo w > a.txt; ls {c.state} >> \"$0/$1-$2.x\" 2>&1; true"))
        c.until(lambda: c.said("opened"))
        time.sleep(0.2)
        said = c.said("opened")[0][1]
        assert "No such file" in said or "ermission denied" in said, said
        assert c.read("a.txt") == "one\n"


# ---- the list

def test_what_expires_first_is_listed_first_and_numbers_are_kept():
    with Queue() as c:
        late = c.gated(c.policy("approvals: {decide_by: 20d}\n"))
        c.run("run", c.plan(GATED, "two.yaml"), "--policy", c.policy("approvals: {decide_by: 1h}\n"), "--no-input")
        listed = c.waiting()
        assert [a["approval"] for a in listed][1] == late["approval"], listed
        assert c.run("approve", late["approval"], "--no-input", "--digest", late["card_digest"])[0] == 0
        assert c.run("deny", listed[0]["approval"], "--no-input", "--digest", listed[0]["card_digest"])[0] == 0
        stats = c.json("queue", "--stats")[1]
        gate = next(r for r in stats["rules"] if r["rule"] == "step-gate")
        assert (gate["asked"], gate["approved"], gate["denied"], gate["open"]) == (2, 1, 1, 0), gate
        assert "step-gate" in c.run("queue", "--stats")[1]


# ---- the terminal that asks

class Terminal:
    """holdfast queue -i in a real pseudo-terminal; what it shows is kept as a screen of characters."""

    def __init__(self, c, rows=24, cols=80):
        self.c, self.rows, self.cols, self.raw = c, rows, cols, b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(c.tree)
            os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, "queue", "-i"], {**c.env, "TERM": "xterm"})
        self.size(rows, cols)

    def size(self, rows, cols):
        import fcntl
        import struct
        import termios
        self.rows, self.cols = rows, cols
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)

    def pump(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    return
                if not data:
                    return
                self.raw += data

    def screen(self):
        """The last picture: it is drawn anew each time."""
        last = self.raw.split(b"\x1b[H\x1b[2J")[-1].decode(errors="replace")
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", last)

    def until(self, text, seconds=10):
        end = time.monotonic() + seconds
        while text not in self.screen():
            assert time.monotonic() < end, f"never {text!r}:\n{self.screen()}"
            self.pump(0.05)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def ended(self, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("it did not end")


def open_item(c, item):
    return c.json("show", item["approval"])[1]["state"] == "open"


def test_a_word_decides_on_the_terminal_and_the_time_on_screen_is_kept():
    with Queue() as c:
        a = c.gated(c.policy(""))
        with Terminal(c) as t:
            t.until("1 waits for you")
            assert b"\x1b[?1049h" in t.raw and b"\x1b[?2004h" in t.raw
            t.type("\r")
            t.until("d: decide")
            time.sleep(0.6)
            t.type("d")
            t.until("type one of: approve deny")
            t.type("approve\r")
            t.until("0 wait for you")
            t.type("q")
            assert t.ended() == 0
            assert t.raw.rstrip().endswith(b"approved") and b"\x1b[?1049l" in t.raw, t.raw[-200:]
        item = c.json("show", a["approval"])[1]
        assert item["state"] in ("approved", "consumed") and item["votes"][0]["shown_ms"] >= 500, item
        assert c.json("queue", "--stats")[1]["all"]["shown_ms"] >= 500


def test_enter_typeahead_and_a_paste_decide_nothing():
    with Queue() as c:
        a = c.gated(c.policy(""))
        with Terminal(c) as t:
            t.until("1 waits for you")
            t.type("\r" + "d" + "approve\r")  # all of it before the card can have been read
            t.until("d: decide")
            t.pump(0.6)
            assert open_item(c, a) and "type one of" not in t.screen(), t.screen()
            for keys in ("\r", "\r\r\r", "y", "yes\r", "approve\r", "a"):
                t.type(keys)
                t.pump(0.2)
                assert open_item(c, a), keys
            t.type("\x1b[200~d\x1b[201~")
            t.pump(0.2)
            assert "type one of" not in t.screen()
            t.type("d")
            t.until("type one of")
            t.type("\x1b[200~approve\r\x1b[201~")
            t.pump(0.2)
            t.type("\r")
            t.until("nothing was decided")
            for word in ("APPROVE\r", "approved\r", "appro\r"):
                t.type("d")
                t.until("type one of")
                t.type(word)
                t.until("nothing was decided")
            assert open_item(c, a)


def test_control_c_leaves_and_the_terminal_is_as_before():
    import termios
    with Queue() as c:
        a = c.gated(c.policy(""))
        with Terminal(c) as t:
            before = termios.tcgetattr(t.fd)
            t.until("1 waits for you")
            assert termios.tcgetattr(t.fd)[3] != before[3]
            t.type("\r")
            t.until("d: decide")
            t.pump(0.5)
            t.type("d")
            t.until("type one of")
            t.type("approv\x03")
            assert t.ended() == 0
            assert b"\x1b[?1049l" in t.raw and b"\x1b[?25h" in t.raw
            assert termios.tcgetattr(t.fd)[3] & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON
        assert open_item(c, a)


def test_a_small_terminal_shows_all_of_the_card_before_anything_can_be_said():
    with Queue() as c:
        a = c.gated(c.policy(""), GATED.replace("[/bin/true]", "[/bin/echo, " + ", ".join(f"argument-number-{i}" for i in range(18)) + "]"))
        with Terminal(c, 8, 30) as t:
            t.until("1 waits for you")
            t.type("\r")
            t.until("there is more")
            t.pump(0.5)
            t.type("d")
            t.pump(0.3)
            assert "type one of" not in t.screen(), t.screen()
            for line in t.screen().split("\r\n"):
                assert len(line) <= 30, line
            t.size(40, 100)
            t.until("d: decide")
            t.type("d")
            t.until("type one of")
            t.type("deny\r")
            t.until("0 wait for you")
        assert c.json("show", a["approval"])[1]["state"] == "denied"


def test_what_was_decided_elsewhere_is_said_and_cannot_be_decided_again():
    with Queue() as c:
        a = c.gated(c.policy(""))
        with Terminal(c) as t:
            t.until("1 waits for you")
            t.type("\r")
            t.until("d: decide")
            assert c.run("deny", a["approval"], "--no-input", "--digest", a["card_digest"])[0] == 0
            t.until("it is denied already")
            t.type("d")
            t.pump(0.3)
            assert "type one of" not in t.screen()


def test_without_a_terminal_it_says_so():
    with Queue() as c:
        c.gated(c.policy(""))
        code, _, err = c.run("queue", "-i")
        assert code == 2 and "terminal" in err, (code, err)


if __name__ == "__main__":
    main(sys.modules[__name__])
