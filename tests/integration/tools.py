"""Tools through the gate: what a step may call, what a person decides on, and that exactly that runs, once."""

import json
import os
import signal
import subprocess
import sys
import time

from cli import HOLDFAST, Cli
from supervised import Client, main

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


def test_a_reason_that_is_cut_within_a_character_ends_nobody():
    with Tools() as c:
        reason = "a" * 199 + "\u00e9"
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi").replace("tool ", f"tool --reason '{reason}' ", 1))
        a = c.asked()
        card = a["card"].replace("\n          > ", "")
        assert "nobody checked them) " + "a" * 199 + "\n" in card, card
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


def test_a_refused_call_is_named_in_the_record():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), "holdfast tool other --x \"$(printf 'y\\033[31m')\"; holdfast tool mail --to a@b; true")
        assert c.over(run) == "succeeded"
        log = c.run("log", run)[1]
        assert "denied tool other x=y\\x1b[31m -> 403" in log and "denied tool mail to=a@b -> 403" in log, log


def test_a_card_of_a_tool_says_what_runs():
    with Tools() as c:
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi"))
        a = c.asked()
        assert a["title"] == "run tool mail text=hi to=a@b", a["title"]
        assert f"\ncommand    {c.program}\n           -v\n" in a["card"], a["card"]
        assert f"\nprogram    {c.program} " in a["card"], a["card"]
        assert "it is run, once" in a["card"] and "sent" not in a["card"], a["card"]
        assert c.vote("deny", a)[0] == 0
        c.over(run)


def test_output_that_is_cut_is_said_to_be_cut():
    with Tools() as c:
        c.tool("head -c 70000 /dev/zero | tr '\\0' x")
        run = c.start(c.policy(c.mail("allow", ", effect: read")), c.call("--to", "a@b", "--text", "hi") + " 2>said | wc -c; cat said")
        assert c.over(run) == "succeeded", c.output(run)
        out = c.output(run)
        assert "65536\n" in out and "cut: the tool wrote 70000 bytes" in out, out
        c.tool("head -c 65536 /dev/zero | tr '\\0' x")
        run = c.start(c.policy(c.mail("allow", ", effect: read")), c.call("--to", "a@b", "--text", "hi") + " 2>said | wc -c; cat said", "q")
        assert c.over(run) == "succeeded" and "cut" not in c.output(run), c.output(run)


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
        assert code == 0 and "would have let 1 of the last 1" in out and "it binds to alone: a path, host, method or field" in out, (code, out, err)
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


def test_a_call_with_a_nul_is_refused_and_said_so():
    """argv ends at a NUL: a glob, a card and a digest over all of the text would be of another call than the one that runs."""
    with Tools() as c:
        for do, name in (("allow", "p"), ("ask", "q")):
            tools = c.mail(do, ", effect: read" if do == "allow" else "").replace("to: \"*\"", "to: \"*@acme.example\"")
            at = "http://tools.holdfast.internal/mail?text=t&to=eve%40evil.example%00%40acme.example"
            run = c.start(c.policy(tools), f"curl -sS -o - -w ' %{{http_code}}' -X POST '{at}'", name)
            assert c.over(run) == "succeeded", c.output(run)
            out = c.output(run)
            assert out.rstrip().endswith(" 400") and "holds a NUL" in out, out
            assert not c.waiting() and c.calls() == [], c.calls()
            assert "holds a NUL" in c.run("log", run)[1], c.run("log", run)[1]


def secret_of(c, value="tool-s3cret-value"):
    path = os.path.join(c.root, "secret")
    with open(path, "w") as f:
        f.write(value + "\n")
    os.chmod(path, 0o600)
    return f"secrets:\n  s: {{from: {{file: {path}}}, to: [a.example.com], header: X-Key, env: MAIL_KEY}}\n"


def test_a_secret_is_in_the_tools_sandbox_and_in_no_other():
    with Tools() as c:
        c.tool("printenv MAIL_KEY | tr a-z A-Z >> " + c.log + "/calls; echo done")
        run = c.start(c.policy(c.mail("allow", ", effect: read, secret: s"), secret_of(c)),
                      "printenv MAIL_KEY || echo none; printenv | grep -c s3cret; " + c.call("--to", "a", "--text", "b"))
        assert c.over(run) == "succeeded", c.output(run)
        out = c.output(run)
        assert c.calls() == ["TOOL-S3CRET-VALUE"], (c.calls(), out)
        assert "tool-s3cret-value" not in out and "holdfast-" in out and "done" in out, out  # the step holds a placeholder
        for folder, _, names in os.walk(c.state):
            for name in (n for n in names if os.path.isfile(os.path.join(folder, n))):
                with open(os.path.join(folder, name), "rb") as f:
                    assert b"tool-s3cret-value" not in f.read(), os.path.join(folder, name)


def test_a_tool_that_writes_its_secret_is_not_heard():
    with Tools() as c:
        for form in ("printenv MAIL_KEY", "printenv MAIL_KEY >&2", "printenv MAIL_KEY | base64", "(printf %050d 0; printenv MAIL_KEY) | base64 | sed 's/$/\\r/'", "printenv MAIL_KEY | od -An -tx1 | tr -d ' \\n'"):
            c.tool(form + "; echo and more")
            run = c.start(c.policy(c.mail("allow", ", effect: read, secret: s"), secret_of(c)), c.call("--to", "a", "--text", "b"), "w" + str(abs(hash(form))))
            assert c.over(run) == "succeeded", c.output(run)
            out = c.output(run)
            assert "and more" not in out and "withheld" in c.run("show", run, "agent")[1] + c.run("show", run, "agent")[2], (form, out)


def test_a_variable_that_a_secret_comes_from_is_in_no_journal_and_no_step():
    with Tools() as c:
        c.env["MAIL_FROM"], c.env["MAIL_FOLDER"] = "env-s3cret-value", "kept"
        c.tool("printenv MAIL_KEY | tr a-z A-Z >> " + c.log + "/calls; printenv MAIL_FROM || echo done")
        more = ("env: {keep: [PATH, \"MAIL_*\"]}\nsecrets:\n  s: {from: {env: MAIL_FROM}, to: [a.example.com], header: X-Key, env: MAIL_KEY}\n")
        policy = c.policy(c.mail("allow", ", effect: read, secret: s"), more)
        run = c.start(policy, "printenv MAIL_FROM || echo none; printenv MAIL_FOLDER; " + c.call("--to", "a", "--text", "b"))
        assert c.over(run) == "succeeded", c.output(run)
        out = c.output(run)
        assert "env-s3cret-value" not in out and "none\nkept\n" in out and "done" in out, out
        assert c.calls() == ["ENV-S3CRET-VALUE"], (c.calls(), out)
        assert "W0608" in "".join(c.run("policy", "check", policy)[1:])
        for folder, _, names in os.walk(c.state):
            for name in (n for n in names if os.path.isfile(os.path.join(folder, n))):
                with open(os.path.join(folder, name), "rb") as f:
                    assert b"env-s3cret-value" not in f.read(), os.path.join(folder, name)


def test_a_secret_that_cannot_be_read_lets_nothing_run():
    with Tools() as c:
        more = secret_of(c)
        os.chmod(os.path.join(c.root, "secret"), 0o644)
        run = c.start(c.policy(c.mail("allow", ", effect: read, secret: s"), more), c.call("--to", "a", "--text", "b") + "; echo status $?")
        c.over(run)
        assert c.calls() == [] and "status 0" not in c.output(run), c.output(run)


def test_a_projects_policy_gives_no_tool_a_secret():
    with Tools() as c:
        os.mkdir(c.path(".holdfast"))
        with open(c.path(".holdfast/policy.yaml"), "w") as f:
            f.write(f"version: 1\nname: p\nkind: grant\nextends: [offline]\nfs:\n  - {{path: {c.log}, access: rw}}\ntools:\n"
                    + c.mail("allow", ", effect: read, secret: s"))
        os.makedirs(os.path.join(c.env["HOME"], ".config/holdfast"))
        with open(os.path.join(c.env["HOME"], ".config/holdfast/policy.yaml"), "w") as f:
            f.write("version: 1\nname: u\nkind: ceiling\n" + secret_of(c))
        assert c.run("trust", c.path(".holdfast/policy.yaml"), "--yes")[0] == 0 or c.run("trust", c.path(".holdfast/policy.yaml"))[0] == 0
        run = c.json("run", c.plan(f"name: p\nland: never\nsteps:\n  - {{name: agent, retry: {{max: 1}}, run: [/bin/sh, -c, \"holdfast tool mail --to a --text b; echo status $?\"]}}\n"), "--detach")[1]["run"]
        c.over(run)
        assert c.calls() == [] and "gives no tool a secret" in c.output(run), c.output(run)


def test_a_file_that_the_command_names_is_the_one_that_was_approved():
    with Tools() as c:
        script = os.path.join(c.root, "send.sh")

        def write(word):
            with open(script + ".new", "w") as f:
                f.write(f"echo {word} \"$@\" >> {c.log}/calls\n")
            os.rename(script + ".new", script)

        write("approved")
        tools = f"  - {{id: mail, do: ask, run: [/bin/sh, {script}, /no/such/file], args: {{to: \"*\", text: \"*\"}}}}\n"
        run = c.start(c.policy(tools), c.call("--to", "a@b", "--text", "hi"))
        a = c.asked()
        assert "word 1 " in a["card"], a["card"]
        write("swapped")
        assert c.vote("approve", a)[0] == 0
        assert c.over(run) == "succeeded", c.output(run)
        assert c.calls() == ["approved /no/such/file --text=hi --to=a@b"], c.calls()
        run = c.start(c.policy(tools), c.call("--to", "a@b", "--text", "hi"), "q")  # other bytes: another card, another digest
        b = c.asked()
        assert b["card_digest"] != a["card_digest"] and [x for x in b["card"].splitlines() if "word 1" in x] != [x for x in a["card"].splitlines() if "word 1" in x]
        assert c.vote("deny", b)[0] == 0
        c.over(run)


def test_an_interpreter_that_env_finds_is_in_the_card():
    with Tools() as c:
        with open(c.program, "w") as f:
            f.write(f"#!/usr/bin/env python3\nimport sys\nopen('{c.log}/calls', 'a').write('python ' + ' '.join(sys.argv[1:]) + '\\n')\n")
        digest = subprocess.run(["sha256sum", os.path.realpath("/usr/bin/python3")], capture_output=True, text=True, check=True).stdout[:16]
        run = c.start(c.policy(c.mail()), c.call("--to", "a@b", "--text", "hi"))
        a = c.asked()
        assert f"run by {digest}" in a["card"], (digest, a["card"])
        assert c.vote("approve", a)[0] == 0
        assert c.over(run) == "succeeded", c.output(run)
        assert c.calls() == ["python -v --text=hi --to=a@b"], c.calls()


def test_a_tools_own_limits_hold_for_it_alone():
    with Tools() as c:
        c.tool("echo began >> " + c.log + "/calls; sleep 30; echo late >> " + c.log + "/calls")
        begun = time.monotonic()
        run = c.start(c.policy(c.mail("allow", ", limits: {wall: 1s}"), "agency: autonomous\n"), "sleep 2; " + c.call("--to", "a", "--text", "b") + " & wait; echo on")
        a = c.asked()
        assert a["kind"] == "doubt" and time.monotonic() - begun < 20, a
        assert c.calls() == ["began"]
        assert c.vote("approve", a, "--as", "abandon")[0] == 0
        assert c.over(run) == "succeeded" and "on" in c.output(run), c.output(run)


def test_a_probe_says_what_became_of_a_call_that_nobody_saw_end():
    with Tools() as c:
        probe = os.path.join(c.root, "look")
        for exit_status, calls, ends in ((0, 1, "by the word of"), (1, 2, "sent"), (2, 1, None)):
            for name in ("calls", "asked"):
                if os.path.exists(os.path.join(c.log, name)):
                    os.remove(os.path.join(c.log, name))
            with open(probe, "w") as f:
                f.write(f"#!/bin/sh\necho \"$@\" >> {c.log}/asked; exit {exit_status}\n")
            os.chmod(probe, 0o755)
            c.tool("echo \"$@\" >> " + c.log + "/calls; test $(wc -l < " + c.log + "/calls) -gt 1 || sleep 2; echo sent")
            tools = c.mail("allow", ", retry: {probe: {tool: look}}") + f"  - {{id: look, do: allow, run: [{probe}], args: {{key: \"*\"}}, effect: read}}\n"
            run = c.start(c.policy(tools, "agency: autonomous\n"), c.call("--to", "a@b", "--text", "hi") + " || " + c.call("--to", "a@b", "--text", "hi"), f"n{exit_status}")
            c.until(c.calls)
            os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
            resumed = subprocess.Popen([HOLDFAST, "--state", c.state, "resume", run], env=c.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if ends is None:
                a = c.asked()
                assert a["kind"] == "doubt", a
                assert c.vote("approve", a, "--as", "done")[0] == 0
            assert c.over(run) == "succeeded", (exit_status, c.output(run))
            resumed.wait(30)
            with open(os.path.join(c.log, "asked")) as f:
                asked = f.read().splitlines()
            assert len(c.calls()) == calls and asked and all(x.startswith("--key=") for x in asked), (exit_status, c.calls(), asked)
            assert ends is None or ends in c.output(run), (exit_status, c.output(run))


def test_what_its_rule_can_take_back_is_taken_back_once():
    with Tools() as c:
        back = os.path.join(c.root, "unsend")

        def write(text):
            with open(back, "w") as f:
                f.write("#!/bin/sh\n" + text + "\n")
            os.chmod(back, 0o755)

        write(f"echo cannot >&2; echo tried >> {c.log}/back; exit 4")
        tools = (c.mail("allow", ", effect: reversible, undo: {tool: unsend}")
                 + f"  - {{id: unsend, do: ask, run: [{back}], args: {{key: \"*\"}}}}\n"
                 + c.mail("allow", ", effect: reversible, undo: {text: write to them again}").replace("id: mail", "id: note"))
        run = c.start(c.policy(tools), c.call("--to", "a@b", "--text", "hi") + "; " + c.call("--to", "a@b", "--text", "hi").replace("mail", "note"))
        assert c.over(run) == "succeeded", c.output(run)
        done = {e["rule"]: e["effect"] for e in c.json("status", run)[1]["effects_done"]}
        shown = c.run("show", done["mail"])[1]
        assert f"holdfast undo --effect {done['mail'][:8]} runs tool unsend" in shown, shown
        assert "by hand: write to them again" in c.run("show", done["note"])[1]
        code, _, err = c.run("undo", "--effect", done["note"])
        assert code == 2 and "write to them again" in err, (code, err)
        code, _, err = c.run("undo", "--effect", done["mail"])
        assert code == 1 and "status 4: cannot" in err, (code, err)
        assert c.json("show", done["mail"])[1]["state"] == "confirmed"
        write(f"echo \"$@\" >> {c.log}/back")
        code, out, err = c.run("undo", "--effect", done["mail"])
        assert code == 0 and "taken back" in out, (code, out, err)
        with open(os.path.join(c.log, "back")) as f:
            lines = f.read().splitlines()
        key = lines[1].split()[0]
        assert lines[0] == "tried" and len(lines) == 2 and key.startswith("--key=") and lines[1] == f"{key} --text=hi --to=a@b", lines
        assert c.json("show", done["mail"])[1]["state"] == "compensated"
        code, _, err = c.run("undo", "--effect", done["mail"])
        assert code == 9 and "already" in err, (code, err)
        log = c.run("log", run)[1]
        assert "EFFECT_COMPENSATED" in log or "compensated" in log, log
        # and it stays so for the next supervisor
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        assert c.json("show", done["mail"])[1]["state"] == "compensated"
        assert c.run("fsck")[0] == 0 and c.run("verify")[0] == 0
        assert c.run("undo", "--effect", "ffff")[0] == 2


def test_a_taking_back_that_is_asked_again_is_the_same_one():
    with Tools() as c:
        back, calls, end = (os.path.join(folder, name) for folder, name in ((c.root, "unsend"), (c.log, "back"), (c.log, "end")))
        with open(back, "w") as f:
            f.write(f"#!/bin/sh\necho called >> {calls}; while ! test -e {end}; do sleep 0.05; done\n")
        os.chmod(back, 0o755)
        run = c.start(c.policy(c.mail("allow", ", effect: reversible, undo: {tool: unsend}")
                               + f"  - {{id: unsend, do: ask, run: [{back}], args: {{key: \"*\"}}}}\n"), c.call("--to", "a@b", "--text", "hi"))
        assert c.over(run) == "succeeded", c.output(run)
        effect = c.json("status", run)[1]["effects_done"][0]["effect"]
        with open(os.path.join(c.state, "runtime")) as f:
            runtime = f.read()

        def ask():
            client = Client(runtime)
            client.send(f"POST /v1/effects/{effect}/undo HTTP/1.1\r\nHost: h\r\nHoldfast-Request: once\r\nContent-Length: 0\r\n\r\n".encode())
            return client

        first = ask()
        c.until(lambda: os.path.exists(calls))
        first.close()  # its answer is lost
        second = ask()
        assert c.run("show", effect)[0] == 0  # asked behind it: the second one has been read, too
        with open(end, "w"):
            pass
        answers = [second.answer(), ask().answer()]
        for a in answers:
            assert a.status == 200 and a.json()["state"] == "compensated" and a.body == answers[0].body, a
        with open(calls) as f:
            assert f.read() == "called\n"


def test_gc_drops_no_run_of_which_an_effect_is_being_taken_back():
    with Tools() as c:
        back, go, begun, end = (os.path.join(folder, name) for folder, name in
                                ((c.root, "unsend"), (c.root, "go"), (c.log, "begun"), (c.log, "end")))
        with open(back, "w") as f:
            f.write(f"#!/bin/sh\necho x > {begun}; while ! test -e {end}; do sleep 0.05; done\n")
        os.chmod(back, 0o755)
        c.env["HOLDFAST_FAILPOINT"] = f"audits.work=hold:{go}@2"  # the first lists what would go
        run = c.start(c.policy(c.mail("allow", ", effect: reversible, undo: {tool: unsend}")
                               + f"  - {{id: unsend, do: ask, run: [{back}], args: {{key: \"*\"}}}}\n"), c.call("--to", "a@b", "--text", "hi"))
        assert c.over(run) == "succeeded", c.output(run)
        effect = c.json("status", run)[1]["effects_done"][0]["effect"]
        pid = c.json("status")[1]["daemon"]["pid"]
        time.sleep(1.1)  # the time that is sent has no fraction
        asked = [subprocess.Popen([HOLDFAST, "--state", c.state, *words], env=c.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL) for words in (("--json", "gc", "--older-than", "0s", "--yes"), ("undo", "--effect", effect))]
        c.until(lambda: os.path.exists(begun))
        time.sleep(1)  # gc has begun by then, or begins while the tool runs: it is to drop nothing in either
        with open(go, "w"):
            pass
        out, err = asked[0].communicate(timeout=60)
        assert asked[0].returncode == 0 and json.loads(out)["runs"] == 0, (out, err)
        with open(end, "w"):
            pass
        out, err = asked[1].communicate(timeout=60)
        assert asked[1].returncode == 0 and "taken back" in out, (out, err)
        time.sleep(1.6)  # two idle ticks without a client: its rows leave memory
        assert c.json("show", effect)[1]["state"] == "compensated" and c.json("status")[1]["daemon"]["pid"] == pid
        code, done = c.json("gc", "--older-than", "0s", "--yes")
        assert code == 0 and done["runs"] == 1, done


def test_calls_of_a_run_are_decided_again_by_another_policy():
    with Tools() as c:
        policy = c.policy(c.mail("allow", ", effect: read"))
        run = c.start(policy, "; ".join(c.call("--to", to, "--text", "x") for to in ("a@acme.example", "b@press.example")))
        assert c.over(run) == "succeeded", c.output(run)
        assert c.run("policy", "test", "--replay", run)[0] == 0
        with open(policy) as f:
            narrower = f.read().replace('to: "*"', 'to: "*@acme.example"')
        with open(policy, "w") as f:  # the run's own file, as it stands now
            f.write(narrower)
        code, out, err = c.run("policy", "test", "--replay", run)
        assert code == 1 and "2 decided again, 1 different" in out and "b@press.example" in out and "-> deny" in out, (code, out, err)


if __name__ == "__main__":
    main(sys.modules[__name__])
