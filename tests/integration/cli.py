"""Every command of holdfast(1) against a real supervisor that the command line starts by itself: output, exit status, effect."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import json_shapes  # noqa: E402

HOLDFAST = os.path.join(os.environ["HOLDFAST_BUILD"], "tools", "holdfast")
PAGE = json_shapes.Page()


class Cli:
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="holdfast-cli.", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.state = os.path.join(self.root, "state")
        self.tree = os.path.join(self.root, "tree")
        os.mkdir(self.tree)
        self.write("a.txt", "one\n")
        self.env = {"PATH": "/usr/bin:/bin", "HOME": os.path.join(self.root, "home"), "LANG": "C.UTF-8"}
        os.mkdir(self.env["HOME"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            daemon = self.json("status")[1]["daemon"]
            for pid in (daemon["pid"], daemon["keeper"]):
                if pid:
                    os.kill(pid, signal.SIGKILL)
        except Exception:  # it may be gone already
            pass
        time.sleep(0.2)
        # The kernel's overlay leaves a work folder of mode 000 in each layer.
        subprocess.run(["find", self.root, "-xdev", "-type", "d", "!", "-perm", "-700", "-exec", "chmod", "u+rwx", "{}", ";"],
                       check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--one-file-system", self.root], check=False)

    def path(self, name):
        return os.path.join(self.tree, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def read(self, name):
        try:
            with open(self.path(name)) as f:
                return f.read()
        except FileNotFoundError:
            return None

    def run(self, *args, stdin=None, cwd=None):
        r = subprocess.run([HOLDFAST, "--state", self.state, *args], input=stdin, text=True, capture_output=True, timeout=120,
                           cwd=cwd or self.tree, env=self.env, **({} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        ours = args[:args.index("--")] if "--" in args else args
        if "--json" in ours and "--help" not in ours and "export" not in ours:
            self.named([a for a in ours if not a.startswith("-")], r.stdout)
        return r.returncode, r.stdout, r.stderr

    @staticmethod
    def named(words, out):
        """Every member that is printed is named in holdfast-json(5)."""
        command = next((c for c in (" ".join(words[:2]), *words[:1]) if c in PAGE.commands), "")
        for line in out.splitlines():
            unnamed = PAGE.check(command, json.loads(line))
            assert not unnamed, (words, unnamed, line[:2000])

    def json(self, *args):
        code, out, err = self.run("--json", *args)
        assert out, (args, code, err)
        return code, json.loads(out)

    def script(self, name, text="true\n"):
        """A program outside of the workspace."""
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)
        return path

    def plan(self, text, name="plan.yaml"):
        path = os.path.join(self.root, name)
        with open(path, "w") as f:
            f.write("version: 1\nworkspace: tree\n" + text)
        return path

    def latest(self):
        return self.json("status", "--all")[1]["runs"][0]["run"]

    def waiting(self):
        return self.json("queue")[1]["approvals"]

    def stop_supervisor(self):
        """Returns when the one that runs, or is started by the question, has ended."""
        pid = self.json("status")[1]["daemon"]["pid"]
        if not pid:
            return
        fd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert select.select([fd], [], [], 30)[0], "it does not end"
        os.close(fd)

    def until(self, what, seconds=30):
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.05)


def test_exec_passes_output_and_status():
    with Cli() as c:
        assert c.run("exec", "--", "/bin/sh", "-c", "cat a.txt; echo wrong >&2; exit 7")[:2] == (7, "one\n")
        assert "wrong" in c.run("exec", "--", "/bin/sh", "-c", "echo wrong >&2")[2]
        assert c.run("exec", "--", "true")[0] == 0
        assert c.run("exec", "--", "/bin/sh", "-c", "kill -9 $$")[0] == 128 + 9
        assert c.run("exec", "--", "/usr/bin/no-such-program")[0] == 127
        code, _, err = c.run("exec", "--", "/no/program/of/this/name")
        assert code == 127 and err.count("No such file") == 1, (code, err)
        ungranted = c.script("ungranted")
        code, _, err = c.run("exec", "--", ungranted)
        assert code == 125 and err.count("denied") == 1, (code, err)
        assert f'{{path: "{ungranted}", access: rx}} grants it\n' in err, err
        refused = c.plan(f"steps:\n  - {{name: no, run: [{ungranted}], retry: {{max: 3}}}}\n")
        code, out, err = c.run("run", refused)
        assert code == 3 and out.count("denied") == 1, (code, out, err)
        assert c.run("exec", "--", "no-such-program")[0] == 127
        assert c.run("exec", "--", "./a.txt")[0] == 126
        assert c.run("exec", "-i", "--", "tr", "a-z", "A-Z", stdin="piped in")[:2] == (0, "PIPED IN")
        assert c.run("exec", "--", "cat", stdin="not read")[:2] == (0, "")
        assert c.run("exec")[0] == 125
        assert c.run("exec", "--policy", "/no/such", "--", "true")[0] == 125


def test_what_ran_is_told():
    with Cli() as c:
        plan = c.plan("""name: told
steps:
  - {name: one, run: [sh, -c, "echo 'a b'"]}
  - {name: long, needs: [one], run: ["true", %s]}
  - name: checked
    needs: [long]
    run: [sh, -c, "echo x > x.txt"]
    retry: {max: 2, backoff: 1s..1s, on: [check]}
    contract: {checks: [{run: [sh, -c, "exit 3", "the check"], expect: {exit: 0}}]}
""" % ("y" * 5000))
        c.run("run", plan)
        run = c.latest()
        shown = c.run("show", run, "one")[1]
        assert r"  runs sh -c 'echo '\''a b'\'''" + "\n" in shown, shown
        assert c.json("show", run, "one")[1]["argv"] == ["sh", "-c", "echo 'a b'"]
        cut = c.json("show", run, "long")[1]
        assert cut["argv"] == ["true", "y" * 4096] and cut["argv_cut"], cut["argv"]
        declared = [x for x in c.run("log", run)[1].splitlines() if "STEP_DECLARED" in x]
        assert len(declared) == 3 and "sh -c 'echo " in declared[0] and "true ..." in declared[1], declared
        event = [e for e in map(json.loads, c.run("--json", "log", run)[1].splitlines()) if e["type"] == "STEP_DECLARED"][0]
        assert event["payload"]["argv"] == ["sh", "-c", "echo 'a b'"], event
        # Whose command went well and whose check did not says so, and which.
        shown = c.run("show", run, "checked")[1]
        assert shown.count("rejected: check 1 of 1 failed: sh -c exit 3 the check") == 2, shown
        attempts = c.json("show", run, "checked")[1]["attempts"]
        assert [a["rejected"] for a in attempts] == ["check 1 of 1 failed: sh -c exit 3 the check"] * 2, attempts


def test_a_log_has_words_for_people():
    with Cli() as c:
        plan = c.plan("land: ask\nsteps:\n  - {name: one, gate: ask, run: 'echo x > x.txt'}\n")
        assert c.run("run", plan)[0] == 4
        run = c.latest()
        c.run("deny", c.waiting()[0]["approval"], "--no-input", "--reason", "not so")
        c.until(lambda: c.json("status", run)[1]["state"] == "failed")
        log = c.run("log", run)[1]
        for words in ("kind=step-gate", "decision=deny", "land=ask", "base=live", "waits=approval", 'reason="not so"' if "reason=" in log
                      else 'why="'):
            assert words in log, (words, log)
        assert not re.search(r"\b(kind|decision|land|base|waits|timer_kind|agency)=\d", log), log
        assert not re.search(r"_ns=\d{12}", log) and not re.search(r"=[0-9a-f]{32}", log), log
        told = [json.loads(x) for x in c.run("--json", "log", run)[1].splitlines()]
        opened = [e for e in told if e["type"] == "APPROVAL_OPENED"][0]
        assert opened["payload"]["kind"] == 1 and len(opened["payload"]["card"]) == 64, "for programs it stays as it is"


def test_steps_of_a_plan_are_counted_before_they_are_declared():
    with Cli() as c:
        plan = c.plan("steps:\n  - {name: one, run: ['true']}\n  - {name: two, needs: [one], run: ['false']}\n"
                      "  - {name: three, needs: [two], run: ['true']}\n")
        assert c.run("run", plan)[0] == 1
        assert " 1/3 steps " in c.run("status", "--all")[1], c.run("status", "--all")[1]
        assert c.json("status", "--all")[1]["runs"][0]["steps"] == {"total": 3, "done": 1, "failed": 1}


def test_nothing_to_land_is_said_so():
    with Cli() as c:
        code, out, err = c.run("run", c.plan("steps:\n  - {name: one, run: ['true']}\n"))
        assert code == 0 and "succeeded, nothing to land" in out and "dropped" not in out, (code, out, err)
        assert "dropped" not in c.run("status", "--all")[1]
        assert "nothing to land" in c.run("exec", "--land", "--", "true")[2]
        plan = c.plan("land: ask\nsteps:\n  - {name: one, run: 'echo x > x.txt'}\n")
        assert c.run("run", plan)[0] == 4
        run = c.latest()
        c.run("deny", c.waiting()[0]["approval"], "--no-input")
        c.until(lambda: c.json("status", run)[1]["landing"] == "dropped")
        assert "succeeded, dropped" in c.run("status", run)[1], c.run("status", run)[1]


def test_a_program_that_no_rule_covers_is_named_with_the_line_that_grants_it():
    with Cli() as c:
        shim = c.script("home/.pyenv/shims/python")
        c.env["PATH"] = os.path.dirname(shim) + ":" + c.env["PATH"]
        code, _, err = c.run("exec", "--", "python")
        assert code == 125 and f"{shim}: no fs rule" in err, (code, err)
        c.script("home/.pyenv/shims/cat")  # one that is granted stands later in PATH
        assert c.run("exec", "--", "cat", "a.txt")[:2] == (0, "one\n")
        line = re.search(r'\{path: "([^"]*)", access: rx\} grants it, as \'--policy coding\' does', err)
        assert line and line[1] == "${home}/.pyenv", err
        with open(os.path.join(c.root, "p.yaml"), "w") as f:
            f.write(f"version: 1\nextends: [offline]\nfs:\n  - {line[0].split(' grants')[0]}\n")
        for policy in (f.name, "coding"):
            assert c.run("exec", "--policy", policy, "--", "python")[0] == 0, policy
        c.write("script", f"#!{shim}\n")
        os.chmod(c.path("script"), 0o755)
        code, _, err = c.run("exec", "--", "./script")
        assert code == 127 and f'names {shim}, ' in err and f'{{path: "{shim}", access: rx}}' in err, (code, err)


def test_a_policy_that_extends_nothing_is_named_where_it_refuses_every_program():
    with Cli() as c:
        bare = "version: 1\nfs:\n  - {path: \"${workspace}\", access: stage}\n"
        policy = os.path.join(c.root, "p.yaml")
        os.mkdir(c.path(".holdfast"))
        for path, args in ((policy, ("--policy", policy)), (c.path(".holdfast/policy.yaml"), ("--policy", "coding"))):
            with open(path, "w") as f:
                f.write(bare)
            code, out, _ = c.run("policy", "check", path)
            assert code == 0 and f"{path}:3:5: warning[W0609]" in out, (code, out)
            if path != policy:
                assert c.run("trust", "--yes", ".")[0] == 0
            code, _, err = c.run("exec", *args, "--", "cat", "a.txt")
            said = f"/cat: {path}:3 grants no program of the system: write 'extends: [offline]' in that file"
            assert code == 125 and said in err and "access: rx" not in err, (code, err)
            with open(path, "w") as f:
                f.write(bare.replace("fs:", "extends: [offline]\nfs:"))
            if path != policy:
                assert c.run("trust", "--yes", ".")[0] == 0
            assert c.run("exec", *args, "--", "cat", "a.txt")[:2] == (0, "one\n"), path
            os.unlink(path)


def test_what_a_failed_command_changed_is_said_to_be_dropped():
    with Cli() as c:
        said = f"holdfast: it failed (exit 3): what it changed in {c.tree} was dropped; sh -c 'CMD || true'"
        code, _, err = c.run("exec", "--", "/bin/sh", "-c", "echo x > x.txt; exit 3")
        assert code == 3 and err.count(said) == 1, (code, err)
        assert "dropped" not in c.run("exec", "--policy", "base", "--", "false")[2], "nothing was staged"
        assert "was dropped" not in c.run("exec", "--", "true")[2]
        for status, dropped in ((3, True), (0, False)):
            code, out, err = c.run("--json", "exec", "--", "/bin/sh", "-c", f"exit {status}")
            assert code == status and err == "" and json.loads(out)["changes_dropped"] is dropped, (code, out, err)
        code, _, err = c.run("exec", "--", "/bin/sh", "-c", "sh -c 'echo x > x.txt; exit 3' || true")
        assert code == 0 and "1 path changed, kept aside" in err, (code, err)


def test_a_terminal_that_is_closed_ends_its_run():
    with Cli() as c:
        for how in ("closed", "signal"):
            pid, fd = pty.fork()
            if pid == 0:
                os.chdir(c.tree)
                os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, "exec", "-t", "--", "/bin/sh", "-c", "trap '' HUP; while :; do echo ready; sleep 0.2; done"],
                          c.env)
            said = b""
            while b"ready" not in said:
                assert select.select([fd], [], [], 60)[0], said
                said += os.read(fd, 4096)
            if how == "signal":
                os.kill(pid, signal.SIGHUP)
            else:
                os.close(fd)
            assert os.waitpid(pid, 0)[0] == pid
            if how == "signal":
                os.close(fd)
            c.until(lambda: c.json("status", c.latest())[1]["state"] == "cancelled")


def test_a_hangup_ends_the_command_as_sigterm_does():
    with Cli() as c:
        for ignored in (False, True):
            p = subprocess.Popen([HOLDFAST, "--state", c.state, "exec", "--", "/bin/sh", "-c",
                                  "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.1; test ! -e /tmp/go || exit 6; done"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=c.env, cwd=c.tree,
                                 preexec_fn=(lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) if ignored else None)
            assert p.stdout.readline() == "ready\n"
            os.kill(p.pid, signal.SIGHUP)
            if ignored:  # as under nohup(1)
                try:
                    p.wait(1)
                    assert False, "it heard what is ignored"
                except subprocess.TimeoutExpired:
                    os.kill(p.pid, signal.SIGTERM)
            out, err = p.communicate(timeout=60)
            assert p.returncode == 5 and out == "told\n", (ignored, p.returncode, out, err)
            assert ("hung up: the command is told SIGTERM" in err) is not ignored, err


def test_the_policy_that_stands_in_a_plan_can_be_trusted():
    with Cli() as c:
        plan = c.plan("land: never\npolicy:\n  version: 1\n  name: inner\n  extends: offline\nsteps:\n  - {name: a, run: ['true']}\n")
        advice = re.search(r"type: (holdfast trust .*)", "".join(c.run("run", plan)[1:]))
        assert advice and advice[1] == f"holdfast trust {plan}", advice
        assert c.run("trust", "--yes", plan)[0] == 0
        assert "not trusted" not in "".join(c.run("run", plan)[1:])
        assert c.json("trust", plan)[1]["already"] is True
        code, _, err = c.run("trust", "--yes", c.plan("policy: offline\nsteps:\n  - {name: a, run: ['true']}\n", "other.yaml"))
        assert code == 2 and "is a plan that holds no policy; trust the file that it names: offline" in err, (code, err)


def test_a_decided_item_is_said_to_be_decided_already():
    with Cli() as c:
        for first, second in (("approve", "deny"), ("deny", "approve")):
            lines = f"yes {first} | head -100 > a.txt"
            assert c.run("run", c.plan(f"land: ask\nsteps:\n  - {{name: one, run: '{lines}'}}\n"), "--name", first)[0] == 4
            a = c.waiting()[0]
            assert a["complete"] is False
            digest = c.run("show", a["approval"])[1]
            named = re.search(r"^digest  ([0-9a-f]{16}) ", digest, re.M)
            assert named and a["card_digest"].startswith(named[1]), digest
            code, out, err = c.run(first, a["approval"], "--no-input", "--digest", named[1])
            assert code == 0 and "already" not in out, (code, out, err)
            code, out, err = c.run(first, a["approval"], "--no-input")
            decided = "approved" if first == "approve" else "denied"
            assert code == 0 and re.search(rf": already {decided} by uid:\d+ at 20", out), (code, out, err)
            code, out, err = c.run(second, a["approval"], "--no-input")
            assert code == 9 and re.search(r"it is [A-Za-z]+ already, last by uid:", err), (code, out, err)


def test_an_error_says_the_status_that_it_leaves_with():
    with Cli() as c:
        for args in (("exec", "--bogus"), ("exec",), ("step", "--bogus"), ("exec", "--policy", "/no/such", "--", "true"),
                     ("exec", "--workspace", "/no/such", "--", "true"), ("step", "--end"), ("run", "--bogus")):
            code, out, _ = c.run("--json", *args)
            assert json.loads(out)["error"]["exit"] == code != 0, (args, code, out)
        for command in ("exec", "run", "step", "approve", "queue", "policy", "status", "gc", "doctor"):
            assert c.run(command, "-h")[:2] == c.run(command, "--help")[:2] and c.run(command, "-h")[0] == 0, command
        tools = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools")
        for name in ("quickstart", "check"):
            for args, code in ((["--help"], 0), (["-h"], 0), (["--bogus"], 2)):
                p = subprocess.run([os.path.join(tools, name), *args], capture_output=True, text=True, timeout=10, check=False)
                assert p.returncode == code and len((p.stdout + p.stderr).splitlines()) <= 3, p


def test_words_for_people():
    with Cli() as c:
        plan = c.plan("steps: []\n")
        with open(plan, "w") as f:
            f.write("version: 2\nsteps:\n  - {name: a, run: ['true']}\n")
        assert "version must be 1\n" in c.run("run", plan)[2]
        assert "exit 2" in c.run("run", "--help")[1]


def test_bash_completes_what_there_is():
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/completions/holdfast.bash")
    for words, there, not_there in ((("agency", "RUN", ""), "assist", None), (("policy", ""), "check", "--replay"), (("exec", "-"), "-t", None),
                                    (("exec", "-"), "-i", None), (("to",), "tool", None)):
        line = " ".join(f"'{w}'" for w in ("holdfast", *words))
        p = subprocess.run(["bash", "-c", f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _holdfast; "
                            "printf '%s\n' \"${COMPREPLY[@]}\""], capture_output=True, text=True, timeout=20, check=False)
        said = p.stdout.split()
        assert there in said and not_there not in said, (words, p)


def test_a_folder_that_cannot_be_a_workspace_is_refused_with_what_to_do():
    with Cli() as c:
        for folder, why in (("/", "all of it"), ("/tmp", "a folder of its own there"), ("/run", "a folder of its own there")):
            code, _, err = c.run("exec", "--", "true", cwd=folder)
            assert code == 125 and f"cannot work in {folder}: " in err and why in err and "--workspace DIR" in err, (code, err)
            assert c.run("run", c.plan("steps:\n  - {name: a, run: ['true']}\n"), "--workspace", folder)[0] == 2, folder
        assert c.json("status", "--all")[1]["runs"] == [], "nothing was begun"
        with tempfile.TemporaryDirectory(dir="/tmp") as below:
            assert c.run("exec", "--", "true", cwd=below)[0] == 0
        assert c.run("exec", "--policy", "base", "--", "true", cwd="/tmp")[0] == 0, "a workspace that no step is shown"


def test_gc_lists_what_would_go_and_wants_a_persons_word():
    with Cli() as c:
        assert c.run("exec", "--name", "old", "--", "/bin/sh", "-c", "echo x > x.txt")[0] == 0
        assert c.run("exec", "--name", "idle", "--", "true")[0] == 0
        time.sleep(1.1)  # the time that is sent has no fraction
        for held in (True, False):
            code, out, err = c.run("gc", "--older-than", "0s")
            lines = out.splitlines()
            assert code == 4 and lines[0].startswith("2 runs would be dropped") and "old " in lines[1], (held, code, out)
            assert "never landed" in lines[1] and "idle " in lines[2] and "landed" not in lines[2], (held, out)
            assert "nothing was removed" in err and "--yes" in err, (held, err)
            assert c.json("gc", "--older-than", "0s")[0] == 4 and c.run("gc")[0] == 0, held
            if held:
                assert c.run("status", "old")[0] == 0, "it is still there"
                c.stop_supervisor()
        code, done = c.json("gc", "--older-than", "0s", "--yes")
        assert code == 0 and done["version"] == 1 and done["runs"] == 2 and done["blobs"] > 0 and done["freed"] > 0, done
        code, out, _ = c.run("gc", "--older-than", "0s")
        assert code == 0 and out.startswith("gc: 0 runs dropped, "), "with nothing to drop nothing is asked"


def test_what_is_misplaced_at_step_begins_nothing():
    with Cli() as c:
        for words in (("two", "--needs", "one", "--", "true"), ("two", "extra", "--", "true"), ("two", "true")):
            code, out, err = c.run("step", "--run", "drv", *words)
            assert code == 125 and f"'{words[1]}' stands between" in err, (words, code, err)
        for words in ((), ("two", "--"), ("--no-such-option",)):
            assert c.run("step", "--run", "drv", *words)[0] == 125, words
        assert c.run("step", "--run", "drv", "--end", "two")[0] == 2, "it wraps no command"
        assert not os.path.exists(c.state), "something was begun"


def test_a_large_output_is_whole():
    with Cli() as c:
        code, out, _ = c.run("exec", "--", "/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        assert code == 0 and out == "".join(f"line {i}\n" for i in range(20000))


def test_a_step_whose_workspace_is_not_staged_commits_and_runs_once():
    with Cli() as c:
        assert c.run("exec", "--policy", "base", "--", "/usr/bin/true")[0] == 0
        for access, script, says in (("rw", "echo ran >> n", ""), ("r", "cat a.txt", "one\n"), ("none", "ls a.txt || echo unseen", "unseen\n")):
            policy = os.path.join(c.root, access + ".yaml")
            with open(policy, "w") as f:
                f.write(f"version: 1\nname: t\nextends: [base]\nfs: [{{path: \"${{workspace}}\", access: {access}}}]\n")
            code, out, err = c.run("exec", "--policy", policy, "--", "/bin/sh", "-c", script)
            assert (code, out) == (0, says), (access, code, out, err)
            plan = c.plan("land: auto\nsteps:\n  - {name: one, run: \"" + script + "\", contract: {checks: [{run: ['true']}]}}\n"
                          "  - {name: two, needs: [one], run: 'true'}\n")
            code, out, err = c.run("run", plan, "--policy", policy)
            assert code == 0, (access, code, out, err)
        assert c.read("n") == "ran\nran\n", c.read("n")  # once by exec, once by run
        assert c.run("fsck")[0] == 0
        chains = {command: re.search(r": (\d+ records of \d+ chains), (.*)", c.run(command)[1]) for command in ("verify", "fsck")}
        assert chains["verify"][1] == chains["fsck"][1], chains
        assert re.fullmatch(r"[1-9]\d* blobs", chains["verify"][2]) and "blobs" in chains["fsck"][2], chains


def test_exec_keeps_changes_aside_until_they_land():
    with Cli() as c:
        code, _, err = c.run("exec", "--", "/bin/sh", "-c", "echo two > b.txt; rm a.txt")
        assert code == 0 and "2 paths changed, kept aside" in err, err
        assert c.read("a.txt") == "one\n" and c.read("b.txt") is None
        run = c.latest()
        code, out, _ = c.run("diff", run[:8])
        assert code == 0 and "+two" in out and "-one" in out, out
        stat = c.json("diff", run)[1]["changes"]
        assert sorted((x["change"], x["path"]) for x in stat) == [("A", "b.txt"), ("D", "a.txt")], stat
        assert c.run("land", run[:8])[0] == 0
        assert c.read("a.txt") is None and c.read("b.txt") == "two\n"
        assert c.run("undo", run[:8])[0] == 0
        assert c.read("a.txt") == "one\n" and c.read("b.txt") is None
        assert c.run("exec", "--land", "--", "/bin/sh", "-c", "echo now > c.txt")[0] == 0
        assert c.read("c.txt") == "now\n"
        assert c.run("exec", "--land", "--", "/bin/sh", "-c", "echo no > d.txt; false")[0] == 1
        assert c.read("d.txt") is None


def test_changed_paths_are_counted_as_diff_shows_them():
    with Cli() as c:
        os.makedirs(c.path("deep/er"))
        c.write("deep/er/a", "old\n")
        code, _, err = c.run("exec", "--", "/bin/sh", "-c", "echo new > deep/er/a; echo x > b.txt; rm a.txt")
        shown = c.run("diff", c.latest(), "--stat")[1].splitlines()
        assert code == 0 and len(shown) == 3 and "holdfast: 3 paths changed" in err, (err, shown)
        assert "3 paths changed" in c.run("status", c.latest())[1]


def test_diff_names_what_has_no_text():
    with Cli() as c:
        os.makedirs(c.path("gone/in"))
        os.mkdir(c.path("bare"))
        c.write("gone/in/a", "text\n")
        c.write("void", "")
        script = "mkdir nd full; echo x > full/x; : > none; rmdir bare; rm -r gone void"
        assert c.run("exec", "--", "/bin/sh", "-c", script)[0] == 0
        for flags in ((), ("--all",)):
            out = c.run("diff", c.latest(), *flags)[1].splitlines()
            for line in ("nd: new folder", "bare: removed folder", "none: new empty file", "void: removed empty file", "+x", "-text"):
                assert line in out, (line, out)
            assert "full: new folder" not in out, out


def test_a_plan_runs_lands_and_tells():
    with Cli() as c:
        plan = c.plan("""name: story
steps:
  - {name: make, run: "echo made > m.txt; echo result > /run/holdfast/out/r.txt; echo hello"}
  - {name: use, needs: [make], stdin: {from: make}, run: "cat; cat /run/holdfast/in/make/r.txt m.txt"}
""")
        code, out, err = c.run("run", plan)
        assert code == 0 and "succeeded" in out, (code, out, err)
        assert c.read("m.txt") == "made\n"
        run = c.latest()
        code, status = c.json("status", run)
        assert status["state"] == "succeeded" and status["landing"] == "landed"
        assert [d["step"] for d in status["done"]] == ["make", "use"] and status["in_flight"] == []
        assert "hello\nresult\nmade" in c.run("show", run, "use")[1]
        assert "r.txt" in c.run("show", run, "make")[1]
        log = c.run("log", run)[1]
        assert log.count("STEP_COMMITTED") == 2 and "LANDED" in log
        events = [json.loads(x) for x in c.run("--json", "log", run)[1].splitlines()]
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        assert "story" in c.run("status", "--all")[1]


def test_a_failing_plan_says_where():
    with Cli() as c:
        plan = c.plan("""land: auto
steps:
  - {name: good, run: "echo x > x.txt"}
  - {name: bad, needs: [good], run: [sh, -c, "echo because >&2; exit 3"]}
  - {name: after, needs: [bad], run: ["true"]}
""")
        code, out, err = c.run("run", plan)
        assert code == 1 and "bad" in out, (code, out, err)
        run = c.latest()
        states = {s["name"]: s["state"] for s in c.json("status", run)[1]["steps"]}
        assert states["good"] == "committed" and states["bad"] == "failed" and states.get("after", "cancelled") == "cancelled", states
        assert "because" in c.run("show", run, "bad")[1]
        assert c.read("x.txt") is None, "a failed run landed"
        assert c.run("land", run)[0] == 0 and c.read("x.txt") == "x\n", "its committed steps may land"


def test_a_name_is_attached_to_once():
    with Cli() as c:
        plan = c.plan("steps:\n  - {name: slow, run: \"sleep 2; echo x\"}\n")
        code, out, _ = c.run("run", plan, "--name", "one", "--detach")
        assert code == 0, out
        run = c.latest()
        code, _, err = c.run("run", plan, "--name", "one")
        assert code == 0 and c.latest() == run, err
        code, _, err = c.run("run", plan, "--name", "one")
        assert code == 2 and "one" in err, (code, err)


def test_an_ended_run_is_read_by_its_name_and_by_its_plans():
    with Cli() as c:
        named = c.plan("name: tidy\nsteps:\n  - {name: one, run: \"echo x; echo y > made\"}\n")
        assert c.run("run", named, "--name", "mine")[0] == 0
        mine = c.latest()
        assert c.run("run", named)[0] == 0 and c.run("run", named)[0] == 0
        latest = c.latest()
        for name, run in (("mine", mine), ("tidy", latest)):
            code, status = c.json("status", name)
            assert code == 0 and status["run"] == run and status["state"] == "succeeded", status
            for command in (["log", name], ["diff", name], ["policy", "test", "--replay", name], ["show", name, "one"]):
                code, out, err = c.run(*command)
                assert code == 0, (command, out, err)
        # who decides says which one is meant
        for command in ("cancel", "land", "pause"):
            code, _, err = c.run(command, "tidy")
            assert code == 2 and latest[:8] in err, (command, code, err)
        code, _, err = c.run("status", "untidy")
        assert code == 2 and "untidy" in err, (code, err)


def test_a_gate_waits_and_a_vote_decides():
    with Cli() as c:
        plan = c.plan("steps:\n  - {name: risky, gate: ask, run: \"echo did > did.txt\"}\n")
        code, out, _ = c.run("run", plan)
        assert code == 4 and "holdfast approve" in out, (code, out)
        item = c.waiting()[0]
        assert item["kind"] == "step-gate"
        card = c.run("show", item["approval"][:8])[1]
        assert "risky" in card and item["card_digest"]
        code, _, err = c.run("approve", item["approval"], "--digest", "0" * 64)
        assert code == 9 and c.waiting(), err
        assert c.run("approve", item["approval"][:8], "--digest", item["card_digest"][:16])[0] == 0
        c.until(lambda: c.read("did.txt") == "did\n")
        code, _, err = c.run("deny", item["approval"][:8])
        assert code == 9 and "already" in err, (code, err)
        code, _, _ = c.run("run", plan)
        item = c.waiting()[0]
        os.unlink(c.path("did.txt"))
        assert c.run("deny", item["approval"], "--reason", "not today")[0] == 0
        assert c.run("resume", item["run"])[0] == 3
        assert c.read("did.txt") is None and not c.waiting()


SCRATCH = """policy: pol.yaml
land: ask
steps:
  - {name: edit, gate: commit, run: "echo agent > a.txt; printf 'approve: yes\\\\n' > n.txt; mkdir build; echo o > build/o; echo o > build/p"}
  - {name: more, needs: [edit], run: "echo again >> n.txt%s"}
"""


def scratch_plan(c, more=""):
    policy = os.path.join(c.root, "pol.yaml")
    with open(policy, "w") as f:
        f.write('version: 1\nname: t\nextends: [offline]\nfs:\n  - {path: "${workspace}/build", access: scratch}\n')
    assert c.run("trust", "--yes", policy)[0] == 0
    return c.plan(SCRATCH % more)


def test_a_card_shows_the_changed_lines_and_diff_what_would_land():
    with Cli() as c:
        assert c.run("run", scratch_plan(c))[0] == 4
        item = c.waiting()[0]
        assert item["kind"] == "step-commit" and item["complete"] is True
        card = c.run("show", item["approval"])[1]
        assert "\n  a.txt\n  | -one\n  | +agent\n  n.txt\n  | +approve: yes\n" in card, card
        assert "scratch: 3 paths stay with the run" in card and "A build" not in card, card
        code, out, _ = c.run("approve", item["approval"])
        assert code == 0 and out.endswith(": approved\n"), out
        c.until(lambda: c.waiting() and c.waiting()[0]["kind"] == "landing")
        item = c.waiting()[0]
        card = c.run("show", item["approval"])[1]
        assert "  | +agent\n" in card and "  | +again\n" in card and "build/o" not in card, card
        assert item["run"][:8] in item["title"]
        run = item["run"]
        for landed in (False, True):
            code, doc = c.json("diff", run)
            assert sorted(x["path"] for x in doc["changes"]) == ["a.txt", "n.txt"], doc
            assert doc["not_landing"] == {"scratch": 3, "left_out": 0, "paths": []}, doc
            out = c.run("diff", run, "--stat")[1]
            assert out.splitlines()[:-1] == ["M a.txt", "A n.txt"] and out.splitlines()[-1].startswith("3 more paths would not land"), out
            out = c.run("diff", run)[1]
            assert "+again" in out and "build/" not in out and "3 more paths would not land" in out, out
            assert sorted(x["path"] for x in c.json("diff", run, "--all")[1]["changes"]) == ["a.txt", "build", "build/o", "build/p", "n.txt"]
            assert "build/o" in c.run("diff", run, "--all")[1]
            assert [x["change"] + x["path"] for x in c.json("diff", run, "more")[1]["changes"]] == ["Mn.txt"]
            if not landed:
                assert c.run("approve", item["approval"])[0] == 0
                c.until(lambda: c.json("status", run)[1]["landing"] == "landed")
        assert not os.path.exists(c.path("build"))


def test_a_card_that_does_not_show_all_wants_its_digest():
    with Cli() as c:
        assert c.run("run", scratch_plan(c, "; seq 1 100 > long.txt"))[0] == 4
        assert c.run("approve", c.waiting()[0]["approval"])[0] == 0
        c.until(lambda: c.waiting() and c.waiting()[0]["kind"] == "landing")
        item = c.waiting()[0]
        assert item["complete"] is False
        for more in ((), ("--yes",)):
            code, out, err = c.run("approve", item["approval"], *more)
            assert code == 4 and "more lines" in out and "--digest " + item["card_digest"][:16] in err, (code, out, err)
        assert c.read("a.txt") == "one\n"
        assert c.run("approve", item["approval"], "--digest", item["card_digest"][:16])[0] == 0
        c.until(lambda: c.read("a.txt") == "agent\n")


def test_a_card_is_asked_for_again_when_its_supervisor_dies():
    with Cli() as c:
        assert c.run("run", scratch_plan(c))[0] == 4
        item = c.waiting()[0]
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        # To a new one, which is there as soon as the old one's lock is free; the landing's card comes from it.
        c.until(lambda: c.run("approve", item["approval"])[0] == 0)
        for _ in range(20):
            pid = c.json("status")[1]["daemon"]["pid"]
            if c.waiting() and c.waiting()[0]["kind"] == "landing":
                break
            os.kill(pid, signal.SIGKILL)
            c.run("resume", item["run"])
        assert "  | +agent\n" in c.run("show", c.waiting()[0]["approval"])[1]
        spool = os.path.join(c.state, "v1", "spool")
        c.until(lambda: not [n for n in os.listdir(spool) if n.startswith("diff-")])


def landing_that_meets_an_edit(c):
    plan = c.plan("land: ask\nsteps:\n  - {name: edit, run: \"echo agent > a.txt; echo new > n.txt\"}\n")
    assert c.run("run", plan)[0] == 4
    landing = c.waiting()[0]
    assert landing["kind"] == "landing"
    c.write("a.txt", "person\n")
    code, out, err = c.run("approve", landing["approval"])
    item = c.waiting()[0]
    assert code == 9 and item["kind"] == "conflict" and not err, (code, out, err)
    assert "conflict: nothing was changed" in out and f"approve {item['approval'][:8]} --as mine|theirs|file=F" in out, out
    assert c.read("a.txt") == "person\n" and c.read("n.txt") is None, "a landing that met a conflict left half of itself"
    return item


def test_a_conflict_is_a_persons_choice():
    for choice, expect in (("mine", "person\n"), ("theirs", "agent\n"), ("file", "both\n")):
        with Cli() as c:
            item = landing_that_meets_an_edit(c)
            assert "a.txt" in c.run("show", item["approval"])[1]
            said = c.run("status", item["run"])[1] + c.run("status")[1]
            assert "conflict, conflict" not in said and "HUMAN_ONLY" not in said and "conflict for conflict" not in said, said
            assert "again: landing: not by itself" in said and re.search(r"unanswered in \w+, nothing more is changed", said), said
            both = os.path.join(c.root, "both")
            with open(both, "w") as f:
                f.write("both\n")
            code, out, _ = c.run("approve", item["approval"], "--as", f"file={both}" if choice == "file" else choice)
            paths = 1 if choice == "mine" else 2
            assert code == 0 and f"landed: {paths} path{'s'[:paths - 1]}; 'holdfast undo" in out, (choice, code, out)
            assert (c.read("n.txt"), c.read("a.txt")) == ("new\n", expect), choice
            assert c.json("status", item["run"])[1]["landed_paths"] == paths
    with Cli() as c:
        item = landing_that_meets_an_edit(c)
        assert c.run("deny", item["approval"])[0] == 0
        c.until(lambda: not c.waiting())
        assert c.read("a.txt") == "person\n" and c.read("n.txt") is None


# What the run does in its folder, what its person does there before it lands, what the first card must say, and for which path
# a file of the person's own answers.
CONFLICTS = {
    "changed by both": ("echo run > f", "echo mine > f", "f: changed in the meantime", "f"),
    "removed by the person": ("echo run > f", "rm f", "f: changed in the meantime", "f"),
    "removed by the run": ("rm f", "echo mine > f", "f: changed in the meantime", "f"),
    "a folder became a file": ("rm d/f; mkdir d/f; echo in > d/f/x; echo run > d/g", "rm -r d; echo mine > d", "a file stands in its place", "d"),
    "a folder became a link": ("echo run > d/g; echo new > d/n", "mv d e; ln -s e d", "a link stands in its place", "d"),
    "a file became a folder": ("echo run > f", "rm f; mkdir f; echo mine > f/m", "f/m: made since the run looked", "f"),
    "a folder was moved": ("echo run > d/f", "mv d e", "d/f: a folder above it is gone", "d/f"),
    "new on both sides": ("echo run > n", "echo mine > n", "n: changed in the meantime", "n"),
    "a link on both sides": ("ln -sf run l", "ln -sf mine l", "l: changed in the meantime", "l"),
    "new in a folder that goes": ("rm -r d", "echo mine > d/m", "d/m: made since the run looked", "d"),
}


def tree_of(root):
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[os.path.relpath(path, root)] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[os.path.relpath(path, root)] = ("folder", os.stat(path).st_mode)
            else:
                with open(path) as f:
                    found[os.path.relpath(path, root)] = (os.stat(path).st_mode, f.read())
    return found


def test_every_answer_is_carried_out_and_taken_back():
    with Cli() as c:
        both = os.path.join(c.root, "both")
        with open(both, "w") as f:
            f.write("both\n")
        for what, (step, person, card, path) in CONFLICTS.items():
            for choice in ("mine", "theirs", "file"):
                rule = f"{what}, {choice}"
                work = c.path(rule.replace(" ", "-").replace(",", ""))
                os.mkdir(work)
                subprocess.run("mkdir d; for n in f d/f d/g; do echo old > $n; done; ln -s old l", shell=True, check=True, cwd=work)
                time.sleep(0.02)  # older than the run
                plan = os.path.join(c.root, "answer.yaml")
                with open(plan, "w") as f:
                    f.write(f"version: 1\nworkspace: {work}\nland: ask\nsteps:\n  - {{name: s, run: \"{step}\"}}\n")
                assert c.run("run", plan)[0] == 4, rule
                run = c.latest()
                subprocess.run(person, shell=True, check=True, cwd=work)
                before = tree_of(work)
                assert c.run("approve", c.waiting()[0]["approval"])[0] == 9, rule
                asked = 0
                while True:
                    c.until(lambda: c.waiting() or c.json("status", run)[1]["state"] == "succeeded")
                    if not c.waiting():
                        break
                    assert tree_of(work) == before, f"{rule}: half of it landed"
                    item = c.waiting()[0]["approval"]
                    shown = c.run("show", item)[1]
                    assert asked > 0 or card in shown, (rule, shown)
                    asked += 1
                    assert asked < 3, f"{rule}: asked again and again: {shown}"
                    if choice == "file":
                        # one path is the person's, what else is asked is the run's
                        if f"  {path}: " in shown:
                            assert c.run("approve", item, "--as", f"file={both}", "--path", path)[0] in (0, 9), rule
                        if any(a["approval"] == item for a in c.waiting()):
                            assert c.run("approve", item, "--as", "theirs")[0] in (0, 9), rule
                    else:
                        assert c.run("approve", item, "--as", choice)[0] in (0, 9), rule
                    c.until(lambda: all(a["approval"] != item for a in c.waiting()))
                assert asked > 0, rule
                after = tree_of(work)
                if choice == "mine":
                    assert before.get(path) == after.get(path), (rule, after)
                    assert {p: v for p, v in before.items() if p in after} == {p: v for p, v in after.items() if p in before}, (rule, after)
                elif choice == "file":
                    assert after[path][1] == "both\n", (rule, after)
                else:
                    assert after != before, rule
                if c.json("status", run)[1]["landing"] == "landed":
                    assert c.run("undo", run)[0] == 0, rule
                    c.until(lambda: c.json("status", run)[1]["landing"] == "undone")
                assert tree_of(work) == before, (rule, "not as before it landed", tree_of(work), before)


def test_a_conflict_answered_in_part_says_so():
    with Cli() as c:
        c.write("b.txt", "one\n")
        plan = c.plan("steps:\n  - {name: e, run: 'echo run > a.txt; echo run > b.txt; echo run > c.txt; sleep 1'}\n")
        c.run("run", plan, "--detach")
        c.until(lambda: c.json("status", c.latest())[1]["steps"][0]["state"] == "active")
        time.sleep(0.2)
        for name in ("a.txt", "b.txt", "c.txt"):
            c.write(name, "person\n")
        c.until(lambda: any(a["kind"] == "conflict" for a in c.waiting()))
        item = c.waiting()[0]["approval"]
        code, out, _ = c.run("approve", item, "--as", "mine", "--path", "a.txt")
        assert code == 0 and "the paths without an answer still wait for one" in out, out
        c.run("approve", item, "--as", "mine", "--path", "b.txt")
        c.run("approve", item, "--as", "theirs", "--path", "b.txt")
        show = c.run("show", item)[1]
        assert "answered  mine: a.txt\n" in show and "answered  theirs: b.txt\n" in show and "mine: b.txt" not in show, show
        assert "1 path to be answered still" in show, show
        status = c.run("status", c.latest())[1]
        assert "answered  mine: a.txt\n" in status and "answered  theirs: b.txt\n" in status, status
        c.run("approve", item, "--as", "mine", "--path", "c.txt")
        c.until(lambda: c.json("status", c.latest())[1]["landing"] == "landed")
        assert [c.read(n) for n in ("a.txt", "b.txt", "c.txt")] == ["person\n", "run\n", "person\n"]


def test_a_conflict_that_grows_asks_only_for_what_is_new():
    for choice, expect in (("mine", "person\n"), ("theirs", "agent\n")):
        with Cli() as c:
            c.write("b.txt", "old\n")
            plan = c.plan("land: ask\nsteps:\n  - {name: edit, run: \"echo agent > a.txt; echo agent > b.txt\"}\n")
            assert c.run("run", plan)[0] == 4
            landing = c.waiting()[0]
            c.write("a.txt", "person\n")
            assert c.run("approve", landing["approval"])[0] == 9
            c.until(lambda: any(a["kind"] == "conflict" for a in c.waiting()))
            first = c.waiting()[0]["approval"]
            c.write("b.txt", "person\n")
            assert c.run("approve", first, "--as", choice)[0] == 9
            c.until(lambda: any(a["approval"] != first for a in c.waiting()))
            second = c.waiting()[0]["approval"]
            shown = c.run("show", second)[1]
            assert "b.txt:" in shown and "a.txt:" not in shown, shown
            assert c.run("approve", second, "--as", choice)[0] == 0
            c.until(lambda: '"succeeded"' in c.run("--json", "status", "--all")[1])
            assert not c.waiting(), "what was answered is asked again"
            assert (c.read("a.txt"), c.read("b.txt")) == (expect, expect), choice


def test_what_did_not_land_is_said_with_its_reason():
    with Cli() as c:
        code, _, err = c.run("exec", "--land", "--", "/bin/sh", "-c", "mkdir -p .git/hooks; echo x > .git/hooks/x; mkfifo p; echo b > n.txt")
        assert code == 0 and "holdfast: left out: p: type, fifo\n" in err and re.search(r"left out: \.git/hooks/x: policy, .*hooks", err), err
        run = c.latest()
        out = c.run("diff", run)[1]
        assert "4 more paths would not land: 4 left out (--all shows them)" in out, out
        for command, remedy in (("land", "holdfast undo"), ("pause", "holdfast status"), ("undo", None), ("undo", "holdfast log"), ("land", "holdfast diff")):
            code, _, err = c.run(command, run)
            assert (code, remedy) == (0, None) or (code == 9 and remedy in err), (command, code, err)
        code, _, err = c.run("exec", "--land", "--", "mkfifo", "p")
        assert code == 0 and "nothing landed" in err and "left out: p: type" in err, err


def test_an_undoing_that_meets_edits_again_and_again():
    with Cli() as c:
        c.write("b.txt", "old\n")
        plan = c.plan("steps:\n  - {name: edit, run: \"echo agent > a.txt; echo agent > b.txt\"}\n")
        assert c.run("run", plan)[0] == 0
        run = c.latest()
        c.write("a.txt", "person\n")
        c.run("undo", run)
        c.until(c.waiting)
        first = c.waiting()[0]["approval"]
        card = c.run("show", first)[1]
        assert "where they differ (- mine, + from before the landing):\n  a.txt\n  | -person\n  | +one\n" in card, card
        c.write("b.txt", "person\n")
        assert c.run("approve", first, "--as", "theirs")[0] == 9
        c.until(lambda: any(a["approval"] != first for a in c.waiting()))
        assert (c.read("a.txt"), c.read("b.txt")) == ("person\n", "person\n")
        code, out, _ = c.run("approve", c.waiting()[0]["approval"], "--as", "theirs")
        assert code == 0 and "undone: 2 paths\n" in out, (code, out)
        c.until(lambda: c.json("status", run)[1]["landing"] == "undone")
        assert (c.read("a.txt"), c.read("b.txt")) == ("one\n", "old\n")


def test_an_undoing_is_final_and_says_so():
    with Cli() as c:
        assert c.run("exec", "--land", "--name", "e", "--", "/bin/sh", "-c", "echo agent > a.txt")[0] == 0
        run = c.latest()
        code, out, _ = c.run("undo", run)
        assert code == 0 and "taken back for good: this run does not land again" in out, (code, out)
        assert c.read("a.txt") == "one\n" and c.json("status", run)[1]["landed_paths"] == 1
        for verb in ("land", "undo"):
            code, _, err = c.run(verb, run)
            assert code == 9 and "holdfast" in err, (verb, code, err)
        assert c.read("a.txt") == "one\n"
        diff = c.run("diff", run)[1]
        assert "+agent" in diff, diff
        assert "It is final" in c.run("undo", "--help")[1]


def failpoints():
    """Whether the programs were built with them (-Dfailpoints=true)."""
    with Cli() as c:
        c.env["HOLDFAST_FAILPOINT"] = "work.plan=error:EIO"
        return c.run("exec", "--land", "--", "/bin/sh", "-c", "echo x > a.txt")[0] == 125


def restarted(c):
    """Another supervisor, which the next command starts."""
    os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)


def test_what_holds_a_landing_up_is_said_and_kept_until_it_lands():
    if not failpoints():
        print("     (built without failpoints)")
        return
    for point, error, why in (("work.plan", "EACCES", "Permission denied; make it writable first"),
                              ("landing.staged", "ENOSPC", "No space left on device; nothing of it stands in the directory; free some space"),
                              ("landing.put", "EIO", "Input/output error; it is not finished, but stands in the directory; look at its disk")):
        with Cli() as c:
            c.env["HOLDFAST_FAILPOINT"] = f"{point}=error:{error}"
            code, out, err = c.run("run", c.plan("steps:\n  - {name: s, run: \"echo agent > a.txt\"}\n"))
            run = c.latest()
            assert code == 8 and why in out, (point, code, out, err)
            for _ in range(2):  # the same after a restart
                for said in (c.run("status", run)[1], c.run("status")[1]):
                    assert why in said and f"holdfast land {run[:8]} tries it again | holdfast cancel {run[:8]} ends" in said, said
                    assert " for ?" not in said, said
                log = [json.loads(line) for line in c.run("--json", "log", run)[1].splitlines()]
                assert [r["payload"]["why"] for r in log if r["type"] == "LANDING_FAILED"][0].find(why) >= 0, log
                restarted(c)
                c.until(lambda: c.json("status", run)[1].get("landing_failed"))
            code, _, err = c.run("land", run)
            assert code == 8 and why in err and c.read("a.txt") == ("agent\n" if point == "landing.put" else "one\n"), (code, err)
            del c.env["HOLDFAST_FAILPOINT"]
            restarted(c)
            assert c.run("land", run)[0] in (0, 9)  # half of it may stand: the restart lands it, too
            c.until(lambda: c.json("status", run)[1]["state"] == "succeeded")
            assert c.read("a.txt") == "agent\n" and "landing_failed" not in c.json("status", run)[1]


def test_a_landing_that_was_asked_for_outlives_the_supervisor():
    """It waits for another run's step, and the supervisor dies: the next one, which only a question started, lands it."""
    with Cli() as c:
        assert c.run("run", c.plan("land: never\nsteps:\n  - {name: s, run: \"echo agent > a.txt\"}\n"), "--name", "one")[0] == 0
        c.run("run", c.plan("steps:\n  - {name: s, run: \"sleep 600\"}\n"), "--name", "two", "--detach")
        c.until(lambda: c.json("status", "two")[1]["steps"][0]["state"] == "active")
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "--no-input", "land", "one"], cwd=c.tree, env=c.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        c.until(lambda: '"LANDING_WANTED"' in c.run("--json", "log", "one")[1])
        assert c.read("a.txt") == "one\n" and p.poll() is None
        restarted(c)
        assert c.json("status", "one")[1]["landing"] == "unlanded" and c.run("cancel", "two")[0] == 0
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0 and c.read("a.txt") == "agent\n", (p.returncode, out, err)


def test_cancel_frees_a_run_whose_landing_failed():
    if not failpoints():
        print("     (built without failpoints)")
        return
    for point in ("work.plan", "landing.staged"):
        with Cli() as c:
            c.env["HOLDFAST_FAILPOINT"] = f"{point}=error:EROFS"
            assert c.run("run", c.plan("steps:\n  - {name: s, run: \"echo agent > a.txt\"}\n"))[0] == 8
            run = c.latest()
            code, out, _ = c.run("cancel", run)
            assert code == 0 and f"holdfast land {run[:8]} tries it again" in out, out
            assert (f"holdfast cancel {run[:8]} gives it up" in out) == (point == "work.plan"), out
            assert c.json("status", run)[1]["state"] == "cancelled"
            restarted(c)
            del c.env["HOLDFAST_FAILPOINT"]
            # given up: a new supervisor does not land it by itself, and another run has the workspace
            assert c.run("exec", "--land", "--", "/bin/sh", "-c", "echo other > b.txt")[0] == 0
            assert (c.read("a.txt"), c.read("b.txt")) == ("one\n", "other\n"), point
            assert "Read-only file system" in c.run("status", run)[1]
            assert c.run("land", run)[0] == 0 and c.read("a.txt") == "agent\n", point


def test_cancel_gives_up_a_landing_that_failed_after_the_end_and_gc_takes_the_run():
    if not failpoints():
        print("     (built without failpoints)")
        return
    with Cli() as c:
        c.env["HOLDFAST_FAILPOINT"] = "work.plan=error:EIO"
        assert c.run("run", c.plan("land: never\nsteps:\n  - {name: s, run: \"echo agent > a.txt\"}\n"))[0] == 0
        run = c.latest()
        code, _, err = c.run("land", run)
        assert code == 8 and "Input/output error" in err, (code, err)
        assert f"holdfast cancel {run[:8]} gives it up" in c.run("status", run)[1]
        time.sleep(1.1)  # the time that is sent has no fraction
        code, done = c.json("gc", "--older-than", "0s", "--yes")
        assert code == 0 and done["runs"] == 0, "it may be landed still"
        code, out, err = c.run("cancel", run)
        assert code == 0 and "its landing, which failed, is given up: it does not land any more" in out, (code, out, err)
        for _ in range(2):
            is_now = c.json("status", run)[1]
            assert is_now["state"] == "succeeded" and is_now["landing"] == "dropped" and "landing_failed" not in is_now, is_now
            restarted(c)
        for verb in ("cancel", "land"):
            code, _, err = c.run(verb, run)
            assert code == 9 and "is over" in err, (verb, code, err)
        code, done = c.json("gc", "--older-than", "0s", "--yes")
        assert code == 0 and done["runs"] == 1 and c.read("a.txt") == "one\n", done
        assert c.run("fsck")[0] == 0 and c.run("verify")[0] == 0


def test_cancel_says_that_a_landing_that_began_is_brought_to_its_end():
    if not failpoints():
        print("     (built without failpoints)")
        return
    with Cli() as c:
        c.env["HOLDFAST_FAILPOINT"] = "landing.staged=delay:3000"
        c.run("run", c.plan("steps:\n  - {name: s, run: \"echo agent > a.txt\"}\n"), "--detach")
        run = c.latest()
        c.until(lambda: c.json("status", run)[1]["landing"] == "landing")
        code, out, _ = c.run("cancel", run)
        assert code == 0 and "its landing had begun before the cancel, and was brought to its end" in out, out
        assert "cancelled, landed" in out and f"holdfast undo {run[:8]}" in out and c.read("a.txt") == "agent\n", out


def test_gc_goes_on_though_a_landing_cannot_be_shown():
    if not failpoints():
        print("     (built without failpoints)")
        return
    with Cli() as c:
        c.env["HOLDFAST_FAILPOINT"] = "cards.make=error:ENOSPC@1"
        code, out, _ = c.run("run", c.plan("land: ask\nsteps:\n  - {name: s, run: \"echo agent > a.txt\"}\n"))
        run = c.latest()
        assert code == 8 and "what would land cannot be shown: No space left on device" in out, out
        assert c.run("gc")[0] == 0
        assert c.run("land", run)[0] == 4 and c.waiting()[0]["kind"] == "landing"
        assert c.run("approve", c.waiting()[0]["approval"])[0] == 0 and c.read("a.txt") == "agent\n"


def test_a_conflict_shows_where_the_sides_differ():
    with Cli() as c:
        c.write("a.txt", "".join(f"{n}\n" for n in range(100)))
        os.mkdir(c.path("d"))
        plan = c.plan("land: ask\nsteps:\n  - {name: edit, run: 'sed -i s/^/run/ a.txt; printf \"run\\033[2J\\n\" > b; echo x > d/n'}\n")
        assert c.run("run", plan)[0] == 4
        c.write("b", "mine\n")
        c.write("a.txt", "short\n")
        landing = c.waiting()[0]
        assert c.run("approve", landing["approval"], "--digest", landing["card_digest"])[0] == 9
        item = c.waiting()[0]["approval"]
        card = c.run("show", item)[1]
        assert "where they differ (- mine, + the run's):\n  a.txt\n  | -short\n  | +run0\n" in card, card
        assert "  b\n  | -mine\n  | +run\\x1b[2J\n" in card and "  | +run50\n" not in card, card
        assert "  and 89 more lines\n" in card and "--digest" not in card, card  # the choice is bound to what stands above
        code, _, err = c.run("approve", item, "--as", f"file={c.path('a.txt')}")
        assert code == 2 and "--path" in err, (code, err)
        code, out, _ = c.run("approve", item, "--as", "theirs")
        assert code == 0 and "landed: 3 paths" in out and c.read("a.txt").startswith("run0\n"), (code, out)


def test_exec_says_what_waits_after_a_conflict():
    with Cli() as c:
        step = "test -e ../go; while ! grep -q mine a.txt; do sleep 0.05; done; rm a.txt; echo run > a.txt"
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "exec", "--land", "--", "/bin/sh", "-c", step], cwd=c.tree, env=c.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        c.until(lambda: any(s["state"] == "active" for r in c.json("status", "--all")[1]["runs"] for s in c.json("status", r["run"])[1]["steps"]))
        time.sleep(0.2)
        c.write("a.txt", "mine\n")
        _, err = p.communicate(timeout=60)
        item = c.waiting()[0]
        assert p.returncode == 125 and item["kind"] == "conflict", (p.returncode, err)
        assert f"'holdfast approve {item['approval'][:8]} --as mine|theirs|file=F'" in err and "nothing landed" in err, err
        assert "kept aside" not in err and "holdfast land" not in err, err


def test_a_conflict_is_told_when_its_item_waits():
    if os.environ.get("HOLDFAST_HAS_FAILPOINTS", "1") != "1":
        return
    with Cli() as c:
        c.env["HOLDFAST_FAILPOINT"] = "cards.make=delay:1500"  # in each supervisor, the first card that is made
        assert c.run("exec", "--", "/bin/sh", "-c", "echo run > a.txt")[0] == 0
        run = c.latest()
        c.write("a.txt", "mine\n")
        code, _, err = c.run("land", run)
        kinds = [a["kind"] for a in c.waiting()]
        assert code == 9 and kinds == ["conflict"], (code, kinds, err)
        c.stop_supervisor()
        step = "while ! grep -q mine b.txt; do sleep 0.05; done; rm b.txt; echo run > b.txt"
        c.write("b.txt", "one\n")
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "exec", "--land", "--", "/bin/sh", "-c", step], cwd=c.tree, env=c.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        c.until(lambda: any(s["state"] == "active" for r in c.json("status", "--all")[1]["runs"] for s in c.json("status", r["run"])[1]["steps"]))
        time.sleep(0.2)
        c.write("b.txt", "mine\n")
        _, err = p.communicate(timeout=60)
        items = [a for a in c.waiting() if a["run"] != run]
        assert p.returncode == 125 and [a["kind"] for a in items] == ["conflict"], (p.returncode, err, items)
        assert items[0]["approval"][:8] in err, err


def test_an_exhausted_step_asks():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n  - {name: flaky, run: \"false\", retry: {max: 2, backoff: 10ms..20ms, on: [exit]}}\n")
        assert c.run("run", plan)[0] == 4
        item = c.waiting()[0]
        assert item["kind"] == "exhausted" and c.run("approve", item["approval"])[0] == 2
        assert c.run("approve", item["approval"], "--as", "retry")[0] == 0
        c.until(lambda: c.waiting() and c.waiting()[0]["approval"] != item["approval"])
        assert c.run("approve", c.waiting()[0]["approval"], "--as", "fail")[0] == 0
        assert c.run("resume", item["run"])[0] == 1


def test_pause_resume_cancel_fork():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n  - {name: one, run: \"sleep 1; echo 1\"}\n  - {name: two, needs: [one], run: \"echo 2\"}\n")
        assert c.run("run", plan, "--detach")[0] == 0
        run = c.latest()
        assert c.run("pause", run)[0] == 0
        assert c.json("status", run)[1]["state"] == "paused"
        time.sleep(1.5)
        assert "two" not in [d["step"] for d in c.json("status", run)[1]["done"]]
        assert c.run("resume", run)[0] == 0
        assert [d["step"] for d in c.json("status", run)[1]["done"]] == ["one", "two"]
        assert c.run("fork", run, "--at", "two")[0] == 0
        fork = c.latest()
        assert fork != run and [d["step"] for d in c.json("status", fork)[1]["done"]] == ["one", "two"]
        slow = c.plan("steps:\n  - {name: long, run: \"sleep 600\"}\n")
        assert c.run("run", slow, "--detach")[0] == 0
        run = c.latest()
        assert c.run("cancel", run)[0] == 0
        c.until(lambda: c.json("status", run)[1]["state"] == "cancelled")


def test_an_outside_driver_repeats_nothing():
    with Cli() as c:
        step = ("step", "--run", "mine")
        code, out, err = c.run(*step, "count", "--", "/bin/sh", "-c", "echo x >> n.txt; wc -l < n.txt")
        assert (code, out) == (0, "1\n") and "'holdfast step --run mine --end' ends it" in err and "land" not in err, (code, out, err)
        code, _, err = c.run("land", "mine")
        assert code == 9 and "step --run NAME --end" in err and "by itself" not in err, (code, err)
        code, out, err = c.run(*step, "count", "--", "/bin/sh", "-c", "echo x >> n.txt; wc -l < n.txt")
        assert (code, out) == (0, "1\n") and "committed already" in err, (code, out, err)
        assert c.run(*step, "next", "--", "cat", "n.txt")[:2] == (0, "x\n")
        code, _, err = c.run(*step, "count", "--", "echo", "other")
        assert code == 125 and c.waiting()[0]["kind"] == "diverged", (code, err)
        card = c.run("show", c.waiting()[0]["approval"])[1]
        assert "before: /bin/sh -c 'echo x >> n.txt; wc -l < n.txt'\n" in card and "now:    echo other\n" in card, card
        assert "h'" not in card, card
        code, _, err = c.run(*step, "more", "--", "echo", "more")
        assert code == 125 and "holdfast queue" in err, (code, err)
        assert c.run("approve", c.waiting()[0]["approval"], "--as", "accept")[0] == 0
        assert c.run(*step, "more", "--", "echo", "more")[:2] == (0, "more\n")
        for _ in range(2):  # what was accepted once is not asked about again
            code, out, err = c.run(*step, "count", "--", "echo", "other")
            assert (code, out) == (0, "1\n") and "committed already" in err and not c.waiting(), (code, out, err)
        code, out, err = c.run(*step, "--end")
        assert code == 0, (code, out, err)
        assert c.read("n.txt") == "x\n"


def test_ending_a_drivers_run_leaves_with_what_became_of_it():
    with Cli() as c:
        assert c.run("step", "--run", "fails", "a", "--", "false")[0] == 1
        assert c.run("step", "--run", "fails", "--end")[0] == 1
        code, doc = c.json("step", "--run", "fails", "--end")
        assert code == doc["exit"] == 1, (code, doc)
        asks = os.path.join(c.root, "asks.yaml")
        with open(asks, "w") as f:
            f.write("version: 1\nname: asks\nextends: [offline]\nagency: draft\n")
        assert c.run("step", "--run", "waits", "--policy", asks, "a", "--", "/bin/sh", "-c", "echo new > new.txt")[0] == 0
        code, doc = c.json("step", "--run", "waits", "--end")
        assert code == doc["exit"] == 4, (code, doc)
        assert c.run("approve", c.waiting()[0]["approval"])[0] == 0
        assert c.run("step", "--run", "waits", "--end")[0] == 0 and c.read("new.txt") == "new\n"


def test_a_denied_commit_leaves_nothing_to_wait_for():
    with Cli() as c:
        assert c.run("run", c.plan("steps:\n  - {name: a, gate: commit, run: \"echo new > new.txt\"}\n"))[0] == 4
        assert c.run("deny", c.waiting()[0]["approval"])[0] == 0
        pid = c.json("status")[1]["daemon"]["pid"]
        fd = os.pidfd_open(pid)
        assert select.select([fd], [], [], 60)[0], "the supervisor stays though nothing is to be done"
        os.close(fd)


def test_a_projects_policy_is_trusted_by_digest():
    with Cli() as c:
        os.mkdir(c.path(".holdfast"))
        c.write(".holdfast/policy.yaml", "version: 1\nname: project\nextends: [offline]\nenv: {set: {COLOUR: blue}}\n")
        code, out, err = c.run("exec", "--", "/bin/sh", "-c", "echo $COLOUR")
        assert code == 0 and out == "\n" and "holdfast trust" in err, (code, out, err)
        code, out, err = c.run("run", c.plan("land: never\nsteps:\n  - {name: a, run: [\"true\"]}\n"))
        assert code == 0 and (out + err).count("is not trusted") == 1, (out, err)
        code, _, err = c.run("trust")
        assert code == 4 and "--yes" in err and err.count("would allow:") == 1, (code, err)
        code, doc = c.json("trust", "--yes")
        assert code == 0 and doc["path"] == c.path(".holdfast/policy.yaml") and doc["already"] is False, doc
        assert c.json("trust")[1]["already"] is True
        assert c.run("exec", "--", "/bin/sh", "-c", "echo $COLOUR")[:2] == (0, "blue\n")
        c.write(".holdfast/policy.yaml", "version: 1\nname: project\nextends: [offline]\nenv: {set: {COLOUR: red}}\n")
        assert c.run("exec", "--", "/bin/sh", "-c", "echo $COLOUR")[:2] == (0, "\n")


def test_a_note_is_said_once():
    with Cli() as c:
        os.mkdir(c.path(".holdfast"))
        c.write(".holdfast/policy.yaml", "version: 1\nextends: [offline]\n")
        said = [sum(c.run("step", "--run", "drv", name, "--", "true")[2].count("is not trusted") for name in names)
                for names in (("a",), ("b", "c"))]
        assert said == [1, 0], "once for the run, by the step that made it"
        code, out, err = c.run("--json", "exec", "--", "true")
        assert code == 0 and err == "" and sum("is not trusted" in n for n in json.loads(out)["status"]["notes"]) == 1, (out, err)
        c.write("p.yaml", "version: 1\nextends: [offline]\nlimits: {output: 10}\n")
        c.run("run", c.plan("land: never\nsteps:\n  - {name: a, run: 'echo 0123456789abcdef; exit 3', retry: {max: 3, backoff: 1s..1s,"
                            " on: [exit]}}\n"), "--policy", "tree/p.yaml", cwd=c.root)
        out = c.run("show", c.latest(), "a")[1]
        assert out.count("  attempt ") == 3 and out.count("note: output kept") == 1, out


def on_terminal(argv, env, cwd):
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve(argv[0], argv, env)
    said = b""
    while select.select([fd], [], [], 30)[0]:
        try:
            said += os.read(fd, 4096)
        except OSError:
            break
    os.close(fd)
    os.waitpid(pid, 0)
    return said


def test_colours_are_for_terminals_and_for_who_wants_them():
    with Cli() as c:
        assert c.run("exec", "--name", "one", "--", "true")[0] == 0
        false = c.script("bin/git", "exit 1\n")  # the example ends after its first words
        demo = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "fix-bug", "run")
        path = f"{os.path.dirname(false)}:{os.environ['PATH']}"
        for argv, env in (([HOLDFAST, "--state", c.state, "status", "one"], c.env),
                          ([HOLDFAST, "--state", c.state, "verify"], c.env),
                          (["/bin/sh", demo, HOLDFAST], {**c.env, "PATH": path})):
            assert b"\033[" in on_terminal(argv, env, c.tree), argv
            plain = on_terminal(argv, {**env, "NO_COLOR": "1"}, c.tree)
            piped = subprocess.run(argv, env=env, cwd=c.tree, capture_output=True, check=False, stdin=subprocess.DEVNULL).stdout
            assert plain and b"\033" not in plain and piped and b"\033" not in piped, (argv, plain, piped)


def test_every_document_has_its_version_and_its_members_are_in_the_manual():
    with Cli() as c:  # Cli.run compares each with holdfast-json(5)
        c.write("p.yaml", "version: 1\nextends: [offline]\ntools:\n  - {id: t, do: ask, run: [/usr/bin/true], undo: {tool: t}, effect: reversible}\n"
                "limits: {output: 4KiB}\ntests:\n  - {read: /etc/shadow, expect: deny}\n")
        plan = c.plan("name: all\nsteps:\n  - {name: one, run: 'echo x > x.txt; holdfast tool t; mount -t tmpfs none /tmp; true'}\n"
                      "  - {name: two, needs: [one], run: 'echo y > y.txt'}\n")
        policy = ("--policy", c.path("p.yaml"))
        asked = []

        def document(*words):
            code, out, err = c.run("--json", *words)
            asked.append(words[0] if words[0] != "policy" else " ".join(words[:2]))
            documents = [json.loads(line) for line in out.splitlines()]
            assert documents and all(d["version"] == 1 for d in documents), (words, code, out, err)
            return documents[0]

        run = document("run", plan, *policy, "--detach")["run"]
        c.until(c.waiting)
        for words in (("queue",), ("status",), ("status", run), ("show", c.waiting()[0]["approval"])):
            document(*words)
        document("approve", c.waiting()[0]["approval"], "--yes", "--reason", "read")
        effect = c.until(lambda: c.json("status", run)[1]["effects_done"]) or c.json("status", run)[1]["effects_done"][0]["effect"]
        c.until(lambda: c.json("status", run)[1]["landing"] == "landed")
        other = document("run", c.plan("land: ask\nsteps:\n  - {name: a, run: 'echo 1 > a.txt'}\n", "other.yaml"))["run"]
        document("deny", c.waiting()[0]["approval"], "--yes")
        document("show", c.json("step", "--run", "drv", "s", "--", "true")[1]["run"])
        document("policy", "test", "--replay", run, "base")
        for words in (("exec", "--", "false"), ("exec", "--", "/no/program"), ("show", run, "one"), ("show", effect), ("log", run),
                      ("diff", run), ("diff", run, "one", "--all"), ("undo", run), ("land", other), ("queue", "--stats"), ("agency", run),
                      ("agency", run, "draft"), ("step", "--run", "drv", "t", "--", "true"), ("pause", "drv"),
                      ("cancel", "drv"), ("resume", run), ("--version",), ("fork", run, "--at", "two"), ("undo", "--effect", effect),
                      ("status", "--all"), ("doctor",), ("verify",), ("fsck",), ("gc",), ("policy", "check", "p.yaml"),
                      ("policy", "explain", "p.yaml"), ("policy", "explain", "p.yaml", "read", "/etc/shadow"), ("policy", "explain", "E0001"),
                      ("policy", "test", "p.yaml"), ("policy", "diff", "base", "p.yaml"), ("policy", "learn", "--", "true"), ("gc", "--older-than", "0s")):
            document(*words)
        os.mkdir(c.path(".holdfast"))
        c.write(".holdfast/policy.yaml", "version: 1\nextends: [offline]\n")
        document("trust", "--yes")
        assert set(PAGE.commands) - {""} == set(asked) - {"--version"}, "and every command that prints one"
        assert PAGE.check("trust", {"version": 1, "unheard_of": 1}) == [".unheard_of"], "this comparison can fail"


def manual(page):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", page)) as f:
        return f.read()


def test_the_example_of_the_manual_is_a_policy_without_findings():
    with Cli() as c:
        text = re.search(r"^# EXAMPLE\n.*?^```\n(.*?)^```$", manual("holdfast-policy.5.scd"), re.S | re.M)[1]
        c.write("acme.yaml", text)
        assert c.run("policy", "check", "acme.yaml")[:2] == (0, "")
        code, out, err = c.run("policy", "test", "acme.yaml")
        assert code == 0 and out == f"{text.count('expect:')} tests, 0 failed\n", (code, out, err)
        for part in ("fs", "net", "secrets", "limits", "approvals", "steps", "tests", "card"):
            assert re.search(rf"^ *{part}:", text, re.M), part


def test_the_built_in_mask_holds_at_the_top_of_the_workspace_as_the_manual_says():
    said = re.search(r"^\*offline\*\n(.*?)^\*coding\*", manual("holdfast-policy.5.scd"), re.S | re.M)[1].replace("\\", "")
    with Cli() as c:
        code, text, _ = c.run("--json", "policy", "explain", "offline")
        masked = [os.path.basename(m["path"]) for m in json.loads(text)["fs"]
                  if m["access"] == "none" and os.path.dirname(m["path"]) == c.tree]
        assert code == 0 and len(masked) > 10
        for name in masked:
            assert f"*{name.removeprefix('*')}*" in said, name
        os.mkdir(c.path("api"))
        for name in (".env", "api/.env", "api/server.key"):
            c.write(name, "secret\n")
        assert c.run("exec", "--", "cat", ".env")[0] == 1
        assert c.run("exec", "--", "cat", "api/.env", "api/server.key")[:2] == (0, "secret\nsecret\n")
        c.write("p.yaml", 'version: 1\nextends: [offline]\nfs:\n  - {path: "${workspace}/api/.env*", access: none}\n')
        assert c.run("exec", "--policy", c.path("p.yaml"), "--", "cat", "api/.env")[:2] == (1, "")


def test_learn_writes_over_no_file_unless_it_is_told():
    with Cli() as c:
        c.write("draft.yaml", "mine\n")
        code, _, err = c.run("policy", "learn", "--output", "draft.yaml", "--", "true")
        assert code == 2 and "draft.yaml is there already" in err and "--yes" in err, (code, err)
        assert c.read("draft.yaml") == "mine\n" and not os.path.exists(c.state), "nothing was begun"
        for words in (("new.yaml",), ("draft.yaml", "--yes"), ("/dev/null",)):
            code, _, err = c.run("policy", "learn", "--output", *words, "--", "true")
            assert code == 0, (words, err)
        assert c.read("draft.yaml") == c.read("new.yaml") and "extends" in c.read("new.yaml")
        code, _, err = c.run("policy", "learn", "--no-such", "--", "true")
        assert code == 2 and err.count("--no-such") == 1 and err.startswith("holdfast: "), err


def test_limits_in_their_weaker_form_are_said():
    with Cli() as c:
        c.run("exec", "--", "true")  # the first one may have other words for the user
        code, out, err = c.run("exec", "--", "echo", "x")
        assert (code, out) == (0, "x\n"), err
        run = c.latest()
        code, _, err2 = c.run("doctor", "--cached")
        assert code == 8 and "nothing is kept" in err2, err2
        found = c.run("doctor")
        assert c.run("doctor", "--cached") == found, "what was kept is another answer"
        sampled = "memory sampled" in found[1]
        said = [n for n in c.json("status", run)[1]["notes"] if "sampled, not enforced" in n]
        shown = [line for line in err.splitlines() if "sampled, not enforced" in line]
        assert (len(said), len(shown)) == ((1, 1) if sampled else (0, 0)), (sampled, said, err)


def test_terminal():
    with Cli() as c:
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(c.tree)
            os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, "exec", "-it", "--", "/bin/sh"], {**c.env, "TERM": "xterm", "PS1": "> "})
        said = b""

        def until(text):
            nonlocal said
            end = time.monotonic() + 20
            while text not in said:
                assert time.monotonic() < end, said
                if select.select([fd], [], [], 0.2)[0]:
                    said += os.read(fd, 4096)

        time.sleep(1)
        os.write(fd, b"tty && stty size && echo $((40 + 2))\n")
        until(b"/dev/pts/0")
        until(b"42")
        os.write(fd, b"sleep 100\n")
        time.sleep(0.5)
        os.write(fd, b"\x03")
        os.write(fd, b"echo interrupted-$?\n")
        until(b"interrupted-130")
        os.write(fd, b"exit 5\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        os.close(fd)


def test_who_follows_a_run_goes_on_with_it():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n" + "".join(
            f"  - {{name: s{i}, {f'needs: [s{i - 1}], ' if i else ''}run: \"sleep 1; echo {i}\"}}\n" for i in range(4)))
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "run", plan], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             stdin=subprocess.DEVNULL, env=c.env)
        c.until(lambda: any(r["state"] == "running" for r in c.json("status", "--all")[1]["runs"]))
        for _ in range(2):
            os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
            time.sleep(0.1)
            c.run("status")  # a reading command starts the next one
            time.sleep(0.8)
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0, (out, err)
        assert len(c.json("status", c.latest())[1]["done"]) == 4


def test_exec_outlives_its_supervisor():
    with Cli() as c:
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "exec", "--", "/bin/sh", "-c",
                              "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.2; done; exit 4"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=c.env, cwd=c.tree)
        c.until(lambda: any(r["state"] == "running" for r in c.json("status", "--all")[1]["runs"]))
        time.sleep(0.5)
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        out, err = p.communicate(timeout=30)
        assert p.returncode == 4 and out == "".join(f"line {i}\n" for i in range(1, 11)), (p.returncode, out, err)


def test_exec_and_step_go_on_with_the_next_attempt_when_the_keeper_alone_dies():
    for words in (["exec", "--"], ["step", "--run", "driven", "sh", "--"]):
        with Cli() as c:
            p = subprocess.Popen([HOLDFAST, "--state", c.state, *words, "/bin/sh", "-c", "echo hi; sleep 3; echo bye; exit 5"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=c.env,
                                 cwd=c.tree)
            assert p.stdout.readline() == "hi\n"
            os.kill(c.json("status")[1]["daemon"]["keeper"], signal.SIGKILL)
            out, err = p.communicate(timeout=60)
            assert p.returncode == 5 and out == "hi\nbye\n", (words, p.returncode, out, err)
            assert "attempt 1 was lost" in err and "runs again" in err, err


def test_a_followed_log_outlives_its_supervisor():
    with Cli() as c:
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "exec", "--", "/bin/sh", "-c", "sleep 4"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=c.env, cwd=c.tree)
        c.until(lambda: any(r["state"] == "running" for r in c.json("status", "--all")[1]["runs"]))
        with open(c.path("log"), "w") as f:
            log = subprocess.Popen([HOLDFAST, "--state", c.state, "--json", "log", c.latest(), "-f"], stdin=subprocess.DEVNULL,
                                   stdout=f, stderr=subprocess.PIPE, text=True, env=c.env, cwd=c.tree)
        c.until(lambda: "ATTEMPT_STARTED" in c.read("log"))
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        err = log.communicate(timeout=60)[1]
        assert log.returncode == 0 and p.wait(30) == 0, err
        events = [json.loads(line) for line in c.read("log").splitlines()]
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), events
        assert "ATTEMPT_ADOPTED" in [e["type"] for e in events] and events[-1]["type"] == "RUN_SUCCEEDED", events


def half_done(c):
    plan = c.plan("land: never\nsteps:\n  - {name: one, run: \"mkdir d; echo 1 > d/f; chmod 700 d\"}\n"
                  "  - {name: two, needs: [one], run: \"echo 2 >> d/f; sleep 2\"}\n"
                  "  - {name: three, needs: [two], run: \"cat d/f\"}\n")
    p = subprocess.Popen([HOLDFAST, "--state", c.state, "run", plan], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         stdin=subprocess.DEVNULL, env=c.env)
    c.until(lambda: any(s["name"] == "two" and s["state"] == "active" for r in c.json("status", "--all")[1]["runs"]
                        for s in c.json("status", r["run"])[1]["steps"]))
    p.kill()
    p.wait()
    return c.latest()


def test_a_restored_state_directory_goes_on():
    with Cli() as c:
        run = half_done(c)
        daemon = c.json("status")[1]["daemon"]
        for pid in (daemon["pid"], daemon["keeper"]):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        os.rename(c.state, c.state + ".lost")  # its inodes stay in use: the copy gets others
        # Past the folder of mode 000 that the overlay of a killed attempt leaves, which only root reads.
        subprocess.run(["cp", "-a", c.state + ".lost", c.state], check=os.geteuid() == 0, stderr=subprocess.DEVNULL)
        code, out, err = c.run("resume", run)
        assert code == 0, (code, out, err)
        assert c.run("show", run, "three")[1].count("1\n2\n") == 1


def test_a_state_directory_that_was_moved_under_its_keeper_goes_on():
    with Cli() as c:
        run = half_done(c)
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        os.rename(c.state, c.state + ".moved")
        c.state += ".moved"
        code, out, err = c.run("resume", run)
        assert code == 0, (code, out, err)
        assert c.run("show", run, "three")[1].count("1\n2\n") == 1


def test_exec_says_when_what_was_left_is_refused():
    with Cli() as c:
        code, _, err = c.run("exec", "--", "/usr/bin/python3", "-c", "import os\nfor i in range(30):\n os.mkdir('d' * 200)\n os.chdir('d' * 200)")
        assert code == 125 and "4095" in err, (code, err)


def test_output_that_nobody_reads_ends_the_command():
    with Cli() as c:
        p = subprocess.Popen(f"{HOLDFAST} --state {c.state} exec -- yes | head -1", shell=True, stdout=subprocess.PIPE, env=c.env, cwd=c.tree,
                             stdin=subprocess.DEVNULL)
        assert p.communicate(timeout=30)[0] == b"y\n"
        c.until(lambda: c.json("status", c.latest())[1]["state"] == "cancelled")


def test_output_that_cannot_be_written_is_said_and_ends_the_command():
    with Cli() as c:
        command = ["exec", "--", "/bin/sh", "-c", "while echo hi; do sleep 0.2; done"]
        with open("/dev/full", "w") as full:
            p = subprocess.run([HOLDFAST, "--state", c.state, *command], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                               text=True, env=c.env, cwd=c.tree, timeout=60, check=False)
        assert p.returncode == 125 and "standard output cannot be written: No space left on device" in p.stderr, p
        c.until(lambda: c.json("status", c.latest())[1]["state"] == "cancelled")

        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(c.tree)
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
            os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, "exec", "-t", *command[1:]], c.env)
        said = b""
        try:
            while piece := os.read(fd, 4096):
                said += piece
        except OSError:  # EIO: the last one that had the terminal open is gone
            pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125 and b"No space left on device" in said, said
        os.close(fd)
        c.until(lambda: [r["state"] for r in c.json("status", "--all")[1]["runs"]] == ["cancelled"] * 2)


def test_a_supervisor_that_dies_under_a_request_for_output_ends_no_command():
    with Cli() as c:
        for at in (1, 2):  # the request for one stream, and for the other
            env = {**c.env, "HOLDFAST_FAILPOINT": f"client.stream=error:EPIPE@{at}"}
            p = subprocess.run([HOLDFAST, "--state", c.state, "exec", "--", "/bin/sh", "-c", "echo hi; sleep 1; echo bye; exit 3"],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=c.tree, timeout=60, check=False)
            assert (p.returncode, p.stdout) == (3, "hi\nbye\n"), p


def test_interrupts():
    for times, state in ((1, "paused"), (2, "cancelled")):
        with Cli() as c:
            plan = c.plan("land: never\nsteps:\n  - {name: one, run: \"sleep 3\"}\n  - {name: two, needs: [one], run: \"true\"}\n")
            p = subprocess.Popen([HOLDFAST, "--state", c.state, "run", plan], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 stdin=subprocess.DEVNULL, env=c.env)
            c.until(lambda: any(r["state"] == "running" for r in c.json("status", "--all")[1]["runs"]))
            c.until(lambda: c.json("status", c.latest())[1]["in_flight"])
            time.sleep(0.5)
            for _ in range(times):
                p.send_signal(signal.SIGINT)
                time.sleep(0.5)
            out, err = p.communicate(timeout=30)
            run = c.latest()
            c.until(lambda: c.json("status", run)[1]["state"] == state)
            status = c.json("status", run)[1]
            assert "paused" in err and ("cancelled" in err) == (times == 2), err
            assert [d["step"] for d in status["done"]] == (["one"] if times == 1 else []), (status, out, err)
            assert f"'holdfast resume {run[:8]}' goes on" in err, err


def test_ctrl_c_on_exec_pauses_says_how_to_go_on_and_kills_the_second_time():
    for more in ((), ("--json",)):
        for times, state, status in ((1, "paused", 7), (2, "cancelled", 125)):
            with Cli() as c:
                p = subprocess.Popen([HOLDFAST, "--state", c.state, *more, "exec", "--land", "--", "/bin/sh", "-c",
                                      "echo begun; echo new > n.txt; sleep 3; echo over; exit 7"],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=c.env, cwd=c.tree)
                c.until(lambda: os.path.exists(c.state) and any(r["state"] == "running" for r in c.json("status", "--all")[1]["runs"]))
                c.until(lambda: c.json("status", c.latest())[1]["in_flight"])
                time.sleep(0.5)
                for _ in range(times):
                    p.send_signal(signal.SIGINT)
                    time.sleep(0.5)
                out, err = p.communicate(timeout=30)
                run = c.latest()
                c.until(lambda: c.json("status", run)[1]["state"] == state)
                assert p.returncode == status, (p.returncode, out, err)
                assert f"run {run[:8]} is paused: no further step starts, what runs goes on to its end; 'holdfast resume {run[:8]}' goes on; Ctrl-C again kills it" in err, err
                assert ("is cancelled: what ran is killed" in err) == (times == 2), err
                if not more:
                    assert ("begun" in out) and ("over" in out) == (times == 1), out
                assert c.read("n.txt") is None, "a paused run landed"
                if times == 1:
                    assert c.run("resume", run)[0] == 1, "its step failed"


def test_a_run_that_ctrl_c_paused_goes_on_when_it_is_started_again_by_its_name():
    with Cli() as c:
        plan = c.plan("steps:\n  - {name: one, run: \"sleep 2\"}\n  - {name: two, needs: [one], run: \"echo did > did.txt\"}\n")
        words = [HOLDFAST, "--state", c.state, "run", plan, "--name", "again"]
        p = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=c.env)
        c.until(lambda: os.path.exists(c.state) and any(r["state"] == "running" for r in c.json("status", "--all")[1]["runs"]))
        c.until(lambda: c.json("status", "again")[1]["in_flight"])
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=30)
        assert c.json("status", "again")[1]["state"] == "paused" and c.read("did.txt") is None, (out, err)
        code, out, err = c.run("run", plan, "--name", "again")
        assert code == 0 and c.read("did.txt") == "did\n", (code, out, err)
        assert len(c.json("status", "--all")[1]["runs"]) == 1
        # A driver's next step is not the word of the person who paused it.
        assert c.run("step", "--run", "drv", "a", "--", "true")[0] == 0
        assert c.run("pause", "drv")[0] == 0
        p = subprocess.Popen([HOLDFAST, "--state", c.state, "step", "--run", "drv", "b", "--", "true"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=c.env, cwd=c.tree)
        time.sleep(1)
        assert c.json("status", "drv")[1]["state"] == "paused"
        p.kill()
        p.communicate()


def test_bad_plans_start_nothing():
    with Cli() as c:
        bad = {
            "cycle": ("steps:\n  - {name: a, needs: [b], run: [x]}\n  - {name: b, needs: [a], run: [x]}\n", "cycle"),
            "need": ("steps:\n  - {name: a, needs: [zz], run: [x]}\n", "zz"),
            "twice": ("steps:\n  - {name: a, run: [x]}\n  - {name: a, run: [x]}\n", "a"),
            "anchor": ("steps: &x\n  - {name: a, run: [x]}\n", "anchor"),
            "unknown": ("stepz:\n  - {name: a, run: [x]}\n", "steps"),
            "number": ("steps:\n  - {name: a, run: [x], retry: {max: 99999999999}}\n", "max"),
        }
        for name, (text, says) in bad.items():
            code, _, err = c.run("run", c.plan(text))
            assert code == 2 and says in err and re.search(r"plan\.yaml:\d+:\d+", err), (name, code, err)
        assert c.run("run", "/no/such/plan.yaml")[0] == 2
        assert c.json("status", "--all")[1]["runs"] == []


def test_usage_and_words():
    with Cli() as c:
        code, _, err = c.run("stauts")
        assert code == 2 and "did you mean 'status'" in err
        assert c.run("--help")[0] == 0 and c.run("--version")[0] == 0
        for command in ("run exec resume step status log show diff land undo queue approve deny pause cancel fork trust doctor verify fsck "
                        "export gc daemon").split():
            code, out, err = c.run(command, "--help")
            assert code == 0 and "usage: holdfast" in out, (command, code, out, err)
        code, _, err = c.run("status", "0000")
        assert code == 2 and err.count(":") >= 2 and ";" in err, (code, err)
        code, out, _ = c.run("--json", "status", "0000")
        assert code == 2 and json.loads(out)["error"]["exit"] == 2
        assert "nothing waits" in c.run()[1] and "nothing waits" in c.run("queue")[1]


def test_the_journal_can_be_checked_and_carried_away():
    with Cli() as c:
        c.run("exec", "--", "/bin/sh", "-c", "echo x > x.txt")
        for held in (True, False):
            assert c.run("verify")[0] == 0 and c.run("fsck")[0] == 0, held
            out = os.path.join(c.root, f"export{held}")
            with open(out, "wb") as f:
                r = subprocess.run([HOLDFAST, "--state", c.state, "export"], stdout=f, env=c.env, check=False)
            assert r.returncode == 0 and os.path.getsize(out) > 1000
            if held:
                c.stop_supervisor()
        assert c.run("gc")[0] == 0


class Held:
    """The journal, locked as an audit locks it."""

    def __init__(self, c):
        program = (f"import fcntl, os, sys, time; f = open({os.path.join(c.state, 'v1', 'lock')!r}, 'r+'); fcntl.flock(f, fcntl.LOCK_EX)\n"
                   "f.truncate(); f.write(str(os.getpid()) + '\\n'); f.flush(); print('locked', flush=True)\n"
                   "time.sleep(120)")
        self.process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "locked\n"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_who_finds_the_journal_held_waits_and_says_whom_for():
    with Cli() as c:
        c.run("exec", "--", "true")
        for command in (("status",), ("exec", "--", "echo", "hi"), ("verify",), ("fsck",), ("fsck", "--repair"), ("gc",)):
            c.stop_supervisor()
            with Held(c) as held:
                p = subprocess.Popen([HOLDFAST, "--state", c.state, *command], cwd=c.tree, env=c.env, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                said = p.stderr.readline()
                assert f"process {held.process.pid} has it open: waiting for it, 60 s at most\n" in said, (command, said)
            _, err = p.communicate(timeout=120)
            assert p.returncode == 0 and "waiting for it" not in err, (command, p.returncode, err)
        if os.environ.get("HOLDFAST_HAS_FAILPOINTS", "1") != "1":
            return
        for command, status in ((("status",), 9), (("exec", "--", "true"), 125), (("verify",), 9)):
            c.stop_supervisor()
            with Held(c) as held:
                c.env["HOLDFAST_FAILPOINT"] = "client.held=error:EIO"  # as if it had waited long enough
                code, _, err = c.run(*command)
                c.env.pop("HOLDFAST_FAILPOINT")
            assert code == status and f"process {held.process.pid} has it open; " in err, (command, code, err)


def test_audits_and_commands_beside_each_other_all_have_their_answer():
    with Cli() as c:
        c.run("exec", "--", "true")
        for _ in range(3):
            c.stop_supervisor()
            begun = [(a, subprocess.Popen([HOLDFAST, "--state", c.state, *a], cwd=c.tree, env=c.env, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
                     for a in (("verify",), ("status",), ("fsck",), ("exec", "--", "true"), ("gc",), ("queue",))]
            for a, p in begun:
                _, err = p.communicate(timeout=120)
                assert p.returncode == 0, (a, p.returncode, err)


def test_a_supervisor_that_cannot_be_reached_is_waited_for():
    with Cli() as c:
        # longer than a first command would go on asking without waiting for its end
        plan = c.plan("land: never\nsteps:\n  - {name: slow, run: 'sleep 15'}\n")
        assert c.run("run", plan, "--name", "slow", "--detach")[0] == 0
        pid = c.json("status")[1]["daemon"]["pid"]
        with open(os.path.join(c.state, "runtime")) as f:
            runtime = f.read().strip()
        assert runtime.startswith(c.root), runtime
        subprocess.run(["rm", "-rf", runtime], check=True)
        code, out, err = c.run("status", "slow")
        assert code == 0 and "succeeded" in out, (code, out, err)
        assert f"process {pid}: waiting for it, 60 s at most\n" in err, err


def test_a_live_run_is_attached_to_while_the_disk_is_nearly_full():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n  - {name: slow, run: 'while ! test -e go; do sleep 0.1; done'}\n")
        assert c.run("run", plan, "--name", "Q", "--detach")[0] == 0
        run = c.latest()
        c.stop_supervisor()
        settings(c, "limits: {reserve: 4096GiB}\n")
        code, _, err = c.run("run", plan, "--name", "Q", "--detach")
        assert code == 0 and c.latest() == run, (code, err)
        for words in ((), ("--name", "R")):
            code, _, err = c.run("run", plan, *words, "--detach")
            assert code == 7 and "nearly full" in err, (code, err)
        c.run("cancel", "Q")
        c.until(lambda: c.json("status", "Q")[1]["state"] == "cancelled")


def settings(c, text, mode=0o644):
    folder = os.path.join(c.env["HOME"], ".config", "holdfast")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "config.yaml")
    with open(path, "w") as f:
        f.write("version: 1\n" + text)
    os.chmod(path, mode)
    return path


def test_the_settings_say_where_the_state_is():
    with Cli() as c:
        path = settings(c, "state: ${home}/elsewhere/of-${uid}\n")

        def plain(*args, **more):
            r = subprocess.run([HOLDFAST, *args], text=True, capture_output=True, timeout=120, cwd=c.tree, env={**c.env, **more},
                               stdin=subprocess.DEVNULL, check=False)
            return r.returncode, r.stdout, r.stderr

        c.state = os.path.join(c.env["HOME"], "elsewhere", f"of-{os.geteuid()}")
        assert plain("exec", "--name", "here", "--", "true")[0] == 0
        assert os.path.isdir(os.path.join(c.state, "v1"))
        assert c.json("status", "here")[1]["state"] == "succeeded"  # --state DIR is the same folder
        doctor = json.loads(plain("--json", "doctor")[1])
        found = {s["key"]: s for s in doctor["settings"]}
        assert found["state"]["value"] == c.state and found["state"]["from"] == f"{path}:2:8", found["state"]
        assert found["limits.attempts"] == {"key": "limits.attempts", "value": "64", "from": "default"}
        assert f"({path}:2:8)" in plain("doctor")[1]
        assert '"--state"' in c.run("--json", "doctor")[1]
        # A daemon that is started by hand, and what only reads the journal, honour it too.
        c.stop_supervisor()
        assert plain("verify")[0] == 0
        c.stop_supervisor()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(os.path.join(c.root, "ready"))
            ready.settimeout(30)
            daemon = subprocess.Popen([os.path.join(os.path.dirname(HOLDFAST), "holdfastd")], cwd="/", stderr=subprocess.DEVNULL,
                                      env={**c.env, "NOTIFY_SOCKET": os.path.join(c.root, "ready")})
            assert b"READY=1" in ready.recv(4096)  # nothing else may start one meanwhile
        try:
            assert c.json("status")[1]["daemon"]["pid"] == daemon.pid
        finally:
            daemon.terminate()
            assert daemon.wait(20) == 0
        if os.geteuid() != 0:  # root's default looks at no XDG_STATE_HOME
            other = os.path.join(c.root, "xdg")
            assert "$XDG_STATE_HOME" in plain("--json", "doctor", XDG_STATE_HOME=other)[1]
            assert not os.path.exists(other), "doctor left a folder where nothing was run"


def test_doctor_says_what_a_running_supervisor_still_goes_by():
    with Cli() as c:
        settings(c, "limits: {attempts: 7, idle: 60s}\n")
        assert c.run("exec", "--", "true")[0] == 0
        assert "still" not in json.dumps(c.json("doctor")[1]["settings"]) and "goes by" not in c.run("doctor")[1]
        path = settings(c, "limits: {idle: 60s}\n")
        rows = {s["key"]: s for s in c.json("doctor")[1]["settings"]}
        assert rows["limits.attempts"]["value"] == "64" and rows["limits.attempts"]["from"] == "default", rows
        assert rows["limits.attempts"]["still_in_force"] == {"key": "limits.attempts", "value": "7", "from": f"{path}:2:20"}, rows
        assert [k for k, s in rows.items() if "still_in_force" in s] == ["limits.attempts"], rows
        pid = c.json("status")[1]["daemon"]["pid"]
        assert f"supervisor {pid} read the files when it started, and goes by 7 ({path}:2:20)" in c.run("doctor")[1]


def test_wrong_settings_stop_every_command_at_their_place():
    with Cli() as c:
        path = settings(c, "limits: {atempts: 3}\n")
        for command in (("status",), (), ("exec", "--", "true"), ("doctor",), ("verify",)):
            code, out, err = c.run(*command)
            # A long path loses its front in an error, never the place.
            assert code == 2 and f"{path[-60:]}:2:10: " in err and "'attempts'" in err, (command, code, out, err)
        assert c.run("--help")[0] == 0 and c.run("--version")[0] == 0
        settings(c, "", mode=0o666)
        code, _, err = c.run("status")
        assert code == 2 and "chmod o-w" in err, err
        os.unlink(path)
        assert c.run("status")[0] == 0


def test_retention_drops_what_ended_long_enough_ago():
    with Cli() as c:
        settings(c, "retention: 1s\nlimits: {idle: 60s}\n")
        assert c.run("exec", "--name", "old", "--", "true")[0] == 0
        assert c.json("status", "old")[1]["state"] == "succeeded"
        c.until(lambda: time.sleep(1.5) or c.run("status", "old")[0] == 2)
        assert c.json("status", "--all")[1]["runs"] == []
        assert c.run("verify")[0] == 0 and c.run("fsck")[0] == 0


def test_the_limit_of_attempts_holds():
    with Cli() as c:
        settings(c, "limits: {attempts: 1}\n")
        plan = "steps:\n  - {name: long, run: 'sleep 2'}\n"
        for name in ("one", "two"):
            assert c.run("run", c.plan(plan), "--name", name, "--detach")[0] == 0
        c.until(lambda: all(r["state"] == "succeeded" for r in c.json("status", "--all")[1]["runs"]))
        (first,), (second,) = sorted((c.json("show", name, "long")[1]["attempts"] for name in ("one", "two")),
                                     key=lambda attempts: attempts[0]["started"])
        assert first["ended"] <= second["started"], (first, second)


def test_the_dial_of_a_live_run_is_turned_by_a_person():
    with Cli() as c:
        plan = c.plan("agency: draft\nsteps:\n"
                      "  - {name: a, run: 'echo a > a; sleep 3'}\n"
                      "  - {name: b, needs: [a], run: 'echo b > b'}\n")
        assert c.run("run", plan, "--name", "dial", "--detach")[0] == 0
        assert c.run("agency", "dial")[:2] == (0, "draft\n")
        code, _, err = c.run("agency", "dial", "assist")
        assert code == 4 and "--yes" in err, (code, err)
        code, _, err = c.run("agency", "dial", "asist", "--yes")
        assert code == 2 and "did you mean assist" in err, err
        code, out, err = c.run("agency", "dial", "assist", "--yes")
        assert code == 0 and "was draft" in out, (code, out, err)
        # It would have asked before landing; raised, it lands by itself.
        c.until(lambda: c.json("status", "dial")[1]["state"] == "succeeded")
        assert c.read("b") == "b\n" and c.json("status", "dial")[1]["agency"] == "assist"
        turned = [e for e in map(json.loads, c.run("--json", "log", "dial")[1].splitlines()) if e["type"] == "RUN_AGENCY"]
        assert len(turned) == 1 and turned[0]["actor"] == {"kind": "person", "uid": os.geteuid()}, turned
        assert "agency=assist" in c.run("log", "dial")[1]
        code, _, err = c.run("agency", "dial", "draft")
        assert code == 9 and "over" in err, (code, err)


def test_a_lowered_dial_takes_the_next_step_its_layer_and_no_policy_is_passed():
    with Cli() as c:
        with open(os.path.join(c.root, "policy.yaml"), "w") as f:
            f.write("version: 1\nname: p\nextends: [offline]\nagency: trusted\n")
        plan = c.plan("steps:\n  - {name: a, run: 'echo a > a; sleep 2'}\n"
                      "  - {name: b, needs: [a], retry: {max: 1}, run: 'cat a; echo b > b'}\n")
        assert c.run("run", plan, "--name", "low", "--policy", os.path.join(c.root, "policy.yaml"), "--detach")[0] == 0
        code, _, err = c.run("agency", "low", "autonomous", "--yes")
        assert code == 3 and re.search(r"policy\.yaml:\d+:\d+", err) and "at most trusted" in err, (code, err)
        assert c.run("agency", "low", "observe")[0] == 0  # lowering asks nobody
        c.until(lambda: c.json("status", "low")[1]["state"] in ("failed", "succeeded", "waiting"))
        assert [s["state"] for s in c.json("status", "low")[1]["steps"]] in (["committed", "failed"], ["committed", "exhausted"])
        step = c.run("show", "low", "b")[1]
        assert "a\n" in step and "Read-only" in step, step
        assert c.read("a") is None and c.read("b") is None


def test_a_landing_that_waits_is_withdrawn_by_lowering_the_dial():
    with Cli() as c:
        plan = c.plan("land: ask\nsteps:\n  - {name: a, run: 'echo a > a'}\n")
        assert c.run("run", plan, "--name", "low")[0] == 4
        item = c.waiting()[0]["approval"]
        assert c.run("agency", "low", "observe")[0] == 0
        status = c.json("status", "low")[1]
        assert (status["state"], status["landing"]) == ("succeeded", "unlanded") and c.waiting() == [], status
        assert c.run("approve", item)[0] not in (0, 4) and c.read("a") is None
        out = c.run("status", "low")[1]
        assert c.run("land", "low")[0] == 3 and c.read("a") is None
        assert "applies it" not in out, out


def test_what_a_killed_supervisor_probed_is_taken_away_by_the_next():
    with Cli() as c:
        plan = c.plan("steps:\n  - {name: a, run: 'echo a > a'}\n")
        assert c.run("run", plan)[0] == 0
        for pid in (c.json("status")[1]["daemon"]["pid"],):
            os.kill(pid, signal.SIGKILL)
        probe = ".holdfast-land-probe-4194305-1"  # no process has so high an id
        os.mkdir(c.path(probe))
        c.write(probe + "/a", "")
        assert c.run("diff", c.latest())[0] == 0
        assert not os.path.lexists(c.path(probe))


def test_a_program_that_changed_is_another_input():
    with Cli() as c:
        def tool(name, text):
            c.write(name, "#!/bin/sh\n" + text)
            os.chmod(c.path(name), 0o755)

        tool("tool", "echo one\n")
        os.symlink("tool", c.path("link"))
        step = ("step", "--run", "prog")
        assert c.run(*step, "direct", "--", "./tool")[:2] == (0, "one\n")
        assert c.run(*step, "linked", "--", "./link")[:2] == (0, "one\n")
        # What a layer brings is told by the layer: made by one step, it is found by the next.
        assert c.run(*step, "make", "--", "/bin/sh", "-c", "mkdir bin; cp tool bin/made; chmod -x link; ln -sf bin/made link")[0] == 0
        assert c.run(*step, "made", "--", "bin/made")[:2] == (0, "one\n")
        assert c.run(*step, "by-link", "--", "./link")[:2] == (0, "one\n")
        for name, program in (("direct", "./tool"), ("linked", "./link"), ("made", "bin/made"), ("by-link", "./link")):
            code, out, err = c.run(*step, name, "--", program)
            assert (code, out) == (0, "one\n") and "committed already" in err, (name, code, out, err)
        tool("tool", "echo two\n")
        assert "committed already" in c.run(*step, "made", "--", "bin/made")[2]
        code, _, err = c.run(*step, "direct", "--", "./tool")
        item = c.waiting()[0]
        assert code == 125 and item["kind"] == "diverged", (code, err)
        card = c.run("show", item["approval"])[1]
        assert "program" in card and "stdin" not in card, card


def test_an_exec_rule_that_asks_gates_the_step():
    with Cli() as c:
        policy = os.path.join(c.root, "asks.yaml")
        with open(policy, "w") as f:
            f.write("version: 1\nname: asks\nextends: [offline]\nexec:\n  - {do: allow, path: /}\n"
                    "  - {do: ask, path: /usr/bin/env, argv: [env, push], why: pushes are for people}\n")
        plan = c.plan("land: never\nsteps:\n  - {name: free, run: [/usr/bin/env, echo, free]}\n"
                      "  - {name: asked, run: [env, push, x]}\n")
        code, out, err = c.run("run", plan, "--policy", policy)
        assert code == 4, (code, out, err)
        item = c.waiting()[0]
        assert item["kind"] == "step-gate" and [i["step"] for i in c.waiting()] == ["asked"], item
        card = c.run("show", item["approval"])[1]
        assert f"{policy}:6:5: " in card and "pushes are for people" in card, card
        assert c.run("approve", item["approval"])[0] == 0
        # It was let start: that there is no program of that name is another matter.
        c.until(lambda: c.json("status", item["run"])[1]["state"] in ("failed", "waiting"))
        assert "No such file" in c.run("show", item["run"], "asked")[1]
        code, _, err = c.run("run", plan, "--policy", policy, "--name", "denied")
        assert code == 4
        assert c.run("deny", c.waiting()[0]["approval"])[0] == 0
        assert c.run("resume", "denied")[0] == 3


def test_an_error_is_said_once_as_json_or_as_text():
    with Cli() as c:
        c.write("bad.yaml", "version: 1\nsteps: 3\n")
        for command, status in ((("status", "0000"), 2), (("status", "--no-such-option"), 2), (("stauts",), 2), (("run", "bad.yaml"), 2),
                                (("export", "a", "b"), 2), (("policy", "check", "/no/such"), 2), (("trust",), 2),
                                (("exec", "--policy", "/no/such", "--", "true"), 125)):
            code, out, err = c.run("--json", *command)
            assert code == status and err == "", (command, code, out, err)
            said = json.loads(out)
            assert said["version"] == 1 and said["error"]["what"], (command, said)
            code, out, err = c.run(*command)
            assert code == status and out == "" and err, (command, code, out, err)


def test_words_of_the_small_commands():
    with Cli() as c:
        code, _, err = c.run("trust")
        assert code == 2 and "nothing to trust: there is no .holdfast/policy.yaml in" in err, (code, err)
        assert c.run("exec", "--name", "one", "--", "true")[0] == 0
        for i, args in enumerate((("one", "--output"), ("--output",), ("one", "-o"), ("-o",))):
            path = os.path.join(c.root, f"out{i}")
            words = [*args, path] + ([] if args[0] == "one" else ["one"])
            assert c.run("export", *words)[0] == 0 and os.path.getsize(path) > 100, words
        assert subprocess.run([HOLDFAST, "--state", c.state, "export", "one", "-o", "-"], env=c.env, capture_output=True,
                              check=True).stdout == open(path, "rb").read()
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, "export", "one"], c.env)
        said = b""
        while select.select([fd], [], [], 10)[0]:
            try:
                said += os.read(fd, 4096)
            except OSError:
                break
        os.close(fd)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2 and b"-o -" in said, said
        assert "not what it takes away" in c.run("policy", "diff", "base", "offline")[1]
        assert c.run("show", "")[0] == 2 and c.run("log", "")[0] == 2
        code, _, err = c.run("exec", "--", "echo", *map(str, range(5000)))
        assert code == 125 and "5001 arguments" in err and "4096" in err, (code, err)


def test_the_roll_up_shows_the_same_whoever_asked_for_what_before():
    with Cli() as c:
        waits = c.plan("land: never\nsteps:\n  - {name: g, gate: ask, run: 'true'}\n")
        assert c.run("run", waits, "--name", "waits")[0] == 4
        for i in range(12):
            assert c.run("exec", "--name", f"n{i}", "--", "true")[0] == 0

        def shown():
            doc = c.json("status")[1]
            return [r["name"] for r in doc["runs"]], doc["ended"]

        want = (["waits"] + [f"n{i}" for i in range(2, 12)], 2)
        assert shown() == want, shown()
        assert [r["name"] for r in c.json("status", "--all")[1]["runs"]] == [f"n{i}" for i in range(11, -1, -1)] + ["waits"]
        assert shown() == want, ("--all was asked for before", shown())
        out = c.run()[1]
        assert "2 more runs have ended: 'holdfast status --all' shows them too" in out and " n2 " in out and " n1 " not in out, out
        assert c.run("status", "n0")[0] == 0 and shown() == want, ("n0 was looked up before", shown())
        c.stop_supervisor()
        assert shown() == want, ("a supervisor that has looked nothing up", shown())


def test_a_killed_supervisor_is_started_again_under_any_command():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n  - {name: g, gate: ask, run: 'true'}\n")
        for _ in range(12):
            assert c.run("run", plan)[0] == 4
            item = c.waiting()[0]["approval"]
            os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
            code, _, err = c.run("approve", item)
            assert code == 0, (code, err)


def test_a_copied_state_directory_is_not_served_by_the_originals_supervisor():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n  - {name: slow, run: 'for i in 1 2 3 4 5; do echo $i; sleep 1; done'}\n")
        assert c.run("run", plan, "--name", "slow", "--detach")[0] == 0
        c.until(lambda: c.json("status", "slow")[1]["in_flight"])
        copy = os.path.join(c.root, "copy")
        subprocess.run(["cp", "-a", c.state, copy], check=False, stderr=subprocess.DEVNULL)  # overlay has a folder of mode 000
        first = c.json("status")[1]["daemon"]
        state, c.state = c.state, copy
        try:
            doc = c.json("status")[1]
            assert doc["daemon"]["pid"] != first["pid"], doc["daemon"]
            assert c.run("resume", "slow")[0] == 0
            assert c.json("status", "slow")[1]["steps"][0]["attempts"] == 2
            other = c.json("status")[1]["daemon"]
            for pid in (other["pid"], other["keeper"]):
                os.kill(pid, signal.SIGKILL)
        finally:
            c.state = state
        c.until(lambda: c.json("status", "slow")[1]["state"] == "succeeded")
        assert c.json("status", "slow")[1]["steps"][0]["attempts"] == 1
        assert c.run("show", "slow", "slow")[1].endswith("".join(f"{i}\n" for i in range(1, 6)))


def test_a_damaged_database_is_said_and_left_as_it_is():
    def content(folder):
        return {n: open(os.path.join(folder, n), "rb").read() for n in sorted(os.listdir(folder))}

    def cut(path):
        with open(path, "r+b") as f:
            f.seek(30)
            f.write(b"\xff" * 60)

    damages = {
        "CURRENT is missing": lambda j: os.unlink(os.path.join(j, "CURRENT")),
        "MANIFEST-": lambda j: [os.unlink(os.path.join(j, n)) for n in os.listdir(j) if n.startswith("MANIFEST")],
        "Corruption": lambda j: [cut(os.path.join(j, n)) for n in os.listdir(j) if n.startswith("MANIFEST")],
        "CURRENT is damaged": lambda j: open(os.path.join(j, "CURRENT"), "w").close(),
        "missing": lambda j: [os.unlink(os.path.join(j, n)) for n in os.listdir(j)],
    }
    for says, damage in damages.items():
        with Cli() as c:
            assert c.run("exec", "--", "true")[0] == 0
            c.stop_supervisor()
            journal = os.path.join(c.state, "v1", "journal")
            damage(journal)
            before = content(journal)
            for command in (("status",), ("verify",), ("exec", "--", "true")):
                code, _, err = c.run(*command)
                assert code and says in err and "nothing was changed" in err and "backup" in err, (says, command, code, err)
            assert content(journal) == before, says


def test_a_blob_that_is_damaged_or_missing_is_said():
    for says, damage in (("missing", os.unlink), ("damaged", lambda p: os.truncate(p, 1000))):
        with Cli() as c:
            assert c.run("exec", "--name", "one", "--", "/bin/sh", "-c", "seq 30000; echo said >&2")[0] == 0
            blobs = [os.path.join(d, f) for d, _, files in os.walk(os.path.join(c.state, "v1", "blobs")) for f in files]
            large = [b for b in blobs if os.path.getsize(b) > 100000]
            assert len(large) == 1, blobs
            os.chmod(large[0], 0o600)
            damage(large[0])
            code, out, err = c.run("show", "one", "sh")
            assert code == 1 and f"output of step sh is {says} in v1/blobs" in err and "holdfast verify" in err, (code, out, err)
            assert "said" in out and "\n30000\n" not in out, out  # the command itself is shown


def test_a_policy_that_is_wrong_is_said_at_its_place_wherever_it_stands():
    bad = {
        "version: 1\nname: x\nnett: []\n": (3, 1, "did you mean 'net'"),
        "version: 1\nname: x\nextends: [nope]\n": (3, 10, "no policy is called"),
        "version: 1\nname: x\nexec:\n  - {do: allow, path: relative}\n": (4, 23, "is not absolute"),
    }
    with Cli() as c:
        user = os.path.join(c.env["HOME"], ".config", "holdfast")
        os.makedirs(user)
        os.mkdir(c.path(".holdfast"))
        for text, (line, column, says) in bad.items():
            policy = os.path.join(c.root, "policy.yaml")
            with open(policy, "w") as f:
                f.write(text)
            steps = "steps:\n  - {name: a, run: 'true'}\n"
            inline = "policy:\n" + "".join(f"  {part}\n" for part in text.splitlines())
            calls = [
                (("run", c.plan(steps), "--policy", policy), 2, f"{policy}:{line}:{column}: "),
                (("exec", "--policy", policy, "--", "true"), 125, f"{policy}:{line}:{column}: "),
                (("run", c.plan("policy: policy.yaml\n" + steps, "named.yaml")), 2, f"policy.yaml:{line}:{column}: "),
                (("run", c.plan(inline + steps, "inline.yaml")), 2, f"inline.yaml:{line + 3}:{column + 2}: "),
            ]
            for command, status, where in calls:
                code, _, err = c.run(*command)
                assert code == status and where in err and says in err, (command, code, err)
            for folder, name in ((c.path(".holdfast"), "policy.yaml"), (user, "policy.yaml")):
                path = os.path.join(folder, name)
                with open(path, "w") as f:
                    f.write(text)
                code, _, err = c.run("exec", "--", "true")
                assert code == 125 and f"{path}:{line}:{column}: " in err and says in err, (path, code, err)
                os.unlink(path)
        # What can only be found out when the walls are made says its place too.
        with open(policy, "w") as f:
            f.write("version: 1\nname: x\nextends: [offline]\nfs:\n  - {path: /etc, access: stage}\n")
        code, _, err = c.run("exec", "--policy", policy, "--", "true")
        assert code == 125 and f"{policy}:5:5: cannot confine" in err, (code, err)


def test_the_end_of_input_ends_a_command_and_hangs_it_not_up():
    with Cli() as c:
        assert c.run("exec", "--", "true")[0] == 0
        for _ in range(12):
            pid, fd = pty.fork()
            if pid == 0:
                os.chdir(c.tree)
                os.execve(HOLDFAST, [HOLDFAST, "--state", c.state, "exec", "-it", "--", "cat"], c.env)
            time.sleep(0.3)
            os.write(fd, b"hi\n")
            said, ended = b"", False
            while select.select([fd], [], [], 20)[0]:
                try:
                    said += os.read(fd, 4096)
                except OSError:
                    break
                if said.count(b"hi") == 2 and not ended:  # echoed, and answered
                    os.write(fd, b"\x04")
                    ended = True
            os.close(fd)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said


def test_what_a_plan_names_and_is_not_there_is_said_at_the_line_that_names_it():
    with Cli() as c:
        big = os.path.join(c.root, "big.yaml")
        with open(big, "w") as f:
            f.write("#" * (1024 * 1024 + 1))
        step = "steps:\n  - {name: a, run: x%s}\n"
        calls = [
            (("run", big), 2, f"{big}:1:1: error[E0006]: the file is larger than 1024 KiB"),
            (("exec", "--policy", big, "--", "true"), 125, f"{big}:1:1: error[E0006]"),
            (("policy", "check", big), 2, f"{big}:1:1: error[E0006]"),
            (("trust", big), 2, f"{big}:1:1: error[E0006]"),
            (("run", c.plan("policy: big.yaml\n" + step % "", "a.yaml")), 2, f"{big}:1:1: error[E0006]"),
            (("run", c.plan("policy: nofile\n" + step % "", "b.yaml")), 2, "b.yaml:3:9: cannot open nofile: No such file"),
            (("run", c.plan(step % ", stdin: {file: nofile}", "c.yaml")), 2, "c.yaml:4:37: cannot open nofile"),
            (("run", c.plan(step.replace("run", "rum") % "", "e.yaml")), 2, "e.yaml:4:15: step: unknown key 'rum'; did you mean 'run'?"),
            (("run", c.root), 2, "is not a regular file"),
        ]
        with open(os.path.join(c.root, "f.yaml"), "w") as f:
            f.write("version: 1\nworkspace: gone\n" + step % "")
        calls.append((("run", os.path.join(c.root, "f.yaml")), 2, "f.yaml:2:12: cannot open the workspace gone"))
        for command, status, says in calls:
            code, out, err = c.run(*command)
            assert code == status and says in err and out == "", (command, code, out, err)
        assert not os.path.exists(c.state), "something was started for what is wrong"


def test_reading_makes_no_state_directory():
    with Cli() as c:
        state = os.path.join(c.root, "no", "such")
        for command in ("status", "queue", "log a", "show a", "diff a", "resume a", "pause a", "cancel a", "land a", "undo a",
                        "fork a --at b", "approve a", "deny a", "agency a", "verify", "fsck", "export -o -", "gc", "doctor",
                        "step --run a --end"):
            code, out, err = c.run("--state", state, *command.split())
            if command != "doctor":
                status = 0 if command in ("status", "queue") else 2
                assert code == status and f"there is no state directory {state}" in out + err, (command, code, out, err)
            assert not os.path.exists(os.path.dirname(state)), command
        assert c.json("status")[1]["runs"] == [] and c.json()[1]["daemon"] is None and c.waiting() == []
        # A folder that is somebody else's business stays as it is.
        other = os.path.join(c.root, "other")
        os.mkdir(other, 0o700)
        assert c.run("--state", other, "status")[0] == 0 and os.listdir(other) == []


COMMANDS = """run exec resume step status log show diff land undo queue approve deny pause cancel agency fork policy doctor trust
verify fsck export gc daemon""".split()


def test_a_wrong_option_is_said_once_by_every_command():
    with Cli() as c:
        for command in COMMANDS:
            status = 125 if command in ("exec", "step") else 2
            for words in ([command, "--no-such-option"], ["--json", command, "--no-such-option"], [command, "--no-such-option", "--json"]):
                code, out, err = c.run(*words)
                said = json.loads(out)["error"]["what"] if "--json" in words else err
                assert code == status and (err == "" or "--json" not in words), (words, code, out, err)
                assert f"{command}: '--no-such-option' is no option; " in said and f"'holdfast {command} --help'" in said, (words, said)
            assert c.run(command, "--help")[0] == 0 and c.run(command, "--help")[1].startswith("usage: holdfast "), command
            code, _, err = c.run(command, "--jsno")
            assert code == status and "did you mean '--json'?" in err, (command, err)
            code, _, err = c.run(command, "--json=3")
            assert code == status or not err, (command, err)
        wrong = {
            "run --name": "--name needs a value", "run --name= p": "--name is empty", "run": "no PLAN is named", "log": "no RUN is named",
            "run a b": "'b' is one word too many", "fork a": "say --at STEP", "status a --all": "--all is for all runs",
            "approve a --grant x": "--grant 'x' is no FIELD=GLOB", "approve a --uses 3": "a --grant goes", "approve a --rule": "go with 'holdfast deny'",
            "approve a --grant m=x --uses 3x": "--uses '3x' is no number", "deny a --as mine": "deny takes no --as",
            "approve a --signer x": "give --sign KEY too", "policy chek": "did you mean 'check'?", "policy diff a": "it takes two policies",
            "queue -i --stats": "goes with none of", "tool": "no tool is named", "export -o": "-o needs a value",
            "agency a trustd": "did you mean trusted",
        }
        for words, says in wrong.items():
            code, out, err = c.run(*words.split())
            assert code == 2 and says in err and out == "", (words, code, out, err)
            code, out, err = c.run("--json", *words.split())
            assert code == 2 and says in json.loads(out)["error"]["what"] and err == "", (words, code, out, err)
        assert set(c.json("--version")[1]) == {"version", "program"}
        code, _, err = c.run("--state", "", "status")
        assert code == 2 and "--state is empty" in err, err
        assert not os.path.exists(c.state)


def test_what_a_hostile_hand_types_is_said_and_nothing_is_begun():
    with Cli() as c:
        plan = c.plan("land: never\nsteps:\n  - {name: a, run: 'true'}\n")
        assert c.run("run", plan, "--name", "one")[0] == 0
        kept = os.path.join(c.root, "kept")
        with open(kept, "w") as f:
            f.write("an earlier export")
        bad = b"\xff"
        calls = [
            (("run", "-"), 2, "not read from standard input"), (("run", "."), 2, "not a regular file"),
            (("run", "/dev/null"), 2, "not a regular file"), (("run", plan, "--name", "one"), 2, "choose another --name"),
            (("run", plan, "--agency", "asist"), 2, "one of observe, draft"), (("run", plan, "--name", "a/b"), 2, "choose another --name"),
            (("exec", "--policy", "ofline", "--", "true"), 125, "did you mean the built-in 'offline'?"),
            (("exec", "--policy", c.root, "--", "true"), 125, "not a regular file"),
            (("exec", "--workspace", plan, "--", "true"), 125, "Not a directory"),
            (("exec", "--", "echo", bad), 125, "argument of the command is not UTF-8"),
            (("exec", "--name", bad, "--", "true"), 125, "not UTF-8"), (("step", "--run", bad, "s", "--", "true"), 125, "not UTF-8"),
            (("step", "--run", "r", bad, "--", "true"), 125, "the STEP is not UTF-8"),
            (("step", "--run", "r", "s", "--", "echo", bad), 125, "an argument of the command is not UTF-8"),
            (("step", "--run", "r", "--needs", bad, "s", "--", "true"), 125, "--needs is not UTF-8"),
            (("step", "--run", "nope", "--end"), 2, "there is none"), (("status", bad), 2, "there is none"),
            (("show", "one", "a", "--request"), 2, "--request is of an effect"), (("show", "one", "--response"), 2, "--response is of an effect"),
            (("show", "one", "nope"), 2, "no step nope"), (("fork", "one", "--at", "nope"), 2, "lists them"),
            (("deny", "one", "--revoke", "x"), 2, "no grant's id"), (("cancel", "one"), 9, "nothing left to end"),
            (("land", "one"), 9, "nothing to land"), (("export", "nope", "-o", kept), 2, "there is none"),
            (("export", "one", "-o", c.root), 2, "Is a directory"), (("--state", plan, "status"), 2, "not a folder"),
            (("--state", "/", "status"), 2, "cannot be a state directory"), (("policy", "check", c.root), 2, "Is a directory"),
        ]
        for words, status, says in calls:
            code, out, err = c.run(*words)
            assert code == status and says in err and out == "" and ";" in err, (words, code, out, err)
        assert open(kept).read() == "an earlier export"
        assert [r["name"] for r in c.json("status", "--all")[1]["runs"]] == ["one"], "something was begun"


def test_a_short_id_that_two_runs_have_is_said():
    with Cli() as c:
        for _ in range(20):  # 16 first digits
            assert c.run("exec", "--", "true")[0] == 0
        ids = [r["run"] for r in c.json("status", "--all")[1]["runs"]]
        first = next(i[0] for i in ids if sum(k[0] == i[0] for k in ids) > 1)
        code, _, err = c.run("status", first)
        assert code == 2 and "more" in err and ";" in err, err


def test_a_refused_system_call_is_told_by_its_name_and_number():
    with Cli() as c:
        number = {"x86_64": 165, "aarch64": 40, "riscv64": 40}[os.uname().machine]
        code, _, err = c.run("exec", "--", "/bin/sh", "-c", "mount -t tmpfs none /tmp; true")
        assert code == 0, err
        run, said = c.latest(), f"mount (system call {number}), 1 time"
        assert f"holdfast: refused inside: {said}\n" in err, err
        assert f"refused: {said}" in c.run("show", run, "sh")[1] and f"denied={said}" in c.run("log", run)[1]
        denied = [{"syscall": number, "name": "mount", "count": 1}]
        assert c.json("show", run, "sh")[1]["attempts"][0]["denied"] == denied
        events = [json.loads(x) for x in c.run("--json", "log", run)[1].splitlines()]
        assert [e["payload"]["denied"] for e in events if e["type"] == "ATTEMPT_EXITED"] == [denied]


def test_standard_input_past_its_limit_says_the_limit():
    with Cli() as c:
        for words in (("exec", "-i", "--", "wc"), ("step", "--run", "r", "-i", "s", "--", "wc")):
            p = subprocess.run(f"head -c 268435457 /dev/zero | {HOLDFAST} --state {c.state} {' '.join(words)}", shell=True, env=c.env,
                               cwd=c.tree, capture_output=True, text=True, check=False)
            assert p.returncode == 125 and "longer than 256 MiB, which is the limit" in p.stderr and "put it in a file" in p.stderr, p
            assert "Argument list" not in p.stderr, p


if __name__ == "__main__":
    failed = 0
    wanted = sys.argv[1:]
    tests = [(n, f) for n, f in list(globals().items()) if n.startswith("test_") and (not wanted or n in wanted)]
    for name, test in tests:
        try:
            test()
            print(f"ok      {name}", flush=True)
        except Exception as e:  # noqa: BLE001
            failed += 1
            import traceback
            print(f"FAILED  {name}: {e}", flush=True)
            traceback.print_exc()
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
