"""The gate against real clients (curl, openssl, Python's ssl) and hostile bytes; keeper and courier are gate_rig.py's."""

import base64
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

from gate_rig import ABORT, ATTEMPT_END, BODY, BODY_END, HTTP, PASSTHROUGH, REFUSED, RESPONSE, SANITIZED, TCP, TLS, Gate, encode
from supervised import main

API = [("api.example.com", [(443, TLS), (80, HTTP)])]
HOST = b"Host: api.example.com\r\n"
NOTE_DNS, NOTE_TLS, NOTE_HTTP, NOTE_LIMIT, NOTE_OVER = range(1, 6)


def status(answer):
    out, reset = answer
    assert out.startswith(b"HTTP/1.1 "), (out, reset)
    return int(out.split()[1])


def context(g, **more):
    c = ssl.create_default_context(cafile=g.cafile)
    for k, v in more.items():
        setattr(c, k, v)
    return c


def tls(g, host="api.example.com", port=443, sni="api.example.com", ctx=None, slot=0):
    s = g.connect(host if not host.startswith("*") else host, port, slot)
    return (ctx or context(g)).wrap_socket(s, server_hostname=sni)


def rss(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * 4096


# ---- HTTP as it should be ----


def test_curl_over_tls_and_in_the_clear():
    with Gate(API) as g:
        p = g.curl("https://api.example.com/a%20b/%7Ec?x=1", "-H", "X-Forwarded-For: 1.2.3.4")
        assert p.stdout == b"GET https://api.example.com:443/a%20b/~c?x=1 0\n", p
        p = g.curl("http://api.example.com/x", port=80)
        assert p.stdout == b"GET http://api.example.com:80/x? 0\n", p
        p = g.curl("https://api.example.com/x", "--data-binary", "@" + __file__)
        assert p.stdout.endswith(b" %d\n" % os.path.getsize(__file__)), p
        assert g.courier.requests[-1].data == open(__file__, "rb").read()
        a = g.courier.requests[0]
        assert a.dropped == ["x-forwarded-for"] and a.headers["user-agent"].startswith("curl/") and "host" not in a.headers
        assert a.attempt == g.attempt


def test_a_chunked_body_goes_in_and_comes_out():
    def chunked(courier, c, a):
        data = courier.body(c, a)
        c.respond(200, [("content-type", "a/b")], data * 3, length=False)

    with Gate(API) as g:
        g.courier.routes["/c"] = chunked
        data = os.urandom(300000)
        p = subprocess.run(["curl", "-sS", "--cacert", g.cafile, "--connect-to", f"::127.0.0.1:{g.port('api.example.com', 443)}",
                            "-H", "Transfer-Encoding: chunked", "--data-binary", "@-", "https://api.example.com/c"],
                           input=data, capture_output=True, check=False)
        assert p.stdout == data * 3, (len(p.stdout), p.stderr)
        assert not g.courier.requests[0].has_length
        # And to HTTP/1.0, which has no chunks: until the connection's end.
        out, _ = g.raw("api.example.com", 80, b"GET /c HTTP/1.0\r\n" + HOST + b"\r\n")
        assert b"Transfer-Encoding" not in out and b"Connection: close" in out


def test_head_204_304_and_keep_alive():
    def bodyless(code):
        return lambda courier, c, a: c.respond(code, [("etag", '"x"')], length=False, bodyless=True)

    with Gate(API) as g:
        g.courier.routes.update({"/204": bodyless(204), "/304": bodyless(304)})
        h = http.client.HTTPConnection("127.0.0.1", g.port("api.example.com", 80), timeout=20)
        for method, path, code in [("HEAD", "/", 200), ("GET", "/204", 204), ("GET", "/304", 304), ("GET", "/", 200), ("POST", "/", 200)]:
            h.request(method, path, body=b"x" if method == "POST" else None, headers={"Host": "api.example.com"})
            r = h.getresponse()
            assert r.status == code and (r.read() == b"") == (method == "HEAD" or code != 200), (method, path)
        h.close()
        assert len(g.courier.requests) == 5
        assert len({id(r) for r in g.courier.requests}) == 5


def test_pipelined_requests_are_answered_in_order():
    with Gate(API) as g:
        n = 50
        data = b"".join(b"GET /%d HTTP/1.1\r\n" % i + HOST + (b"Connection: close\r\n" if i == n - 1 else b"") + b"\r\n" for i in range(n))
        out, _ = g.raw("api.example.com", 80, data)
        assert [int(x.split(b"com:80/")[1].split(b"?")[0]) for x in out.split(b"\n") if b"com:80/" in x] == list(range(n))


def test_expect_100_continue():
    with Gate(API) as g:
        s = g.connect("api.example.com", 80)
        s.sendall(b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n")
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"abc")
        assert b" 3\n" in s.makefile("rb").read()


def test_set_cookie_lines_stay_apart_and_interim_answers_are_the_couriers():
    def cookies(courier, c, a):
        c.respond(200, [("set-cookie", "a=1"), ("set-cookie", "b=2")], b"x")

    with Gate(API) as g:
        g.courier.routes["/c"] = cookies
        p = g.curl("https://api.example.com/c", "-D", "-")
        assert p.stdout.count(b"set-cookie: ") == 2, p


def test_a_refusal_is_403_json_and_the_connection_lives_on():
    def refuse(courier, c, a):
        courier.body(c, a)
        c.say(REFUSED, encode({1: 403, 2: '{"error":"denied","rule":"r","why":"w","hint":"h"}'}))

    with Gate(API) as g:
        g.courier.routes["/no"] = refuse
        h = http.client.HTTPConnection("127.0.0.1", g.port("api.example.com", 80), timeout=20)
        for _ in range(3):
            h.request("POST", "/no", body=b"x" * 100000, headers={"Host": "api.example.com"})
            r = h.getresponse()
            assert r.status == 403 and r.headers["content-type"] == "application/json"
            assert json.loads(r.read())["rule"] == "r"
        h.close()


def test_an_early_refusal_ends_a_body_that_is_still_coming():
    def early(courier, c, a):
        c.say(REFUSED, encode({1: 413, 2: '{"error":"too_large"}'}))
        courier.body(c, a)

    with Gate(API) as g:
        g.courier.routes["/big"] = early
        p = subprocess.run(["curl", "-sS", "--connect-to", f"::127.0.0.1:{g.port('api.example.com', 80)}", "-w", "%{http_code}",
                            "-H", "Expect:", "--data-binary", "@-", "http://api.example.com/big"], input=bytes(600000),
                           capture_output=True, check=False)
        assert p.stdout.endswith(b'{"error":"too_large"}413'), p


def test_what_the_courier_breaks_off_is_told_or_reset():
    def abort(courier, c, a):
        c.say(ABORT, b"upstream ended early")

    def half(courier, c, a):
        c.say(RESPONSE, encode({1: 200, 2: [], 3: 100}))
        c.say(BODY, b"x" * 50)
        c.say(BODY_END)

    def dies(courier, c, a):
        c.sock.close()
        raise EOFError

    def nonsense(courier, c, a):
        c.say(RESPONSE, encode({1: 200, 2: [["content-length", b"5"]]}))

    with Gate(API) as g:
        g.courier.routes.update({"/abort": abort, "/half": half, "/dies": dies, "/nonsense": nonsense})
        for path, why in (("/abort", b"upstream ended early"), ("/dies", b"not known"), ("/nonsense", b"makes no sense")):
            out, _ = g.raw("api.example.com", 80, b"GET %s HTTP/1.1\r\n" % path.encode() + HOST + b"\r\n")
            assert out.startswith(b"HTTP/1.1 502 ") and why in out, out
        out, reset = g.raw("api.example.com", 80, b"GET /half HTTP/1.1\r\n" + HOST + b"\r\n")
        assert reset and len(out) < 200, (out, reset)


def test_a_client_that_goes_away_is_told_to_the_courier():
    waits = threading.Event()

    def wait(courier, c, a):
        try:
            c.exactly(1)
        except EOFError:
            waits.set()
            raise

    with Gate(API) as g:
        g.courier.routes["/w"] = wait
        s = g.connect("api.example.com", 80)
        s.sendall(b"GET /w HTTP/1.1\r\n" + HOST + b"\r\n")
        g.wait_for(lambda: g.courier.requests)
        assert not waits.is_set()
        s.close()
        assert waits.wait(10)


# ---- HTTP as it should not be ----

SMUGGLING = [
    ("TE and CL", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("CL and TE", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    ("two TE", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    ("TE of a list", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE with a tab", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n", 400),
    ("TE in HTTP/1.0", b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("two CL", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    ("equal CL", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    ("CL of a list", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na", 400),
    ("CL with a sign", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", 400),
    ("CL in hex", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na", 400),
    ("CL huge", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\na", 400),
    ("bare LF", b"GET / HTTP/1.1\nHost: api.example.com\n\n", 400),
    ("bare LF in the head", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n", 400),
    ("bare CR", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n", 400),
    ("obs-fold", b"GET / HTTP/1.1\r\n" + HOST + b"Accept: a\r\n b\r\n\r\n", 400),
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : api.example.com\r\n\r\n", 400),
    ("no name", b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n", 400),
    ("NUL in a value", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
    ("two Hosts", b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", 400),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("another Host", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    ("Host with a user", b"GET / HTTP/1.1\r\nHost: api.example.com@evil.example\r\n\r\n", 400),
    ("absolute form of another", b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 421),
    ("absolute form with a user", b"GET http://api.example.com@evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("authority form", b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("CRLF in a path", b"GET /a%0d%0aHost:%20evil HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("%00", b"GET /a%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("%2f", b"GET /a%2f..%2fb HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("..", b"GET /a/../b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("%2e%2e", b"GET /a/%2e%2e/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("backslash", b"GET /a\\..\\b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("dots and a space", b"GET /a/..%20/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("dots alone", b"GET /a/.../b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("overlong UTF-8", b"GET /a/%c0%ae%c0%ae/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method in small letters", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method in mixed letters", b"Get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method that ends in capitals", b"gET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("two empty lines", b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("an empty line that is another's", b"\r\nget / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("two spaces", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("a long target", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ("a huge header", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40000 + b"\r\n\r\n", 431),
    ("many headers", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 150 + b"\r\n", 431),
    ("upgrade tricks", b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
     b"Sec-WebSocket-Key: short\r\n\r\n", 400),
    ("expectation", b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", 417),
]


def test_smuggling_gets_its_status_and_nothing_is_sent():
    with Gate(API) as g:
        for name, data, want in SMUGGLING:
            answer = g.raw("api.example.com", 80, data + b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n")
            assert status(answer) == want, (name, answer)
            assert b"Connection: close" in answer[0], (name, answer)
            json.loads(answer[0].split(b"\r\n\r\n", 1)[1])  # one answer, and nothing behind it
        assert g.courier.requests == [], [vars(a) for a in g.courier.requests]
        g.wait_for(lambda: len(g.courier.notes) == len(SMUGGLING))
        assert {n["kind"] for n in g.courier.notes} == {NOTE_HTTP}


def test_bad_chunks_end_the_connection_before_the_body_does():
    bodies = {
        "extension": b"3;x=y\r\nabc\r\n0\r\n\r\n", "trailer": b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", "bare LF": b"3\nabc\n0\n\n",
        "sign": b"+3\r\nabc\r\n0\r\n\r\n", "space": b"3 \r\nabc\r\n0\r\n\r\n", "too long": b"2\r\nabc\r\n0\r\n\r\n",
        "huge size": b"fffffffffffffffff\r\nabc\r\n", "empty size": b"\r\nabc\r\n",
    }
    with Gate(API) as g:
        for name, body in bodies.items():
            out, _ = g.raw("api.example.com", 80, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
            assert out.startswith(b"HTTP/1.1 400 "), (name, out)
        g.wait_for(lambda: g.courier.cuts == len(bodies))
        assert all(a.data == b"" for a in g.courier.requests)  # none of them had an end


def test_what_is_no_http_is_reset():
    with Gate(API) as g:
        for data in (b"\x16\x03\x01\x00\x05", b"SSH-2.0-x\r\n"[::-1], b"\0\0\0\0", b"hello, is it me", b"helo:x", b"a" * 24,
                     b"\n\nGET / HTTP/1.1\r\n\r\n", b"\rGET / HTTP/1.1\r\n\r\n"):
            assert g.raw("api.example.com", 80, data) == (b"", True), data
        assert g.courier.requests == []


def test_an_empty_line_before_a_request_is_ignored():
    with Gate(API) as g:
        one = b"GET /%d HTTP/1.1\r\n" + HOST + b"%s\r\n"
        for pieces in ([b"\r\n" + one % (1, b"Connection: close\r\n")], [b"\r", b"\n", one % (1, b"Connection: close\r\n")],
                       [b"\r\n" + one % (1, b"") + b"\r\n" + one % (2, b"Connection: close\r\n")]):
            s, out = g.connect("api.example.com", 80), b""
            for piece in pieces:
                s.sendall(piece)
                time.sleep(0.05)
            while chunk := s.recv(65536):
                out += chunk
            s.close()
            assert out.count(b"HTTP/1.1 200 ") == out.count(b"HTTP/1.1 ") == sum(p.count(b"GET") for p in pieces), (pieces, out)
        assert [a.path for a in g.courier.requests] == ["/1", "/1", "/1", "/2"]


def test_an_early_close_sends_nothing_on():
    with Gate(API) as g:
        for data in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: api.exam"):
            s = g.connect("api.example.com", 80)
            s.sendall(data)
            s.close()
        s = g.connect("api.example.com", 80)
        s.sendall(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc")
        g.wait_for(lambda: g.courier.requests)
        s.close()
        g.wait_for(lambda: g.courier.cuts == 1)
        assert len(g.courier.requests) == 1 and g.courier.requests[0].data == b""


def test_a_slow_loris_is_ended():
    with Gate(API, limits="600,700,1500") as g:
        s = g.connect("api.example.com", 80)
        begun, out = time.monotonic(), b""
        s.settimeout(0.1)
        while not out and time.monotonic() - begun < 10:
            try:
                s.sendall(b"G" if time.monotonic() - begun < 0.05 else b"E")
                out = s.recv(1000)
            except socket.timeout:
                pass
        assert out.startswith(b"HTTP/1.1 408 ") and 0.4 < time.monotonic() - begun < 5, out
        s = g.connect("api.example.com", 80)  # a body that stops coming
        s.sendall(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc")
        assert s.recv(1000).startswith(b"HTTP/1.1 408 ")
        s = g.connect("api.example.com", 443)  # no hello
        s.settimeout(10)
        try:
            assert s.recv(1000) == b""
        except ConnectionResetError:
            pass
        s = g.connect("api.example.com", 80)  # nothing at all
        assert s.recv(1000) == b""


# ---- memory and back-pressure ----


def test_large_bodies_pass_in_constant_memory():
    size = 400 << 20

    def download(courier, c, a):
        c.say(RESPONSE, encode({1: 200, 2: [], 3: size}))
        piece = bytes(65536)
        for _ in range(size // 65536):
            c.say(BODY, piece)
        c.say(BODY_END)

    def upload(courier, c, a):
        n = 0
        while True:
            kind, body = c.frame()
            if kind == BODY_END:
                break
            n += len(body)
        c.respond(200, [], b"%d" % n)

    with Gate(API) as g:
        g.courier.routes.update({"/down": download, "/up": upload})
        g.curl("https://api.example.com/warm")
        before, peak, stop = rss(g.process.pid), [0], threading.Event()

        def watch():
            while not stop.wait(0.02):
                peak[0] = max(peak[0], rss(g.process.pid))

        t = threading.Thread(target=watch)
        t.start()
        p = g.curl("https://api.example.com/down", "-o", "/dev/null", "-w", "%{size_download}")
        assert p.stdout == b"%d" % size, p
        with subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE) as zero:
            p = subprocess.run(["curl", "-sS", "--cacert", g.cafile, "--connect-to", f"::127.0.0.1:{g.port('api.example.com', 443)}",
                                "-T", "-", "https://api.example.com/up"], stdin=zero.stdout, capture_output=True, check=False)
        assert p.stdout == b"%d" % size, p
        stop.set()
        t.join()
        assert SANITIZED or peak[0] - before < 4 << 20, (before, peak)


def test_a_client_that_does_not_read_holds_its_server_up():
    said, held = [0], threading.Event()

    def endless(courier, c, a):
        c.say(RESPONSE, encode({1: 200, 2: []}))
        c.sock.settimeout(3)
        try:
            while said[0] < 1 << 30:
                c.say(BODY, bytes(65536))
                said[0] += 65536
        except (socket.timeout, TimeoutError):
            held.set()
            raise EOFError from None

    with Gate(API) as g:
        g.courier.routes["/endless"] = endless
        g.curl("http://api.example.com/warm", port=80)
        before = rss(g.process.pid)
        s = g.connect("api.example.com", 80)
        s.sendall(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
        assert held.wait(30)
        assert said[0] < 32 << 20, said
        assert SANITIZED or rss(g.process.pid) - before < 4 << 20, (before, rss(g.process.pid))
        s.close()


# ---- TLS ----


def test_openssl_s_client_and_python_verify_the_chain():
    with Gate(API) as g:
        p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{g.port('api.example.com', 443)}", "-servername",
                            "api.example.com", "-CAfile", g.cafile, "-verify_return_error", "-verify_hostname", "api.example.com",
                            "-alpn", "h2,http/1.1"], input=b"", capture_output=True, check=False)
        assert b"Verify return code: 0 (ok)" in p.stdout and b"ALPN protocol: http/1.1" in p.stdout, p
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with tls(g, ctx=context(g, minimum_version=version, maximum_version=version)) as s:
                s.sendall(b"GET /v HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
                assert b"https://api.example.com:443/v" in s.makefile("rb").read()
                names = dict(s.getpeercert())["subjectAltName"]
                assert names == (("DNS", "api.example.com"),), names


def test_a_ticket_is_good_for_its_name_alone():
    with Gate([("api.example.com", [(443, TLS)]), ("b.example.com", [(443, TLS)])]) as g:
        ctx = context(g)
        s = tls(g, ctx=ctx)
        s.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        s.recv(1000)
        ticket = s.session
        again = ctx.wrap_socket(g.connect("api.example.com", 443), server_hostname="api.example.com", session=ticket)
        assert again.session_reused
        other = ctx.wrap_socket(g.connect("b.example.com", 443), server_hostname="b.example.com", session=ticket)
        assert not other.session_reused


def refused_tls(g, alert, **how):
    try:
        with tls(g, **how) as s:
            s.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            s.recv(10)
        raise AssertionError("taken")
    except ssl.SSLError as e:
        assert alert in str(e).lower().replace("_", " "), e


def test_tls_that_is_not_as_it_should_be_gets_an_alert_and_a_note():
    old = context  # names what follows
    with Gate(API) as g:
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        refused_tls(g, "unrecognized name", sni=None, ctx=plain)
        refused_tls(g, "unrecognized name", sni="evil.example")
        refused_tls(g, "unrecognized name", sni="api.example.com.evil.example")
        h2 = old(g)
        h2.set_alpn_protocols(["h2"])
        refused_tls(g, "no application protocol", ctx=h2)
        p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{g.port('api.example.com', 443)}", "-servername",
                            "api.example.com", "-tls1", "-cipher", "ALL:@SECLEVEL=0"], input=b"", capture_output=True, check=False)
        assert b"alert protocol version" in p.stderr, p
        g.wait_for(lambda: len(g.courier.notes) == 5)
        assert [n["kind"] for n in g.courier.notes] == [NOTE_TLS] * 5
        assert [n["host"] for n in g.courier.notes][:3] == ["", "evil.example", "api.example.com.evil.example"]
        assert g.courier.requests == []


def test_a_clients_certificate_is_not_asked_for():
    with Gate(API) as g:
        p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{g.port('api.example.com', 443)}", "-servername",
                            "api.example.com", "-cert", g.cafile, "-key", os.path.join(g.folder, "ca.key")], input=b"",
                           capture_output=True, check=False)
        assert b"No client certificate CA names sent" in p.stdout and b"Acceptable client certificate" not in p.stdout, p


def test_plain_http_on_a_tls_port_is_told_and_garbage_is_reset():
    with Gate(API) as g:
        out, _ = g.raw("api.example.com", 443, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert out.startswith(b"HTTP/1.1 400 ") and b"speaks TLS" in out, out
        assert g.raw("api.example.com", 443, b"\0\1\2\3\4\5") == (b"", True)
        out, _ = g.raw("api.example.com", 443, b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")
        assert out[:1] == b"\x15" and out[-1] == 50, out


def test_fronting_is_misdirected():
    with Gate(API) as g:
        with tls(g) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert s.recv(1000).startswith(b"HTTP/1.1 421 ")
        assert g.courier.requests == []


def hello(name, more=b"", records=16384):
    sni = struct.pack(">HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name if name else b""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += struct.pack(">H", len(sni + more)) + sni + more
    message = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(message[i:i + records])) + message[i:i + records]
                    for i in range(0, len(message), records))


def test_passthrough_hands_the_hello_on_untouched():
    with Gate([("pin.example.com", [(443, PASSTHROUGH)])]) as g:
        data = hello(b"pin.example.com", records=20)
        s = g.connect("pin.example.com", 443)
        for i in range(0, len(data), 7):
            s.sendall(data[i:i + 7])
        got = b""
        while len(got) < len(data):
            got += s.recv(4096)
        assert got == data.upper()
        assert g.courier.tunnels == [{1: "pin.example.com", 2: 443, 3: True}]
        for bad, why in ((hello(b"evil.example"), 112), (hello(b""), 112), (hello(b"pin.example.com", b"\xfe\x0d\0\1\0"), 47)):
            out, _ = g.raw("pin.example.com", 443, bad)
            assert out == b"\x15\x03\x03\0\x02\x02" + bytes([why]), out
        assert g.raw("pin.example.com", 443, b"GET / HTTP/1.1\r\n\r\n") == (b"", True)
        assert len(g.courier.tunnels) == 1
        g.wait_for(lambda: len(g.courier.notes) == 4)


def with_extension(data, more):
    """A client hello of one record, with one extension more."""
    b = bytearray(data[5:])
    at = 4 + 34
    at += 1 + b[at]
    at += 2 + int.from_bytes(b[at:at + 2], "big")
    at += 1 + b[at]
    b[at:at + 2] = (int.from_bytes(b[at:at + 2], "big") + len(more)).to_bytes(2, "big")
    b[at + 2:at + 2] = more
    b[1:4] = (len(b) - 4).to_bytes(3, "big")
    return bytes(data[:3]) + len(b).to_bytes(2, "big") + bytes(b)


def test_an_encrypted_hello_is_ignored_where_tls_ends_and_its_outer_name_counts():
    ech = b"\xfe\x0d\0\x0a\0\0\1\0\1\0\0\0\0\0"
    with Gate(API) as g:
        for name, answer in (("api.example.com", 0x16), ("public.example.net", 0x15)):
            out = ssl.MemoryBIO()
            ctx = context(g)
            ctx.check_hostname = False
            client = ctx.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            s = g.connect("api.example.com", 443)
            s.sendall(with_extension(out.read(), ech))
            got = s.recv(5)
            assert got[0] == answer, (name, got)
            if answer == 0x15:
                assert s.recv(2) == b"\x02\x70"
            s.close()
        g.wait_for(lambda: len(g.courier.notes) >= 1)
        assert [(n["kind"], n["host"]) for n in g.courier.notes] == [(NOTE_TLS, "public.example.net")], g.courier.notes
        assert g.courier.requests == []


# ---- tunnels ----


def test_tcp_is_opaque_and_half_closes():
    with Gate([("db.example.org", [(5432, TCP)]), ("refused.example.org", [(1, TCP)])]) as g:
        s = g.connect("db.example.org", 5432)
        data = os.urandom(3 << 20)

        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)

        t = threading.Thread(target=send)
        t.start()
        got = s.makefile("rb").read()
        t.join()
        assert got == data.upper() + b"end"
        assert g.courier.tunnels == [{1: "db.example.org", 2: 5432}]
        assert g.raw("refused.example.org", 1, b"x") == (b"", True)


def test_websocket_is_opaque_after_its_upgrade():
    def ws(courier, c, a):
        assert a.websocket and "sec-websocket-key" not in a.headers
        c.respond(101, [("sec-websocket-protocol", "p")], length=False)
        while True:
            kind, body = c.frame()
            if kind == 6:
                c.say(6)
                return
            c.say(5, body[::-1])

    key = base64.b64encode(os.urandom(16))
    want = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    with Gate(API) as g:
        g.courier.routes["/ws"] = ws
        for secure in (False, True):
            s = tls(g) if secure else g.connect("api.example.com", 80)
            s.sendall(b"GET /ws HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
                      b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: p\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n" + b"early")
            out = b""
            while not out.endswith(b"ylrae"):
                piece = s.recv(1000)
                assert piece, out
                out += piece
            assert out.startswith(b"HTTP/1.1 101 ") and b"Sec-WebSocket-Accept: " + want in out, out
            s.sendall(b"GET / HTTP/1.1\r\n")
            assert s.recv(1000) == b"\n\r1.1/PTTH / TEG"
            s.close()
        # Refused it is HTTP like any other.
        out, _ = g.raw("api.example.com", 80, b"GET /no HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
        assert out.startswith(b"HTTP/1.1 200 "), out


# ---- DNS ----


def question(name, kind=1, ident=b"\x12\x34"):
    wire = b"".join(bytes([len(x)]) + x for x in name.split(b".")) + b"\0" if name else b"\0"
    return ident + b"\x01\x00\0\1\0\0\0\0\0\0" + wire + struct.pack(">HH", kind, 1)


def ask(g, data, tcp=False):
    if tcp:
        s = socket.create_connection(g.listeners[1].getsockname(), timeout=10)
        s.sendall(struct.pack(">H", len(data)) + data)
        size = struct.unpack(">H", s.recv(2))[0]
        out = b""
        while len(out) < size:
            out += s.recv(size)
        s.close()
        return out
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect(g.listeners[0].getsockname())
    s.send(data)
    out = s.recv(4096)
    s.close()
    return out


def parts(out):
    return out[3] & 15, struct.unpack(">H", out[6:8])[0]


def test_dns_answers_the_table_and_nothing_else():
    with Gate(API + [("*.w.example.com", [(443, TLS)])]) as g:
        for tcp in (False, True):
            out = ask(g, question(b"api.EXAMPLE.com"), tcp)
            assert parts(out) == (0, 1) and out.endswith(b"\xc6\x12\0\2"), out
            assert b"\7EXAMPLE" in out  # the question as it was asked
            out = ask(g, question(b"api.example.com", 28), tcp)
            assert parts(out) == (0, 1) and out.endswith(bytes.fromhex("fd486f6c6466") + bytes(9) + b"\2"), out
            for kind in (2, 5, 15, 16, 33, 64, 65, 255):
                assert parts(ask(g, question(b"api.example.com", kind), tcp)) == (0, 0), kind
            for name in (b"evil.example", b"example.com", b"x.api.example.com", b"w.example.com", b"a.b.w.example.com", b"",
                         b"2.0.18.198.in-addr.arpa", b"localhost"):
                assert parts(ask(g, question(name), tcp)) == (3, 0), name
        g.wait_for(lambda: len(g.courier.notes) >= 8)
        assert {"evil.example", "localhost"} <= {n["host"] for n in g.courier.notes}
        assert len(g.courier.notes) == 8  # however often it was asked


def test_dns_gives_a_wildcards_slots_once_and_tells_the_keeper():
    with Gate([("*.w.example.com", [(443, TLS)])]) as g:
        seen = {}
        for i in range(64):
            out = ask(g, question(b"n%d.w.example.com" % i))
            assert parts(out) == (0, 1), i
            seen[i] = out[-4:]
        assert len(set(seen.values())) == 64
        assert parts(ask(g, question(b"one-more.w.example.com"))) == (3, 0)
        assert ask(g, question(b"n7.w.example.com"))[-4:] == seen[7]
        assert parts(ask(g, question(b"n7.w.example.com", 16))) == (0, 0)
        g.wait_for(lambda: len(g.names) == 64)
        assert g.names[7] == (0, 7, "n7.w.example.com")
        # The name that a slot stands for is the one that TLS and HTTP must say.
        with tls(g, "*.w.example.com", sni="n7.w.example.com", slot=7) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: n7.w.example.com\r\nConnection: close\r\n\r\n")
            assert b"https://n7.w.example.com:443/" in s.makefile("rb").read()
        refused_tls(g, "unrecognized name", host="*.w.example.com", sni="n8.w.example.com", slot=7)


def test_hostile_dns_is_refused_or_dropped():
    head = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0"
    with Gate(API) as g:
        for bad in (head + b"\xc0\x0c\0\1\0\1", head + b"\1a\xc0\x0c\0\1\0\1", head + b"\x3fabc", head + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1",
                    b"\x12\x34\x01\x00\0\2\0\0\0\0\0\0" + question(b"a.b")[12:] * 2, question(b"a.b") + b"junk"):
            assert parts(ask(g, bad)) == (1, 0), bad
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(0.3)
        s.connect(g.listeners[0].getsockname())
        for dropped in (b"", b"\0" * 11, b"\x12\x34\x81\x80" + head[4:] + b"\0\0\1\0\1", bytes(5000)):
            s.send(dropped)
        try:
            raise AssertionError(s.recv(4096))
        except (socket.timeout, TimeoutError):
            pass
        s.close()
        t = socket.create_connection(g.listeners[1].getsockname(), timeout=10)
        t.sendall(b"\xff\xff" + bytes(100))
        try:
            assert t.recv(10) == b""
        except ConnectionResetError:
            pass
        assert parts(ask(g, question(b"api.example.com"))) == (0, 1)


# ---- its life ----


def test_it_may_be_killed_and_comes_back_the_same():
    with Gate(API + [("*.w.example.com", [(443, TLS)])]) as g:
        assert g.curl("https://api.example.com/1").returncode == 0
        before = ask(g, question(b"x.w.example.com"))
        g.wait_for(lambda: g.names)
        g.kill()
        g.start()
        assert ask(g, question(b"y.w.example.com"))[-4:] != before[-4:]
        assert ask(g, question(b"x.w.example.com")) == before
        assert g.curl("https://api.example.com/2").stdout.startswith(b"GET https://api.example.com:443/2")
        with tls(g, "*.w.example.com", sni="x.w.example.com", slot=0) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x.w.example.com\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 200 ")


def test_requests_wait_for_a_courier_and_go_to_the_next_one():
    with Gate(API) as g:
        g.courier_trunk.shutdown(socket.SHUT_RDWR)
        time.sleep(0.1)
        done = []
        t = threading.Thread(target=lambda: done.append(g.curl("https://api.example.com/late")))
        t.start()
        time.sleep(0.5)
        assert not done
        g.trunk()
        t.join()
        assert done[0].stdout.startswith(b"GET https://api.example.com:443/late"), done


def test_an_attempts_end_closes_all_of_its():
    with Gate(API + [("db.example.org", [(5432, TCP)])]) as g:
        s, d = g.connect("api.example.com", 80), g.connect("db.example.org", 5432)
        d.sendall(b"x")
        assert d.recv(1) == b"X"
        g.send(ATTEMPT_END, [], attempt=g.attempt)
        for x in (s, d):
            try:
                assert x.recv(1) == b""
            except ConnectionResetError:
                pass
        assert g.process.poll() is None


def test_the_last_note_of_an_attempt_says_so_also_to_the_next_courier():
    with Gate(API) as g:
        for i in range(20):
            assert parts(ask(g, question(b"n%d.evil.example" % i))) == (3, 0)
        g.send(ATTEMPT_END, [], attempt=g.attempt)
        g.wait_for(lambda: any(n["kind"] == NOTE_OVER for n in g.courier.notes))
        assert [n["kind"] for n in g.courier.notes] == [NOTE_DNS] * 20 + [NOTE_OVER], g.courier.notes
        assert {n["attempt"] for n in g.courier.notes} == {g.attempt}
        g.courier_trunk.shutdown(socket.SHUT_RDWR)
        time.sleep(0.1)
        g.send(ATTEMPT_END, [], attempt=b"2" * 16)
        g.trunk()
        g.wait_for(lambda: g.courier.notes[-1]["attempt"] == b"2" * 16)
        assert g.courier.notes[-1]["kind"] == NOTE_OVER


def test_it_ends_with_its_keeper():
    with Gate(API) as g:
        g.curl("https://api.example.com/")
        g.control.shutdown(socket.SHUT_RDWR)
        assert g.process.wait(10) == 0


def test_it_is_shut_in():
    with Gate(API) as g:
        g.curl("https://api.example.com/")
        with open(f"/proc/{g.process.pid}/status") as f:
            said = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert said["CapEff"] == said["CapBnd"] == "0" * 16 and said["NoNewPrivs"] == "1" and said["Seccomp"] == "2", said
        assert said["Uid"].split()[0] != "0"


def test_too_many_connections_are_reset_and_the_others_live():
    with Gate(API) as g:
        held = []
        g.process.send_signal(0)
        try:
            import resource

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 9000), hard))
            for _ in range(4097):
                held.append(g.connect("api.example.com", 80))
                if len(held) % 100 == 0:
                    time.sleep(0.01)
        except OSError:
            return  # this machine does not give us as many
        try:
            assert held[-1].recv(1) == b""
        except ConnectionResetError:
            pass
        held[0].sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 200 ")
        g.wait_for(lambda: any(n["kind"] == NOTE_LIMIT for n in g.courier.notes))
        for s in held:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_that_are_used_up_are_waited_for():
    with Gate(API, nofile=60) as g:  # few enough to end before the limit of connections
        g.curl("https://api.example.com/")
        held = [g.connect("api.example.com", 80) for _ in range(60)]
        time.sleep(0.5)
        with open(f"/proc/{g.process.pid}/stat") as f:
            before = sum(map(int, f.read().split()[13:15]))
        time.sleep(1)
        with open(f"/proc/{g.process.pid}/stat") as f:
            assert sum(map(int, f.read().split()[13:15])) - before < 20  # ticks: it does not spin
        for s in held[:-1]:
            s.close()
        held[-1].sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert held[-1].recv(100).startswith(b"HTTP/1.1 200 ")


def test_reports_of_one_attempt_have_an_end():
    with Gate(API) as g:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(10)
        s.connect(g.listeners[0].getsockname())
        for i in range(1100):
            s.send(question(b"n%d.evil.example" % i))
            assert parts(s.recv(4096)) == (3, 0)
            if i % 20 == 19:  # what the trunk cannot hold is counted: not here
                g.wait_for(lambda: len(g.courier.notes) >= min(i + 1, 1000))
        time.sleep(0.3)
        assert len(g.courier.notes) == 1000
        g.send(ATTEMPT_END, [], attempt=g.attempt)
        g.wait_for(lambda: g.courier.notes[-1]["kind"] == NOTE_OVER)
        assert [n["why"].split()[:4] for n in g.courier.notes[1000:-1]] == [["100", "more", "of", "names"]], g.courier.notes[1000:]


def told(g):
    """How many refusals the notes stand for, and how many of them are told as a number."""
    more = [int(n["why"].split()[0]) for n in g.courier.notes if " more of " in n["why"]]
    return len([n for n in g.courier.notes if n["kind"] != NOTE_OVER]) - len(more) + sum(more), sum(more)


def test_a_burst_of_refusals_is_counted_to_the_last_one():
    with Gate(API) as g:
        g.courier.listens.clear()
        refused = 0
        for i in range(900):
            assert parts(ask(g, question(b"n%d.evil.example" % i))) == (3, 0)
            refused += 1
        for _ in range(20):
            assert status(g.raw("api.example.com", 80, b"GET /.. HTTP/1.1\r\n" + HOST + b"\r\n")) == 400
            refused += 1
        g.courier.listens.set()
        g.wait_for(lambda: told(g)[0] == refused)
        assert told(g)[1] > 100, told(g)  # else the trunk held them all, and nothing was tried
        assert len(g.courier.notes) < refused and {n["attempt"] for n in g.courier.notes} == {g.attempt}
        # with no courier at all, and told before the attempt's end is
        g.courier_trunk.shutdown(socket.SHUT_RDWR)
        for i in range(30):
            assert parts(ask(g, question(b"m%d.evil.example" % i))) == (3, 0)
        g.send(ATTEMPT_END, [], attempt=g.attempt)
        time.sleep(0.1)
        g.trunk()
        g.wait_for(lambda: g.courier.notes[-1]["kind"] == NOTE_OVER)
        assert told(g)[0] == refused + 30, told(g)


if __name__ == "__main__":
    signal.alarm(280)
    main(sys.modules[__name__])
