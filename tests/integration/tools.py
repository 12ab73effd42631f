"""Tools through the gate: what a step may call, what a person decides on, and that exactly that runs, once."""

import json
import os
import signal
import subprocess
import sys
import time

from cli import HOLDFAST, Cli
from supervised import main

BUILD = os.environ["HOLDFAST_BUILD"]


class Tools(Cli):
    """Tools write what they were called with to a folder that only they may write to."""

    def __init__(self):
        super().__init__()
        os.chmod(self.root, 0o755)
        self.log = os.path.join(self.root, "log")
        os.mkdir(self.log)
        self.program = os.path.join(self.root, "mail")
        self.tool("echo \"$@\" >> " + self.log + "/calls; echo sent; echo \"$@\"")

    def tool(self, text):
        with open(self.program + ".new", "w") as f:
            f.write("#!/bin/sh\n" + text + "\n")
        os.chmod(self.program + ".new", 0o755)
        os.rename(self.program + ".new", self.program)

    def policy(self, tools, more=""):
        path = os.path.join(self.root, "policy.yaml")
        with open(path, "w") as f:
            f.write(f"version: 1\nname: t\nextends: [offline]\nfs:\n"
                    f"  - {{path: {self.log}, access: rw}}\n{more}tools:\n{tools}")
        return path

    def mail(self, do="ask", more=""):
        return f"  - {{id: mail, do: {do}, run: [{self.program}, -v], args: {{to: \"*\", text: \"*\"}}{more}}}\n"

    def start(self, policy, script, name="p"):
        plan = f"name: {name}\nland: never\nsteps:\n  - {{name: agent, retry: {{max: 1}}, run: [/bin/sh, -c, {json.dumps(script)}]}}\n"
        return self.json("run", self.plan(plan), "--policy", policy, "--detach")[1]["run"]

    def call(self, *args):
        return " ".join(["holdfast", "tool", "mail", *args])

    def over(self, run, seconds=60):
        self.until(lambda: self.json("status", run)[1]["state"] in ("succeeded", "failed"), seconds)
        return self.json("status", run)[1]["state"]

    def asked(self):
        self.until(self.waiting)
        return self.json("show", self.waiting()[0]["approval"])[1]

    def show(self, item):
        return self.json("show", item["approval"])[1]

    def vote(self, word, a, *args):
        return self.run(word, a["approval"], "--no-input", "--digest", a["card_digest"], *args)

    def calls(self):
        try:
            with open(os.path.join(self.log, "calls")) as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def output(self, run):
        return self.run("show", run, "agent")[1]


def test_a_tool_that_is_allowed_runs_outside_the_step():
    with Tools() as c:
        run = c.start(c.policy(c.mail("allow", ", effect: read")), c.call("--to", "a@b", "--text='two words'"))
        assert c.over(run) == "succeeded", c.output(run)
        assert c.calls() == ["-v --text=two words --to=a@b"], c.calls()
        assert "sent" in c.output(run), c.output(run)


def test_the_client_inside_is_one_file_that_needs_nothing_of_the_host():
    with Tools() as c:
        script = ("command -v holdfast; ls /run/holdfast/bin; ls -l /run/holdfast/bin/holdfast; echo x 2>&- >>/run/holdfast/bin/holdfast || echo kept; "
                  "rm /run/holdfast/bin/holdfast 2>/dev/null || echo stays; holdfast exec -- true; echo status $?; holdfast tool; echo status $?")
        run = c.start(c.policy(c.mail("allow", ", effect: read")), script)
        assert c.over(run) == "succeeded", c.output(run)
        out = c.output(run)
        assert "/run/holdfast/bin/holdfast\nholdfast\n" in out and "kept" in out and "stays" in out, out
        assert out.count("status 2") == 2 and "Holdfast's other commands are outside" in out, out
        header = subprocess.run(["readelf", "-ld", os.path.join(BUILD, "sandbox", "holdfast-tool")], capture_output=True, text=True, check=True).stdout
        assert "INTERP" not in header and "NEEDED" not in header, header
        # a host's own holdfast inside is the same, and a step whose policy has no tools has none
        run = c.start(c.policy(c.mail("allow", ", effect: read"), f"  - {{path: {BUILD}, access: rx}}\n"), f"{HOLDFAST} tool mail --to a@b --text t", "q")
        assert c.over(run) == "succeeded" and "sent" in c.output(run), c.output(run)
        assert c.run("exec", "--", "/bin/sh", "-c", "command -v holdfast; test -e /run/holdfast/bin")[0] != 0


def test_a_tool_that_asks_waits_and_is_run_once():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi").replace("tool ", "tool --reason 'they asked' ", 1))
        a = c.asked()
        assert a["kind"] == "effect" and "mail" in a["card"] and "a@b" in a["card"], a
        assert "(the agent's words; nobody checked them) they asked\n" in a["card"], a["card"]
        assert c.calls() == []
        assert c.vote("approve", a)[0] == 0
        assert c.over(run) == "succeeded", c.output(run)
        assert c.calls() == ["-v --text=hi --to=a@b"]


def test_a_tool_that_is_denied_says_so_inside():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi") + "; echo status $?")
        assert c.vote("deny", c.asked(), "--reason", "not today")[0] == 0
        assert c.over(run) == "succeeded"
        assert "status 3" in c.output(run) and c.calls() == [], c.output(run)


def test_what_the_policy_does_not_name_is_refused_unasked():
    with Tools() as c:
        script = ("holdfast tool other --x y; echo status $?; holdfast tool mail --to a@b; echo status $?; "
                  "holdfast tool mail --to a@b --text hi --more x; echo status $?; holdfast tool ../mail --to a --text b; echo status $?")
        run = c.start(c.policy(c.mail()), script)
        assert c.over(run) == "succeeded"
        assert c.output(run).count("status 3") + c.output(run).count("status 8") == 4, c.output(run)
        assert not c.waiting() and c.calls() == []


def test_the_program_that_was_approved_runs_whatever_stands_there_by_then():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi"))
        a = c.asked()
        c.tool("echo swapped >> " + c.log + "/calls")
        assert c.vote("approve", a)[0] == 0
        assert c.over(run) == "succeeded", c.output(run)
        assert c.calls() == ["-v --text=hi --to=a@b"], c.calls()


def test_a_grant_lets_the_same_program_with_its_arguments_only():
    with Tools() as c:
        script = "; ".join(c.call("--to", to, "--text", text) for to, text in
                           (("a@acme.example", "1"), ("b@acme.example", "2"), ("all@press.example", "3"), ("c@acme.example", "4"), ("d@acme.example", "5")))
        run = c.start(c.policy(c.mail()), script)
        a = c.asked()
        code, out, err = c.run("approve", a["approval"], "--no-input", "--digest", a["card_digest"], "--grant", "to=*@press.example")
        assert code == 2 and "does not cover" in err, (code, err)
        code, out, err = c.run("approve", a["approval"], "--no-input", "--digest", a["card_digest"], "--grant", "to=*@acme.example", "--uses", "2")
        assert code == 0 and "would have let 1 of the last 1" in out, (code, out, err)
        c.until(lambda: c.waiting() and "press" in c.show(c.waiting()[0])["card"])
        assert len(c.calls()) == 2
        assert c.vote("deny", c.asked())[0] == 0
        c.until(lambda: c.waiting() and "d@acme" in c.show(c.waiting()[0])["card"])  # the third use
        assert [x.split("=")[-1] for x in c.calls()] == ["a@acme.example", "b@acme.example", "c@acme.example"], c.calls()
        grant = c.json("status", run)[1]["grants"][0]
        assert grant["uses_left"] == 0 and not grant["holds"], grant
        assert c.vote("deny", c.asked(), "--rule")[0] == 0
        c.over(run)


def test_a_rule_that_was_denied_asks_nobody_again():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), "; ".join(c.call("--to", "a@b", "--text", str(i)) for i in range(3)) + "; echo over")
        assert c.vote("deny", c.asked(), "--rule")[0] == 0
        assert c.over(run) == "succeeded"
        assert not c.waiting() and c.calls() == [] and "over" in c.output(run)


def test_a_grant_that_is_taken_back_asks_again():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), f"{c.call('--to', 'a@b', '--text', '1')}; while ! test -e {c.log}/go; do sleep 0.05; done; " + c.call("--to", "a@b", "--text", "2"))
        a = c.asked()
        assert c.run("approve", a["approval"], "--no-input", "--digest", a["card_digest"], "--grant", "to=a@b", "--grant", "text=*", "--uses", "5")[0] == 0
        c.until(c.calls)
        grant = c.json("status", run)[1]["grants"][0]["grant"]
        assert c.run("deny", run, "--revoke", grant)[0] == 0
        assert c.run("deny", run, "--revoke", grant)[0] == 9
        open(os.path.join(c.log, "go"), "w").close()
        assert "text = 2" in c.asked()["card"] and len(c.calls()) == 1
        assert c.vote("deny", c.asked())[0] == 0
        c.over(run)


def test_standing_of_the_policy_is_used_as_often_as_it_says():
    with Tools() as c:
        standing = ("agency: trusted\nstanding:\n  - {rule: mail, match: {to: \"*@acme.example\"}, uses: 2, expires: \"2999-01-01\", why: the team}\n")
        run = c.start(c.policy(c.mail("allow", ", effect: irreversible"), standing),
                      "; ".join(c.call("--to", f"{i}@acme.example", "--text", "x") for i in range(3)))
        a = c.asked()
        assert "2@acme.example" in a["card"] and len(c.calls()) == 2, (a["card"], c.calls())
        assert c.vote("deny", a)[0] == 0
        c.over(run)


def test_a_supervisor_that_dies_while_a_tool_runs_does_not_run_it_twice():
    with Tools() as c:
        c.tool("echo \"$@\" >> " + c.log + "/calls; sleep 2; echo done")
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi"))
        assert c.vote("approve", c.asked())[0] == 0
        c.until(c.calls)
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        resumed = subprocess.Popen([HOLDFAST, "--state", c.state, "resume", run], env=c.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        a = c.asked()
        assert a["kind"] == "doubt", a
        assert len(c.calls()) == 1
        assert c.vote("approve", a, "--as", "done")[0] == 0
        assert c.over(run) == "succeeded", c.output(run)
        assert "by the word of" in c.output(run), c.output(run)
        assert len(c.calls()) == 1, c.calls()
        resumed.wait(30)


def test_a_call_is_text_and_nothing_of_it_is_read_as_more():
    """Values that look like options, shells, escapes and more arguments reach the tool as the one value that they are."""
    with Tools() as c:
        c.tool("for a; do printf '<%s>' \"$a\"; done >> " + c.log + "/calls; echo >> " + c.log + "/calls")
        odd = ["--to=x", "$(id)", "a b&text=c", "%2e%00", "'; rm -rf /; '", "-", "a=b=c"]
        run = c.start(c.policy(c.mail("allow", ", effect: read")), "; ".join(c.call("--to", "\"$V\"") .replace("\"$V\"", "'" + v.replace("'", "'\\''") + "'") + " --text t" for v in odd))
        c.over(run)
        assert c.calls() == [f"<-v><--text=t><--to={v}>" for v in odd], (c.calls(), c.output(run))


def test_a_tool_with_a_secret_is_refused_rather_than_run_without():
    with Tools() as c:
        secret = os.path.join(c.root, "secret")
        with open(secret, "w") as f:
            f.write("x" * 20)
        os.chmod(secret, 0o600)
        more = f"secrets:\n  s: {{from: {{file: {secret}}}, to: [a.example.com], header: X-Key}}\n"
        run = c.start(c.policy(c.mail("allow", ", effect: read, secret: s"), more), c.call("--to", "a", "--text", "b") + "; echo status $?")
        c.over(run)
        assert c.calls() == [] and "status 0" not in c.output(run), c.output(run)


if __name__ == "__main__":
    main(sys.modules[__name__])
