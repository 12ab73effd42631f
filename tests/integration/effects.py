"""Effects end to end: a program in a sandbox, gate, courier, supervisor and a service that counts what is delivered to it.

What a person must decide waits, what was decided is sent once, and whoever is killed in the middle, nothing is sent twice
that must not be.
"""

import http.server
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import network
import supervised
from network import HERE, HOLDFAST, World

POLICY = """
version: 1
name: effects
extends: [offline]
agency: autonomous
env: {{keep: [PATH]}}
net:
  - {{id: pay, do: ask, http: {{scheme: http, host: pay.acme.example, port: 8080, method: [POST], path: /pay}},
      effect: irreversible, address: [10.77.0.0/24], card: {{title: Pay, show: {{to: /to}}, amount: /sum}}}}
  - {{id: never, do: allow, http: {{scheme: http, host: pay.acme.example, port: 8080, method: [POST], path: /never}},
      address: [10.77.0.0/24]}}
  - {{id: keyed, do: allow, http: {{scheme: http, host: pay.acme.example, port: 8080, method: [POST], path: /keyed}},
      retry: {{keyed: {{header: Idempotency-Key, window: 1h}}}}, address: [10.77.0.0/24]}}
  - {{id: model, do: allow, http: {{scheme: http, host: pay.acme.example, port: 8080, method: [POST], path: /model}},
      effect: read, replay: yes, address: [10.77.0.0/24]}}
limits: {{wall: 2m}}
allow_weaker: [memory, cpu, landlock]
"""
URL = "http://pay.acme.example:8080"


class Service(http.server.ThreadingHTTPServer):
    """Remembers every delivery; `hold` keeps the next answers back."""

    daemon_threads = True

    def __init__(self):
        self.seen, self.hold, self.drop = [], threading.Event(), False
        self.hold.set()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                service.seen.append((self.path, self.headers.get("idempotency-key"), body))
                service.hold.wait(60)
                if service.drop:
                    self.close_connection = True
                    return
                answer = b'{"delivery": %d}\n' % len(service.seen)
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        super().__init__((HERE, 8080), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass


class Effects(World):
    def __init__(self):
        super().__init__(POLICY)

    def build(self):
        self.service = Service()
        super().build()

    def __exit__(self, *_):
        self.service.hold.set()
        self.service.shutdown()
        self.service.server_close()
        super().__exit__()

    def begin(self, script):
        return subprocess.Popen([HOLDFAST, "--state", self.s.state, "exec", "--policy", self.policy, "--workspace", self.s.workspace, "--",
                                 "/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                stdin=subprocess.DEVNULL, env=self.s.environment({"PATH": "/usr/bin:/bin"}), cwd=self.s.workspace)

    def holdfast(self, *argv):
        return subprocess.run([HOLDFAST, "--state", self.s.state, *argv], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env=self.s.environment({"PATH": "/usr/bin:/bin"}))

    def queue(self):
        r = self.holdfast("queue", "--json")
        return json.loads(r.stdout)["approvals"] if r.stdout.strip() else []

    def item(self, seconds=20):
        end = time.monotonic() + seconds
        while not (items := self.queue()):
            assert time.monotonic() < end, self.s.logged()
            time.sleep(0.1)
        assert len(items) == 1, items
        return items[0]

    def vote(self, what, item, *more):
        r = self.holdfast(what, item["approval"], "--no-input", "--digest", item["card_digest"], *more)
        assert r.returncode == 0, r

    def delivered(self, n, seconds=20):
        end = time.monotonic() + seconds
        while len(self.service.seen) < n:
            assert time.monotonic() < end, (self.service.seen, self.s.logged())
            time.sleep(0.05)

    def done(self, p, status=0):
        out, err = p.communicate(timeout=90)
        assert p.returncode == status, (p.returncode, out, err, self.s.logged())
        return out


def post(path, body, more=""):
    return f"curl -sS --max-time 80 {more} -H 'content-type: application/json' -d '{body}' {URL}{path}; "


def test_what_is_asked_waits_and_is_sent_once():
    with Effects() as w:
        p = w.begin(post("/pay", '{"to":"bob","sum":5}', "-H 'Holdfast-Reason: bob is owed it' -H 'X-Trace: 7'"))
        item = w.item()
        assert not w.service.seen
        card = w.holdfast("show", item["approval"]).stdout
        assert "Pay" in card and "bob" in card and "pay.acme.example" in card, card
        assert "(the agent's words; nobody checked them) bob is owed it\n" in card, card
        assert "left out   headers that are not passed on: x-trace\n" in card and "holdfast-reason" not in card.lower(), card
        w.vote("approve", item)
        assert w.done(p) == '{"delivery": 1}\n'
        assert w.service.seen == [("/pay", None, b'{"to":"bob","sum":5}')]
        assert not w.queue()


def first_line(p, seconds=20):
    """Of its standard error, while it goes on."""
    ready, _, _ = select.select([p.stderr], [], [], seconds)
    assert ready and p.poll() is None, "nothing is said while a person is waited for"
    return p.stderr.readline()


def test_who_waits_for_a_person_says_so_at_once():
    with Effects() as w:
        # Less than the time after which the attempt is suspended, and the command ends by itself.
        p = w.begin(post("/pay", '{"to":"bob","sum":5}'))
        said = first_line(p)
        item = w.item()
        assert "waits for you: " in said and "Pay" in said and f"'holdfast approve {item['approval'][:8]}'" in said, said
        out = w.holdfast("status").stdout
        assert "waits for you:" in out.splitlines()[0] and item["approval"][:8] in out, out
        assert [x for x in out.splitlines() if " running " in x and x.endswith(", waits for you")], out
        assert "frozen" not in w.holdfast("status", item["run"]).stdout
        w.vote("approve", item)
        out, err = p.communicate(timeout=90)
        assert p.returncode == 0 and out == '{"delivery": 1}\n' and "waits for you" not in err, (p.returncode, out, err)
        # A plan, into a pipe.
        plan = os.path.join(w.s.workspace, "plan.yaml")
        with open(plan, "w") as f:
            f.write("version: 1\nland: never\nsteps:\n  - name: pay\n    run: " + json.dumps(post("/pay", '{"sum":6}')) + "\n")
        p = subprocess.Popen([HOLDFAST, "--state", w.s.state, "run", plan, "--policy", w.policy], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
                             env=w.s.environment({"PATH": "/usr/bin:/bin"}), cwd=w.s.workspace)
        said = first_line(p)
        item = w.item()
        assert "waits for you: " in said and item["approval"][:8] in said, said
        w.vote("deny", item)
        w.done(p)


def test_what_is_denied_is_answered_in_words():
    with Effects() as w:
        p = w.begin(post("/pay", '{"to":"eve","sum":5}', "-w '%{http_code}'"))
        w.vote("deny", w.item(), "--reason", "not eve")
        out = w.done(p)
        assert '"error":"denied"' in out and out.endswith("403") and not w.service.seen, out
        run = json.loads(w.holdfast("status", "--all", "--json").stdout)["runs"][0]["run"]
        told = w.holdfast("status", run).stdout
        assert "effects: 0 done of 1 proposed, 1 denied, 0 failed, 0 in doubt;" in told, told


CUT_WITHIN = "a" * 199 + "\u00e9"  # 201 bytes: a cut at 200 leaves half a character


def test_a_text_that_is_cut_ends_nobody():
    """The agent's words, and the place of a rule in a policy with a long name: both are kept to a few bytes."""
    with Effects() as w:
        with open(w.policy) as f:
            text = f.read()
        # The 255th byte of its name is the first of two of a character.
        w.policy = w.write("a" * (len(w.path("")) % 2) + "\u00e9" * 120 + "/policy.yaml", text)
        p = w.begin(post("/pay", '{"to":"bob","sum":5}', f"-H 'Holdfast-Reason: {CUT_WITHIN}'"))
        item = w.item()
        card = w.holdfast("show", item["approval"]).stdout.replace("\n          > ", "")
        assert "nobody checked them) " + "a" * 199 + "\n" in card, card
        w.vote("approve", item)
        assert w.done(p) == '{"delivery": 1}\n'
        assert "cannot be encoded" not in w.s.logged(), w.s.logged()


def test_a_long_reason_of_a_rule_keeps_no_answer_back():
    """The denial is told to the supervisor before the effect that follows it: what stands in its way is met first, each time."""
    with Effects() as w:
        local = w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local="")
        rules = "".join(f"  - {{id: no{lead}, do: deny, http: {{scheme: http, host: pay.acme.example, port: 8080, path: /no{lead}}}, "
                        f"why: \"{'a' * lead}{chr(0xe9) * 300}\"}}\n" for lead in (0, 1))
        w.policy = w.write("long.yaml", local.replace("net:\n", "net:\n" + rules))
        # What is denied is told in batches, so that the first is told before the last is asked for.
        denied = "".join(f"curl -sS --max-time 20 -o /dev/null -w '%{{http_code}} ' {URL}/no{lead}; sleep 0.3; " for lead in (0, 1))
        out = w.done(w.begin(denied + post("/never", "{}")))
        assert out == '403 403 {"delivery": 1}\n', (out, w.s.logged())
        run = json.loads(w.holdfast("status", "--all", "--json").stdout)["runs"][0]["run"]
        refused = [e for e in w.s.events(run) if e["type"] == "EFFECT_READS"]
        assert refused, w.s.events(run)


def test_a_long_reason_of_a_person_reaches_who_waits():
    with Effects() as w:
        p = w.begin(post("/pay", '{"to":"eve","sum":5}', "-w '%{http_code}'"))
        w.vote("deny", w.item(), "--reason", "a" + "\u00e9" * 1999)
        out = w.done(p)
        assert '"error":"denied"' in out and "\u00e9" * 500 in out and out.endswith("403") and not w.service.seen, out


def test_the_supervisor_is_killed_while_a_person_is_asked():
    with Effects() as w:
        p = w.begin(post("/pay", '{"to":"bob","sum":5}'))
        first = w.item()
        w.s.kill()
        item = w.item()  # of the supervisor that a command started in its place
        assert item["approval"] == first["approval"]
        w.vote("approve", item)
        w.delivered(1)
        p.communicate(timeout=90)
        assert len(w.service.seen) == 1, w.service.seen
        w.end_embedded()


def test_a_courier_that_is_killed_while_it_sends_leaves_a_doubt():
    with Effects() as w:
        w.service.hold.clear()
        p = w.begin(post("/never", "{}", "--retry 5 --retry-all-errors --retry-delay 1"))
        w.delivered(1)
        for pid in w.pids("holdfast-courier"):
            os.kill(pid, signal.SIGKILL)
        w.service.hold.set()
        item = w.item()
        assert len(w.service.seen) == 1
        w.vote("approve", item, "--as", "done")
        out = w.done(p)
        assert '"holdfast":"confirmed"' in out.replace(" ", ""), out
        assert len(w.service.seen) == 1, w.service.seen


def test_what_a_kill_left_in_doubt_is_asked_by_a_supervisor_that_only_looks():
    """Nobody names the run, so nothing of it is started; but what waits for a person stands in the queue at once."""
    for keeper_too in (False, True):
        with Effects() as w:
            w.service.hold.clear()
            run = network.run_plan(w, [post("/never", "{}", "--retry 9 --retry-all-errors --retry-delay 1")], w.policy)
            w.delivered(1)
            couriers = w.pids("holdfast-courier")
            assert couriers
            w.s.kill()
            if keeper_too:
                w.s.kill_keeper()
            else:
                for pid in couriers:
                    os.kill(pid, signal.SIGKILL)
            w.service.hold.set()
            item = w.item()  # of the supervisor that this command started
            assert item["run"] == run and item["kind"] == "doubt", item
            assert item["approval"] in w.holdfast("queue", "--json").stdout
            if keeper_too:
                time.sleep(1)  # nor does one come later
                attempts = [e["type"] for e in w.s.events(run)].count("ATTEMPT_STARTED")
                assert attempts == 1 and not w.pids("holdfast-courier"), w.s.events(run)
            w.vote("approve", item, "--as", "done")
            w.s.wait(run)
            assert b'"confirmed"' in w.s.output(run, "s0"), w.s.logged()
            assert len(w.service.seen) == 1, w.service.seen
            w.end_embedded()


def test_a_doubt_has_no_deadline_and_holds_no_process():
    """What became of something is a fact, whoever is late: it is not denied by a clock, as what nobody decides else is."""
    with Effects() as w:
        local = w.policy_text.format(root=w.root, ca=w.path("ca.pem"), local="")
        policy = w.write("clocks.yaml", local + "approvals: {decide_by: 2s, freeze: 1s, suspend: 3s}\n")
        w.service.hold.clear()
        doubt = network.run_plan(w, [post("/never", "{}", "--retry 30 --retry-all-errors --retry-delay 1")], policy)
        w.delivered(1)
        for pid in w.pids("holdfast-courier"):
            os.kill(pid, signal.SIGKILL)
        w.service.hold.set()
        item = w.item()
        asked = network.run_plan(w, [post("/pay", '{"to":"bob","sum":5}', "-w '%{http_code}'")], policy)
        w.s.wait(asked, ("succeeded",))
        assert w.s.output(asked, "s0").endswith(b"403"), w.s.output(asked, "s0")  # nobody decided in time: denied
        end = time.monotonic() + 30
        while (s := w.s.status(doubt))["state"] != "waiting" or w.pids("holdfast-courier"):
            assert time.monotonic() < end, (s, w.s.logged())
            time.sleep(0.2)
        types = [e["type"] for e in w.s.events(doubt)]
        assert "ATTEMPT_SUSPENDED" in types and "EFFECT_ABANDONED" not in types, types
        assert [i["approval"] for i in w.queue()] == [item["approval"]], w.queue()
        assert "decide_by" not in item or not item["decide_by"], item
        w.vote("approve", item, "--as", "done")
        w.s.wait(doubt)
        assert b'"confirmed"' in w.s.output(doubt, "s0"), w.s.logged()
        assert len(w.service.seen) == 1, w.service.seen


def test_a_courier_that_dies_at_each_named_point():
    """At most one delivery, and either its answer or a question to a person."""
    for point, deliveries, doubt in (("before_send", 0, "not-done"), ("before_result", 1, "done"), ("before_release", 1, None)):
        with Effects() as w:
            w.s.remember_keeper()
            w.s.stop()
            w.s.kill_keeper()  # the next one's helpers get the failpoint
            w.s.start({"HOLDFAST_FAILPOINT": f"courier.{point}=kill"})
            p = w.begin(post("/never", "{}", "--retry 9 --retry-all-errors --retry-delay 1"))
            if doubt == "not-done":
                w.vote("approve", w.item(), "--as", "not-done")
                p.kill()
                p.communicate()
            elif doubt:
                w.vote("approve", w.item(), "--as", doubt)
                assert '"confirmed"' in w.done(p)
            else:
                assert '{"delivery": 1}' in w.done(p)
            assert len(w.service.seen) == deliveries, (point, w.service.seen)


def test_what_the_kernel_has_no_memory_to_tell_a_courier_is_told_later():
    """The word to send that waits in the queue is not one that was never said: its effect is done once, and recorded so."""
    for nth in (2, 3, 4):
        with Effects() as w:
            w.s.stop()
            w.s.start({"HOLDFAST_FAILPOINT": f"effect.tell=error:ENOMEM@{nth}"})
            assert w.done(w.begin(post("/never", "{}"))) == '{"delivery": 1}\n', nth
            assert len(w.service.seen) == 1, (nth, w.service.seen)
            run = json.loads(w.holdfast("status", "--json").stdout)["runs"][0]["run"]
            types = [e["type"] for e in w.s.events(run)]
            assert types.count("EFFECT_CONFIRMED") == 1 and "EFFECT_REFUSED" not in types, (nth, types)


def test_a_server_that_is_away_is_asked_again_slowly():
    with Effects() as w:
        w.service.hold.clear()
        p = w.begin("until " + post("/keyed", "{}", "--fail") + "do sleep 1; done")
        w.delivered(1)
        w.service.shutdown()
        w.service.server_close()
        w.service.drop = True
        w.service.hold.set()
        time.sleep(3)
        run = json.loads(w.holdfast("status", "--json").stdout)["runs"][0]["run"]
        reserved = sum(e["type"] == "EFFECT_RESERVED" for e in w.s.events(run))
        assert 2 <= reserved < 12, reserved
        key, w.service = w.service.seen[0][1], Service()
        out = w.done(p)
        assert '{"delivery": 1}' in out, (out, w.service.seen, w.holdfast("log", run).stdout)
        assert [k for _, k, _ in w.service.seen] == [key], w.service.seen


def test_what_has_a_key_is_sent_again_with_the_same():
    with Effects() as w:
        w.service.hold.clear()
        p = w.begin(post("/keyed", "{}", "--retry 5 --retry-all-errors --retry-delay 1"))
        w.delivered(1)
        for pid in w.pids("holdfast-courier"):
            os.kill(pid, signal.SIGKILL)
        w.service.hold.set()
        assert '{"delivery": 2}' in w.done(p)
        keys = {k for _, k, _ in w.service.seen}
        assert len(w.service.seen) == 2 and len(keys) == 1 and None not in keys, w.service.seen
        assert not w.queue()


def test_a_recorded_answer_is_given_to_the_next_attempt():
    with Effects() as w:
        p = w.begin(post("/model", "{}") + f"test -e {w.s.workspace}/again && exit 0; sleep 60")
        w.delivered(1)
        time.sleep(0.5)
        w.s.remember_keeper()
        w.s.kill_keeper()
        with open(os.path.join(w.s.workspace, "again"), "w"):
            pass
        assert '{"delivery": 1}\n' in w.done(p)
        assert len(w.service.seen) == 1, w.service.seen


if __name__ == "__main__":
    if os.environ.get("HOLDFAST_TEST_NETNS"):
        subprocess.run("ip link set lo up && ip addr add 10.77.0.1/32 dev lo && ip addr add 10.77.0.53/32 dev lo && "
                       "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start", shell=True, check=True)
        supervised.main(sys.modules[__name__])
    network.into_namespace()
