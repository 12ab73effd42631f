"""holdfast policy learn and test --replay: what a command wanted becomes rules that say no more, nothing leaves that was not
allowed before, and a journaled run tells what another policy would have said of it."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
import network  # noqa: E402
import supervised  # noqa: E402
from network import HERE, HOLDFAST, NAMES, Capture, World  # noqa: E402

LOCAL = "address: [10.77.0.0/24], ca: {ca}"


class Learning(World):
    def holdfast(self, *argv):
        return subprocess.run([HOLDFAST, "--state", self.s.state, *argv], capture_output=True, text=True, timeout=90,
                              stdin=subprocess.DEVNULL, env=self.s.environment({"PATH": "/usr/bin:/bin"}), cwd=self.s.workspace)

    def learn(self, script, *more, output="draft.yaml"):
        path = self.path(output)
        r = self.holdfast("policy", "learn", "--workspace", self.s.workspace, *more, "--output", path, "--", "/bin/sh", "-c", script)
        assert r.returncode == 0, (r, self.s.logged())
        with open(path) as f:
            text = f.read()
        checked = self.holdfast("policy", "check", path)
        assert checked.returncode == 0, (checked.stdout, text)
        return path, text, r

    def decide(self, path, *request):
        r = self.holdfast("--json", "policy", "explain", path, "--layer", "run", *request)
        return json.loads(r.stdout)["verdict"]

    def latest(self):
        return json.loads(self.holdfast("--json", "status", "--all").stdout)["runs"][0]["run"]

    def replay(self, run, *more):
        r = self.holdfast("--json", "policy", "test", "--replay", run, *more)
        return r.returncode, json.loads(r.stdout)

    def reachable(self, path):
        """The draft, with what only the servers of this test need: they are on private addresses."""
        with open(path) as f:
            lines = f.read().splitlines()
        extra = "    " + LOCAL.format(ca=self.path("ca.pem")).replace(", ca", "\n    ca")
        out = []
        for line in lines:
            out.append(line)
            if line.startswith("    do: "):
                out.append(extra)
        return self.write("reachable.yaml", "\n".join(out) + "\n")


WANTED = ("curl -sS https://www.acme.example/hello; curl -sS -X POST -d x https://www.acme.example/post; "
          "git ls-remote https://git.acme.example/git/app.git; getent hosts printer.local; "
          "cd /tmp && git init -q w && cd w && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && "
          "git push -q https://git.acme.example/git/app.git HEAD:refs/heads/agent/x; true")


def test_names_come_first_then_requests_and_nothing_leaves():
    with Learning() as w:
        capture = Capture()
        capture.start()
        one, text, r = w.learn(WANTED + "; echo x > made", output="one.yaml")
        assert 'host: "www.acme.example"' in text and 'host: "git.acme.example"' in text, text
        assert "left out: printer.local" in text and "do: allow" not in text, text
        assert "learn --policy" in r.stderr, r.stderr
        two, text, r = w.learn(WANTED, "--policy", one, output="two.yaml")
        capture.stop()
        assert not capture.seen and not capture.names, (capture.seen, capture.names)
        assert not os.path.exists(os.path.join(w.s.workspace, "made"))
        for request, verdict in ((("http", "GET", "https://www.acme.example/hello"), "allow"),
                                 (("http", "GET", "https://www.acme.example/other"), "deny"),
                                 (("http", "POST", "https://www.acme.example/post"), "ask"),
                                 (("git", "fetch", "https://git.acme.example/git/app.git"), "allow")):
            assert w.decide(two, *request) == verdict, (request, text)
        # what it may do by now it does, and the next draft keeps it; the push is seen with its ref
        allowed = w.reachable(two)
        with open(allowed, "a") as f:
            f.write("  - {id: any-push, do: ask, git: {remote: \"https://git.acme.example/git/app.git\", op: push, refs: [\"refs/heads/**\"]}, "
                    f"{LOCAL.format(ca=w.path('ca.pem'))}}}\n")
        three, text, r = w.learn(WANTED, "--policy", allowed, output="three.yaml")
        assert "hello from acme" in r.stdout and "allowed by" in text, (r, text)
        assert w.decide(three, "git", "push", "https://git.acme.example/git/app.git", "refs/heads/agent/x") == "ask", text
        assert w.decide(three, "git", "push", "https://git.acme.example/git/app.git", "refs/heads/main") == "deny", text


def test_a_learning_run_asks_nobody_and_never_lands():
    with Learning() as w:
        w.learn("echo x > made; curl -sS https://www.acme.example/", output="one.yaml")
        run = w.latest()
        landed = w.holdfast("land", run)
        assert landed.returncode == 2 and "never lands" in landed.stderr, landed
        assert not os.path.exists(os.path.join(w.s.workspace, "made"))
        w.learn("curl -sS https://www.acme.example/", "--policy", w.path("one.yaml"))
        assert not json.loads(w.holdfast("--json", "queue").stdout)["approvals"]


def test_the_draft_goes_to_standard_output_and_the_commands_own_words_do_not():
    with Learning() as w:
        r = w.holdfast("policy", "learn", "--", "/bin/sh", "-c", "echo words; mkdir -p .git/hooks; echo x > .git/hooks/pre-commit; exit 0")
        assert r.returncode == 0 and r.stdout.startswith("# Drafted by") and "\nwords\n" not in "\n" + r.stdout and r.stderr.startswith("words\n"), r
        assert "net: []" in r.stdout and "would not land: .git/hooks/pre-commit" in r.stdout, r
        r = w.holdfast("--json", "policy", "learn", "--", "/bin/sh", "-c", "getent hosts a.acme.example; exit 7")
        doc = json.loads(r.stdout)
        assert doc["exit"] == 7 and doc["rules"] == 1 and doc["wants"][0]["host"] == "a.acme.example", doc
        assert w.holdfast("policy", "learn").returncode == 2


def test_a_run_is_decided_again_by_another_policy():
    with Learning() as w:
        w.shell("curl -sS https://www.acme.example/hello; curl -sS -X DELETE https://www.acme.example/hello; curl -sS https://nowhere.acme.example/; "
                "curl -sS http://plain.acme.example/hello; git ls-remote https://git.acme.example/git/app.git; echo x > kept; mkdir d; echo y > d/f")
        run = w.latest()
        code, doc = w.replay(run)
        assert code == 0 and doc["differences"] == [] and doc["decided"] >= 6, doc
        # narrower: the read is denied, the folder does not land; wider: a name resolves, a method asks
        other = POLICY_OF(w).replace("method: [GET, HEAD]", "method: [HEAD]").replace(
            "extends: [offline]", "extends: [offline]\nfs:\n  - {path: \"${workspace}/d\", access: r}")
        other = other.replace("net:\n", "net:\n  - {id: new, do: ask, http: {host: nowhere.acme.example}}\n"
                              "  - {id: gone, do: ask, http: {host: www.acme.example, method: [DELETE]}}\n")
        code, doc = w.replay(run, w.write("other.yaml", other))
        assert code == 1, doc
        seen = {(d["what"], d["title"], d["before"]["verdict"], d["after"]["verdict"]) for d in doc["differences"]}
        assert seen == {("read", "GET https://www.acme.example/hello", "allow", "deny"),
                        ("denial", "DELETE https://www.acme.example/hello", "deny", "ask"),
                        ("name", "the name nowhere.acme.example", "unknown", "resolves"),
                        ("path", "d", "lands", "left out"), ("path", "d/f", "lands", "left out")}, doc
        r = w.holdfast("policy", "test", "--replay", run, "offline")
        assert r.returncode == 1 and "allow read by web -> deny" in r.stdout and "GET http://plain.acme.example/hello" in r.stdout, r
        assert w.holdfast("policy", "test", "--replay", "nosuchrun").returncode == 2


def POLICY_OF(w):
    with open(w.policy) as f:
        return f.read()


def test_effects_are_decided_again_with_their_bodies():
    policy = network.POLICY.split("net:")[0] + """net:
  - {{id: small, do: allow, http: {{host: www.acme.example, method: [POST], path: /post, json: {{/amount: {{max: 10}}}}}}, effect: reversible, undo: {{text: x}}, {local}}}
limits: {{wall: 2m}}
allow_weaker: [memory, cpu, landlock]
"""
    with Learning(policy) as w:
        w.good("curl", "-sS", "-H", "content-type: application/json", "-d", '{"amount": 7}', "https://www.acme.example/post")
        run = w.latest()
        assert w.replay(run)[0] == 0
        code, doc = w.replay(run, w.write("less.yaml", POLICY_OF(w).replace("max: 10", "max: 5")))
        d = doc["differences"]
        assert code == 1 and len(d) == 1 and d[0]["what"] == "effect" and d[0]["after"]["verdict"] == "deny" and d[0]["effect"], doc
        code, doc = w.replay(run, "--agency", "draft")
        assert code == 1 and doc["differences"][0]["after"]["verdict"] == "ask", doc


if __name__ == "__main__":
    if os.environ.get("HOLDFAST_TEST_NETNS"):
        network.inside(sys.modules[__name__])
    network.into_namespace()
