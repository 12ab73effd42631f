"""verify, fsck, export, gc and diff beside the loop: held at a failpoint they hold up nobody, and gc takes nothing that comes meanwhile."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid

from supervised import Supervised, main

AUDITS = {"verify": ("GET", "/v1/verify"), "fsck": ("GET", "/v1/fsck"), "export": ("GET", "/v1/export"), "gc": ("POST", "/v1/gc"),
          "list": ("GET", "/v1/gc")}
FUTURE = {"ended_before": "2100-01-01T00:00:00Z"}  # of all that is over
LARGE = ["/bin/sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x"]  # a blob that is a file
WAIT_S = 60


class Held:
    """A supervisor whose next audit is held at a failpoint until go()."""

    def __init__(self, s, where):
        self.s, self.path = s, os.path.join(s.root, "go")
        s.start({"HOLDFAST_FAILPOINT": f"{where}=hold:{self.path}"})

    def go(self):
        open(self.path, "w").close()


def ask(s, kind, body=None):
    """Sends the request and waits for nothing."""
    method, target = AUDITS[kind]
    c = s.client(timeout=WAIT_S)
    head = f"{method} {target} HTTP/1.1\r\nHost: holdfast\r\n"
    if method == "POST":
        text = json.dumps(body or {})
        c.send(f"{head}Holdfast-Request: {uuid.uuid4().hex}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    else:
        c.send(f"{head}\r\n".encode())
    return c


def waits(c):
    return not select.select([c.sock], [], [], 0)[0]


def done(s, argv, out):
    run = s.begin(argv)
    assert s.wait(run)["state"] == "succeeded"
    step = os.path.basename(argv[0])
    assert s.output(run, step) == out, "the step's output is there"
    return run, step


def until(what, said):
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end, said()
        time.sleep(0.02)


def whole(s):
    for kind in ("verify", "fsck"):
        c = ask(s, kind)
        a = c.answer()
        c.close()
        assert a.status == 200 and a.json()["problems"] == 0, (kind, a)


def test_steps_and_clients_go_on_while_the_journal_is_looked_through():
    for kind in AUDITS:
        with Supervised() as s:
            held = Held(s, "audits.work")
            done(s, ["/bin/echo", "before"], b"before\n")
            c = ask(s, kind)
            assert s.get("/v1/runs").status == 200
            run, step = done(s, ["/bin/echo", "beside"], b"beside\n")
            assert s.get(f"/v1/runs/{run}").status == 200 and waits(c), f"{kind} was not held, so this showed nothing"
            held.go()
            a = c.answer()
            assert a.status == 200 and (kind in ("export", "list") or a.json()["problems"] == 0), (kind, a)
            assert s.output(run, step) == b"beside\n"
            whole(s)
            c.close()


def test_gc_takes_nothing_that_a_run_commits_meanwhile():
    with Supervised() as s:
        held = Held(s, "journal.gc_marked")
        old, _ = done(s, ["/bin/echo", "the same"], b"the same\n")
        c = ask(s, "gc", FUTURE)
        # Its rows are gone as soon as it is dropped, before anything is marked.
        until(lambda: s.get(f"/v1/runs/{old}").status == 404, s.logged)
        again = done(s, ["/bin/echo", "the same"], b"the same\n")  # a blob that gc has found to be nobody's
        large = done(s, LARGE, b"x" * 200000)
        assert waits(c), "it was not held, so this showed nothing"
        held.go()
        a = c.answer()
        assert a.status == 200 and a.json()["runs"] == 1, a
        c.close()
        assert s.output(*again) == b"the same\n" and s.output(*large) == b"x" * 200000
        whole(s)


def test_gc_drops_no_run_whose_landing_was_accepted_meanwhile():
    with Supervised() as s:
        held = Held(s, "audits.work")
        old, _ = done(s, ["/bin/echo", "old"], b"old\n")
        run = s.begin(["/bin/sh", "-c", "echo made > file"], land="never")
        assert s.wait(run)["state"] == "succeeded"
        c = ask(s, "gc", FUTURE)
        assert s.get("/v1/runs").status == 200
        assert s.post(f"/v1/runs/{run}/land").status == 200
        assert waits(c), "it was not held, so this showed nothing"
        held.go()
        a = c.answer()
        assert a.status == 200 and a.json()["runs"] == 1, a
        c.close()
        until(lambda: s.status(run)["landing"] == "landed", s.logged)
        with open(os.path.join(s.workspace, "file")) as f:
            assert f.read() == "made\n"
        assert s.get(f"/v1/runs/{old}").status == 404
        whole(s)


def test_audits_wait_for_each_other_and_all_are_answered():
    with Supervised() as s:
        held = Held(s, "audits.work")
        done(s, ["/bin/echo", "one"], b"one\n")
        asked = [ask(s, kind) for kind in ("verify", "verify", "gc", "fsck", "gc", "list", "export")]
        assert s.get("/v1/runs").status == 200 and all(waits(c) for c in asked)
        held.go()
        for c in asked:
            assert c.answer().status == 200
            c.close()
        whole(s)


def test_a_client_that_goes_frees_its_audit():
    with Supervised() as s:
        held = Held(s, "audits.work")
        run, step = done(s, ["/bin/echo", "kept"], b"kept\n")
        first, second = ask(s, "gc", FUTURE), ask(s, "gc", FUTURE)
        first.close()
        second.close()
        until(lambda: s.logged().count("gc ends: the client that asked for it is gone") == 2, s.logged)
        held.go()
        whole(s)  # after it, so it is over
        assert s.output(run, step) == b"kept\n", "nothing was dropped for nobody"
        half = ask(s, "verify")
        half.sock.shutdown(1)  # it has said all; it can be answered
        assert half.answer().status == 200
        half.close()


def test_sigterm_ends_an_audit_and_its_clients_are_told():
    for kind in ("verify", "gc"):
        with Supervised() as s:
            held = Held(s, "audits.work")
            done(s, ["/bin/echo", "one"], b"one\n")
            asked = [ask(s, kind), ask(s, "verify")]
            assert s.get("/v1/runs").status == 200
            s.remember_keeper()
            s.process.send_signal(signal.SIGTERM)
            for c in asked:
                a = c.answer()
                assert a.status == 503 and "supervisor ends" in a.json()["error"]["why"], a
                c.close()
            held.go()
            assert s.process.wait(WAIT_S) == 0, s.logged()
            s.start()
            whole(s)


def test_nothing_is_lost_where_gc_is_killed():
    with Supervised() as s:
        held = Held(s, "journal.gc_marked")
        old, _ = done(s, ["/bin/echo", "the same"], b"the same\n")
        c = ask(s, "gc", FUTURE)
        until(lambda: s.get(f"/v1/runs/{old}").status == 404, s.logged)
        again = done(s, ["/bin/echo", "the same"], b"the same\n")
        assert waits(c)
        s.kill()
        c.close()
        s.start()
        assert s.output(*again) == b"the same\n"
        whole(s)
        assert s.post("/v1/gc").status == 200 and s.output(*again) == b"the same\n"
        held.go()


def diff_of(s, run, query=""):
    c = s.client(timeout=WAIT_S)
    c.send(f"GET /v1/runs/{run}/diff{query} HTTP/1.1\r\nHost: holdfast\r\n\r\n".encode())
    return c


def test_steps_and_clients_go_on_while_a_diff_is_laid_out():
    for query, want in (("", b"+made\n"), ("?stat=1", b'"path":"file"'), ("?all=1", b"+made\n"), ("?stat=1&all=1", b'"path":"file"')):
        with Supervised() as s:
            held = Held(s, "diffs.work")
            run = s.begin(["/bin/sh", "-c", "echo made > file"], land="never")
            assert s.wait(run)["state"] == "succeeded"
            c, gone, waiting = diff_of(s, run, query), diff_of(s, run, query), diff_of(s, run, query)
            gone.close()
            assert s.get("/v1/runs").status == 200
            done(s, ["/bin/echo", "beside"], b"beside\n")
            assert waits(c) and waits(waiting), "it was not held, so this showed nothing"
            held.go()
            for asked in (c, waiting):
                a = asked.answer()
                assert a.status == 200 and want in a.body, a
                asked.close()
            whole(s)  # aside as well: what was laid out has been removed by then
            spool = os.path.join(s.state, "v1", "spool")
            until(lambda: not [n for n in os.listdir(spool) if n.startswith("diff-")], lambda: os.listdir(spool))


MANY = ["/bin/sh", "-c", "for i in $(seq 50); do echo made > file$i; done"]


def laid_out(s):
    """What diffs have left in the spool: (their folders, files in them)."""
    spool = os.path.join(s.state, "v1", "spool")
    names = [n for n in os.listdir(spool) if n.startswith("diff-")]
    return names, [f for n in names for _, _, files in os.walk(os.path.join(spool, n)) for f in files]


def test_sigterm_ends_a_diff_at_its_next_file_and_its_clients_are_told():
    for where in ("diffs.work", "diffs.file"):
        with Supervised() as s:
            held = Held(s, where)
            run = s.begin(MANY, land="never")
            assert s.wait(run)["state"] == "succeeded"
            c, waiting = diff_of(s, run), diff_of(s, run)
            assert s.get("/v1/runs").status == 200
            s.remember_keeper()
            s.process.send_signal(signal.SIGTERM)
            a = waiting.answer()
            assert a.status == 503 and "supervisor ends" in a.json()["error"]["why"], a
            held.go()
            a = c.answer()
            assert a.status == 503 and "supervisor ends" in a.json()["error"]["why"], a
            assert s.process.wait(WAIT_S) == 0, s.logged()
            assert not laid_out(s)[1], (where, laid_out(s))
            s.start()
            assert not laid_out(s)[0] and diff_of(s, run).answer().body.count(b"+made\n") == 50


def test_a_diff_whose_client_goes_ends_at_its_next_file():
    for query in ("", "?all=1", "?stat=1"):
        with Supervised() as s:
            held = Held(s, "diffs.work" if "stat" in query else "diffs.file")
            run = s.begin(MANY, land="never")
            assert s.wait(run)["state"] == "succeeded"
            first, second, kept = (diff_of(s, run, query) for _ in range(3))
            assert s.get("/v1/runs").status == 200 and waits(first)
            first.close()
            second.close()
            until(lambda: s.logged().count("a diff ends: the client that asked for it is gone") == 2, s.logged)
            held.go()
            a = kept.answer()
            assert a.status == 200 and a.body.count(b"+made\n" if "stat" not in query else b'"path":"file') == 50, a
            kept.close()
            whole(s)  # aside as well: what was laid out has been removed by then
            until(lambda: not laid_out(s)[0], lambda: laid_out(s))


def test_audits_are_bounded_and_those_that_were_taken_are_answered():
    with Supervised() as s:
        held = Held(s, "audits.work")
        done(s, ["/bin/echo", "one"], b"one\n")
        asked = [ask(s, ("verify", "export", "list")[i % 3]) for i in range(32)]
        assert s.get("/v1/runs").status == 200 and all(waits(c) for c in asked)
        for kind in AUDITS:
            c = ask(s, kind)
            a = c.answer()
            assert a.status == 503 and "32 of the journal are under way" in a.json()["error"]["why"], (kind, a)
            c.close()
        held.go()
        for c in asked:
            assert c.answer().status == 200
            c.close()
        whole(s)


def test_a_layer_of_no_run_goes_and_those_of_all_runs_stay():
    """Of more runs than are in memory at once."""
    with Supervised() as s:
        s.start()
        runs = [s.begin(["/bin/sh", "-c", f"echo made{i} > file"], land="never") for i in range(40)]
        for run in runs:
            assert s.wait(run)["state"] == "succeeded"
        s.stop()  # the next one has none of them in memory
        layers = os.path.join(s.state, "v1", "layers")
        orphans = [os.path.join(layers, name) for name in ("aaaaaaa", "7777777")]
        one = next(n for n in os.listdir(layers) if n[0] != "+")
        for path in orphans:
            subprocess.run(["cp", "-a", os.path.join(layers, one), path], check=True)
        s.start()
        done(s, ["/bin/echo", "keeper"], b"keeper\n")  # which removes them
        until(lambda: not any(os.path.exists(p) for p in orphans), lambda: (os.listdir(layers), s.logged()))
        for i, run in enumerate(runs):
            assert f"+made{i}\n".encode() in diff_of(s, run).answer().body, (i, os.listdir(layers))
        whole(s)


def test_retention_that_failed_is_not_said_to_be_done():
    with Supervised() as s:
        folder = os.path.join(s.home, ".config", "holdfast")
        os.makedirs(folder)
        with open(os.path.join(folder, "config.yaml"), "w", encoding="ascii") as f:
            f.write("version: 1\nretention: 1h\n")
        mark = os.path.join(s.state, "v1", "collected")
        held = Held(s, "audits.work=error:EIO,journal.gc_marked")  # retention's is the first
        until(lambda: "retention: " in s.logged(), s.logged)
        assert not os.path.exists(mark)
        time.sleep(2)
        assert s.logged().count("retention: ") == 1, "it is not tried again at once"
        held.go()
        s.stop()
        s.start()
        until(lambda: os.path.exists(mark), s.logged)


if __name__ == "__main__":
    main(sys.modules[__name__])
