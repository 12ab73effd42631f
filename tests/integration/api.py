"""The control socket as HTTP: what is refused, what is bounded, and that one client's doings are not another's."""

import os
import resource
import socket
import sys
import time
import uuid

from supervised import Supervised, main


def raw(s, data, fds=()):
    c = s.client()
    try:
        c.send(data, fds)
        return c.answer()
    finally:
        c.close()


def head(line, *headers):
    return "\r\n".join([line, "Host: holdfast", *headers, "", ""]).encode()


def test_daemon_tells_who_it_is():
    with Supervised() as s:
        d = s.start()
        assert d["version"] == 1 and d["pid"] == s.process.pid and d["epoch"] >= 1 and d["embedded"] is False, d


def test_bad_requests_are_refused_and_harm_nothing():
    rid = "Holdfast-Request: RID"
    cases = [
        (head("GET /v1/nothing HTTP/1.1"), 404),
        (head("GET / HTTP/1.1"), 404),
        (head("GET /v1/runs/zzz HTTP/1.1"), 404),
        (head("GET /v1/runs/%zz HTTP/1.1"), 400),
        (head("GET /v1/runs/%00 HTTP/1.1"), 400),
        (head("GET /v1/runs/" + "a/" * 20 + " HTTP/1.1"), 404),
        (head("GET /v1/runs?" + "a=b&" * 20 + " HTTP/1.1"), 400),
        (head("DELETE /v1/runs HTTP/1.1"), 405),
        (head("POST /v1/daemon HTTP/1.1", rid, "Content-Length: 0"), 405),
        (head("POST /v1/runs HTTP/1.1", "Content-Length: 2") + b"{}", 400),  # no Holdfast-Request
        (head("POST /v1/runs HTTP/1.1", "Holdfast-Request: " + "x" * 65, "Content-Length: 2") + b"{}", 400),
        (head("POST /v1/runs HTTP/1.1", rid, "Content-Length: 2") + b"{}", 400),
        (head("POST /v1/runs HTTP/1.1", rid, "Content-Length: 2") + b"[]", 400),
        (head("POST /v1/runs HTTP/1.1", rid, "Content-Length: 1") + b"{", 400),
        (head("POST /v1/runs HTTP/1.1", rid, "Content-Length: 13") + b'{"a":1,"a":2}', 400),
        (head("POST /v1/runs HTTP/1.1", rid, "Content-Length: 99999999"), 413),
        (head("GET /v1/daemon HTTP/1.1", "X: " + "y" * 40000), 431),
        (head("GET /" + "a" * 9000 + " HTTP/1.1"), 414),
        (b"GET /v1/daemon HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /v1/daemon HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /v1/daemon HTTP/1.1\nHost: a\n\n", 400),
        (b"GET  /v1/daemon HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n", 400),
    ]
    with Supervised() as s:
        s.start()
        for data, status in cases:
            a = raw(s, data.replace(b"RID", uuid.uuid4().hex.encode()))
            assert a.status == status, f"{data[:80]!r}: {a}"
            e = a.json()["error"]
            assert e["what"] and "why" in e and "remedy" in e and e["exit"] > 0, a
        assert s.get("/v1/daemon").status == 200


def test_wrong_types_in_a_run_are_exit_2_and_nothing_starts():
    good = {"workspace": "/", "env": {}, "exec": {"argv": ["/bin/true"]}}
    bad = [
        {"exec": {"argv": "true"}}, {"exec": {"argv": []}}, {"exec": {"argv": [1]}}, {"exec": {"argv": [None]}},
        {"exec": 7}, {"env": {"A": 1}}, {"env": {"": "x"}}, {"agency": "wild"}, {"policy": "nope"}, {"name": "a/b"},
        {"name": "a\u202eb"}, {"driver": True}, {"exec": {"argv": ["true"], "stdin": True}},
    ]
    with Supervised() as s:
        s.start()
        for change in bad:
            fd = os.open(s.workspace, os.O_RDONLY)
            a = s.post("/v1/runs", {**good, **change}, {"workspace": fd})
            os.close(fd)
            assert 400 <= a.status < 500 and a.json()["error"]["exit"] == 2, f"{change!r:.200}: {a}"
        fd = os.open(s.workspace, os.O_RDONLY)
        too_many = s.post("/v1/runs", {**good, "exec": {"argv": ["x"] * 5000}}, {"workspace": fd})
        os.close(fd)
        assert too_many.status == 413 and too_many.json()["error"]["exit"] == 7, too_many
        a = s.post("/v1/runs", good)
        assert a.status == 400, a  # no workspace descriptor
        assert s.get("/v1/runs?all=1").json()["runs"] == []


def test_truncated_request_is_dropped():
    with Supervised() as s:
        s.start()
        for part in (b"", b"G", b"GET /v1/daemon HTTP/1.1\r\nHo", head("POST /v1/gc HTTP/1.1", "Holdfast-Request: 1", "Content-Length: 50") + b"{"):
            c = s.client()
            c.send(part)
            c.sock.shutdown(socket.SHUT_WR)
            assert c.sock.recv(100) == b""
            c.close()
        assert s.get("/v1/daemon").status == 200


def test_pipelined_requests_are_answered_in_order():
    with Supervised() as s:
        s.start()
        c = s.client()
        c.send(head("GET /v1/daemon HTTP/1.1") + head("GET /v1/nothing HTTP/1.1") + head("GET /v1/runs HTTP/1.1") * 50)
        assert [c.answer().status for _ in range(52)] == [200, 404] + [200] * 50
        c.close()


def test_byte_by_byte():
    with Supervised() as s:
        s.start()
        c = s.client()
        for b in head("GET /v1/daemon HTTP/1.1"):
            c.send(bytes([b]))
        assert c.answer().status == 200
        c.close()


def test_descriptors_travel_with_the_first_byte_and_by_name():
    with Supervised() as s:
        s.start()
        fd = os.open("/dev/null", os.O_RDONLY)
        count = len(os.listdir(f"/proc/{s.process.pid}/fd"))
        assert raw(s, head("GET /v1/daemon HTTP/1.1"), [fd]).status == 400  # not named
        assert raw(s, head("GET /v1/daemon HTTP/1.1", "Holdfast-Fds: a,b"), [fd]).status == 400
        assert raw(s, head("GET /v1/daemon HTTP/1.1", "Holdfast-Fds: a,a"), [fd, fd]).status == 400
        assert raw(s, head("GET /v1/daemon HTTP/1.1", "Holdfast-Fds: ../a"), [fd]).status == 400
        assert raw(s, head("GET /v1/daemon HTTP/1.1", "Holdfast-Fds: a")).status == 400  # none came
        assert raw(s, head("GET /v1/daemon HTTP/1.1", "Holdfast-Fds: a"), [fd]).status == 200
        c = s.client()
        c.send(b"GET /v1/dae")
        time.sleep(0.1)
        c.send(b"mon HTTP/1.1\r\nHost: a\r\n\r\n", [fd])
        assert c.answer().status == 400
        c.close()
        c = s.client()
        try:
            c.send(head("GET /v1/daemon HTTP/1.1"), [fd] * 100)
            assert c.answer().status == 400
        except (EOFError, ConnectionError):
            pass
        c.close()
        os.close(fd)
        time.sleep(0.2)
        assert len(os.listdir(f"/proc/{s.process.pid}/fd")) <= count, "descriptors leaked"


def test_same_request_id_is_one_request():
    with Supervised() as s:
        s.start()
        rid = uuid.uuid4().hex
        a = s.run(["/bin/true"], request_id=rid)
        b = s.run(["/bin/true"], request_id=rid)
        assert a.status in (200, 201) and b.json()["run"] == a.json()["run"], (a, b)
        assert len(s.get("/v1/runs?all=1").json()["runs"]) == 1
        c = s.post(f"/v1/runs/{a.json()['run']}/cancel", {}, request_id=rid)
        assert c.status == 409, c  # the id of another request
        s.wait(a.json()["run"])
        s.kill()
        s.start()  # what was remembered in memory is gone; the journal knows the request
        d = s.run(["/bin/true"], request_id=rid)
        assert d.json()["run"] == a.json()["run"], d


def test_a_gc_that_is_asked_again_is_the_same_gc():
    with Supervised() as s:
        s.start()
        s.wait(s.begin(["/bin/true"]))
        body, rid = {"ended_before": "2200-01-01T00:00:00Z"}, uuid.uuid4().hex
        first = s.post("/v1/gc", body, request_id=rid)
        assert first.status == 200 and first.json()["runs"] == 1, first
        again = s.post("/v1/gc", body, request_id=rid)
        assert (again.status, again.body) == (200, first.body), again  # by itself it would find nothing
        assert s.post("/v1/gc", body).json()["runs"] == 0
        assert s.post("/v1/gc?all=1", body, request_id=rid).status == 409


def test_a_fork_is_known_by_its_request_to_the_next_supervisor():
    with Supervised() as s:
        s.start()
        run = s.wait(s.begin(["/bin/true"]))
        fork = {"at": run["steps"][0]["name"]}
        rid = uuid.uuid4().hex
        a = s.post(f"/v1/runs/{run['run']}/fork", fork, request_id=rid)
        assert a.status == 201, a
        s.wait(a.json()["run"])
        s.kill()
        s.start()
        b = s.post(f"/v1/runs/{run['run']}/fork", fork, request_id=rid)
        assert b.json()["run"] == a.json()["run"], (a, b)
        assert len(s.get("/v1/runs?all=1").json()["runs"]) == 2


def test_a_thousand_clients_and_clients_that_never_read():
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with Supervised() as s:
        s.start()
        run = s.begin(["/bin/sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' x"])
        s.wait(run)
        deaf = [s.client() for _ in range(100)]
        for c in deaf:
            c.send(head(f"GET /v1/runs/{run}/steps/sh/output HTTP/1.1") * 20)
        many = [s.client() for _ in range(1000)]
        for c in many:
            c.send(head("GET /v1/daemon HTTP/1.1"))
        begun = time.monotonic()
        for c in many:
            assert c.answer().status == 200
        assert time.monotonic() - begun < 20
        begun = time.monotonic()
        assert s.get("/v1/runs").status == 200
        assert time.monotonic() - begun < 2, "one client waits for another"
        with open(f"/proc/{s.process.pid}/status") as f:
            rss = next(int(l.split()[1]) for l in f if l.startswith("VmRSS:"))
        assert rss < 400 * 1024, f"{rss} KiB for clients that do not read"
        for c in many + deaf:
            c.close()
        time.sleep(0.5)
        assert s.get("/v1/daemon").json()["clients"] < 10


def test_more_clients_than_there_is_room_for():
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with Supervised() as s:
        s.start()
        many = []
        for _ in range(2200):  # idle ones give way to newer ones
            many.append(s.client())
        assert s.get("/v1/daemon").status == 200
        for c in many:
            c.close()


if __name__ == "__main__":
    main(sys.modules[__name__])
