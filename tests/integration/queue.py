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


if __name__ == "__main__":
    main(sys.modules[__name__])
