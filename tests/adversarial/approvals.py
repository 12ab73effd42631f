"""What is tried against approvals: another's vote, an old one, a forged one, one by the agent, and words that look like another
action. Real keys, a real supervisor, the command line as people use it. SECURITY.md names these tests."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "integration"))
from cli import HOLDFAST, Cli  # noqa: E402
from supervised import Supervised, main  # noqa: E402

GATED = "name: p\nland: never\nsteps:\n  - {name: pay, gate: ask, run: [/bin/sh, -c, 'echo paid > paid']}\n"


class People(Cli):
    """People with keys, and a policy that names them."""

    def __init__(self):
        super().__init__()
        os.chmod(self.root, 0o755)
        self.signers = os.path.join(self.root, "signers")
        open(self.signers, "w").close()
        self.name_the_user()

    def name_the_user(self):
        """ssh-keygen wants a name for whoever calls it; a uid that has none here is called root in a namespace of its own."""
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            bin_ = self.file("bin")
            os.mkdir(bin_)
            with open(os.path.join(bin_, "ssh-keygen"), "w") as f:
                f.write('#!/bin/sh\nexec unshare -U -r /usr/bin/ssh-keygen "$@"\n')
            os.chmod(os.path.join(bin_, "ssh-keygen"), 0o755)
            self.env["PATH"] = bin_ + ":" + self.env["PATH"]

    def file(self, name):
        return os.path.join(self.root, name)

    def key(self, name, kind="ed25519", options="", listed=True, principal=None):
        path = self.file("key-" + name)
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", path], check=True, env=self.env)
        if listed:
            self.trust(name, options, principal)
        return path

    def trust(self, name, options="", principal=None):
        with open(self.file("key-" + name) + ".pub") as f:
            public = f.read().split(" ")
        with open(self.signers, "a") as f:
            f.write(f"{principal or name} {options + ' ' if options else ''}{public[0]} {public[1]}\n")

    def policy(self, approvals, more=""):
        path = self.file("policy.yaml")
        with open(path, "w") as f:
            f.write(f"version: 1\nname: votes\nextends: [offline]\napprovals: {{{approvals}}}\n{more}")
        return path

    def gated(self, approvals, plan=GATED, more=""):
        """A run that waits at its gate; the item of the queue."""
        code, out, err = self.run("run", self.plan(plan), "--policy", self.policy(approvals, more), "--no-input")
        assert code == 4, (code, out, err)
        return self.item()

    def item(self):
        (a,) = self.waiting()
        return self.show(a["approval"])

    def show(self, approval):
        return self.json("show", approval)[1]

    def vote(self, word, item, *args):
        return self.run(word, item["approval"], "--no-input", "--digest", item["card_digest"], *args)

    def decided(self, run):
        """What became of the gated step."""
        self.until(lambda: self.json("status", run)[1]["state"] in ("succeeded", "failed", "cancelled"))
        return self.json("status", run)[1]["steps"][0]["state"]

    def open(self, item):
        return self.show(item["approval"])["state"] == "open"

    def ballot(self, item, key, namespace="holdfast-vote", **changes):
        """A signed vote made by hand, so that each part of it can be wrong."""
        text = ballot_of(item, **changes)
        done = subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace], input=text, capture_output=True,
                              check=True, env=self.env)
        return {"ballot": text.hex(), "signature": done.stdout.decode()}


def cbor_head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")
    raise ValueError(n)


def cbor(v):
    if isinstance(v, bool):
        return b"\xf5" if v else b"\xf4"
    if isinstance(v, int):
        return cbor_head(0, v) if v >= 0 else cbor_head(1, -1 - v)
    if isinstance(v, bytes):
        return cbor_head(2, len(v)) + v
    if isinstance(v, str):
        return cbor_head(3, len(v.encode())) + v.encode()
    return cbor_head(5, len(v)) + b"".join(cbor(k) + cbor(v[k]) for k in sorted(v))


def ballot_of(item, approve=True, signer="", choice="", reason="", card=None, approval=None, time_ns=None, nonce=None):
    """vote-ballot of base/holdfast.cddl, written by another hand than the client's."""
    m = {1: "holdfast vote 1", 2: bytes.fromhex(approval or item["approval"]), 3: bytes.fromhex(card or item["card_digest"]), 4: approve}
    for key, text in ((5, choice), (7, reason), (9, signer)):
        if text:
            m[key] = text
    m[10] = time.time_ns() if time_ns is None else time_ns
    m[11] = nonce or os.urandom(16)
    return cbor(m)


def post(c, item, body):
    """Votes past the command line. Returns (HTTP status, what it said)."""
    with open(os.path.join(c.state, "runtime")) as f:
        folder = os.open(f.read(), os.O_PATH | os.O_DIRECTORY)
    s = socket.socket(socket.AF_UNIX)
    s.connect(f"/proc/self/fd/{folder}/control")
    os.close(folder)
    text = json.dumps(body).encode()
    s.sendall(f"POST /v1/approvals/{item['approval']}/vote HTTP/1.1\r\nHost: h\r\nHoldfast-Request: {os.urandom(8).hex()}\r\n"
              f"Content-Length: {len(text)}\r\n\r\n".encode() + text)
    s.settimeout(60)
    have = b""
    while b"\r\n\r\n" not in have:
        have += s.recv(65536)
    head, body = have.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
    while len(body) < length:
        body += s.recv(65536)
    s.close()
    return int(head.split()[1]), json.loads(body)


# ---- signed votes

def test_a_signed_vote_of_a_listed_key_decides():
    with People() as c:
        key = c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        code, out, err = c.vote("approve", a, "--sign", key, "--reason", "looks right")
        assert code == 0 and "approved" in out, (out, err)
        assert c.decided(a["run"]) == "committed"
        (v,) = c.show(a["approval"])["votes"]
        assert (v["principal"], v["auth"], v["reason"]) == ("signer:alice@example.org", "ssh-signature", "looks right"), v
        assert v["proof"]
        assert c.run("verify")[0] == 0


def test_an_unsigned_vote_where_the_policy_asks_for_signatures():
    with People() as c:
        c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        for word in ("approve", "deny"):
            code, _, err = c.vote(word, a)
            assert code == 3 and "signed" in err, (word, code, err)
        assert c.open(a)


def test_a_signature_of_a_key_that_is_not_listed():
    with People() as c:
        c.key("alice@example.org")
        mallory = c.key("mallory@example.org", listed=False)
        a = c.gated(f"signers: {c.signers}")
        assert c.vote("approve", a, "--sign", mallory)[0] == 3
        assert c.vote("approve", a, "--sign", mallory, "--signer", "alice@example.org")[0] == 3  # by another's name
        assert c.open(a)


def test_a_key_that_is_listed_after_the_run_began():
    with People() as c:
        c.key("alice@example.org")
        late = c.key("late@example.org", listed=False)
        a = c.gated(f"signers: {c.signers}")
        c.trust("late@example.org")
        assert c.vote("approve", a, "--sign", late)[0] == 3
        assert c.open(a)


def test_a_signature_in_another_namespace():
    with People() as c:
        key = c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        for namespace in ("file", "git", "holdfast-vote2"):
            status, said = post(c, a, c.ballot(a, key, namespace))
            assert status == 403 and said["error"]["exit"] == 3, said
        assert c.open(a)


def test_a_key_whose_time_is_over():
    with People() as c:
        old = c.key("old@example.org", options='valid-before="20200101"')
        other = c.key("git@example.org", options='namespaces="git"')
        a = c.gated(f"signers: {c.signers}")
        assert c.vote("approve", a, "--sign", old)[0] == 3
        assert c.vote("approve", a, "--sign", other)[0] == 3
        assert c.open(a)


def test_a_signature_over_other_words():
    """One bit of what was signed is changed afterwards: deny becomes approve, another reason, another time."""
    with People() as c:
        key = c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        fixed = {"time_ns": time.time_ns(), "nonce": b"n" * 16}
        signed = c.ballot(a, key, approve=False, **fixed)
        for other in (ballot_of(a, approve=True, **fixed), ballot_of(a, approve=True, reason="x", **fixed),
                      ballot_of(a, approve=False, **{**fixed, "time_ns": fixed["time_ns"] + 1})):
            status, said = post(c, a, {**signed, "ballot": other.hex()})
            assert status == 403, said
        assert c.open(a)


def test_bytes_that_are_no_ballot():
    with People() as c:
        key = c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        good = c.ballot(a, key)
        raw = bytes.fromhex(good["ballot"])
        for bad in (b"", raw[:-1], raw + b"\0", b"\xa0", raw.replace(b"holdfast vote 1", b"holdfast vote 2"), b"x" * 40000):
            status, said = post(c, a, {**good, "ballot": bad.hex()})
            assert status in (400, 403), (bad[:20], said)
        assert post(c, a, {"ballot": good["ballot"]})[0] == 400
        assert post(c, a, {**good, "signature": "-----BEGIN SSH SIGNATURE-----\n" + "A" * 100})[0] == 403
        assert post(c, a, {**good, "signature": "A" * 20000})[0] == 400
        assert c.open(a)
        assert post(c, a, good)[0] == 200


def test_a_signed_vote_sent_to_another_item():
    with People() as c:
        key = c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        signed = c.ballot(a, key)
        assert post(c, a, signed)[0] == 200
        b = c.gated(f"signers: {c.signers}", GATED.replace("paid > paid", "again > paid"))
        status, said = post(c, b, signed)
        assert status == 403 and "another item" in json.dumps(said), said
        for changes in ({"card": a["card_digest"]}, {"approval": a["approval"]}):
            assert post(c, b, c.ballot(b, key, **changes))[0] in (403, 409), changes
        assert c.open(b)


def test_an_old_signed_vote_is_sent_again():
    """Two of three must agree. What alice signed first and took back cannot be brought again by whoever saw it."""
    with People() as c:
        keys = {n: c.key(n + "@example.org") for n in ("alice", "bob")}
        plan = "name: p\nland: never\nsteps:\n  - {name: no, run: [/bin/false], retry: {max: 2, backoff: 1s, on: [exit]}}\n"
        a = c.gated(f"signers: {c.signers}, quorum: 2", plan)
        assert a["kind"] == "exhausted", a
        first = c.ballot(a, keys["alice"], choice="fail")
        assert post(c, a, first)[0] == 200
        assert post(c, a, c.ballot(a, keys["alice"], choice="retry"))[0] == 200
        status, said = post(c, a, first)
        assert status in (200, 409), said
        assert post(c, a, c.ballot(a, keys["bob"], choice="fail"))[0] == 200
        assert c.open(a), "the word that alice took back was counted"
        assert post(c, a, c.ballot(a, keys["bob"], choice="retry"))[0] == 200
        assert not c.open(a)
        assert c.show(a["approval"])["choice"] == "retry"


def test_nothing_is_collected_while_a_signature_is_looked_at():
    """What was signed is kept before a record names it: a collection in between would take it away."""
    with People() as c:
        key = c.key("alice@example.org")
        a = c.gated(f"signers: {c.signers}")
        assert post(c, a, c.ballot(a, key, "file"))[0] == 403  # a keeper is there from now on
        keeper = c.json("status")[1]["daemon"]["keeper"]
        assert keeper > 1, keeper
        heard = []
        os.kill(keeper, signal.SIGSTOP)
        try:
            vote = threading.Thread(target=lambda: heard.append(post(c, a, c.ballot(a, key))))
            vote.start()
            end = time.monotonic() + 20
            while (said := c.run("gc"))[0] == 0:
                assert time.monotonic() < end, said
                time.sleep(0.05)
            assert said[0] == 9 and "signature" in said[2], said
        finally:
            os.kill(keeper, signal.SIGCONT)
        vote.join()
        assert heard[0][0] == 200, heard
        assert c.run("gc")[0] == 0
        assert c.run("verify")[0] == 0


def test_the_same_signed_vote_twice_is_one_vote():
    with People() as c:
        key = c.key("alice@example.org")
        c.key("bob@example.org")
        a = c.gated(f"signers: {c.signers}, quorum: 2")
        signed = c.ballot(a, key)
        for _ in range(3):
            assert post(c, a, signed)[0] == 200
        assert post(c, a, c.ballot(a, key))[0] == 200  # signed anew: still the same person
        assert c.open(a)


# ---- who may

def test_quorum_counts_people_and_one_deny_decides():
    with People() as c:
        keys = {n: c.key(n + "@example.org") for n in ("alice", "bob", "carol")}
        a = c.gated(f"signers: {c.signers}, quorum: 2")
        code, out, _ = c.vote("approve", a, "--sign", keys["alice"])
        assert code == 0 and "waits for others" in out, out
        assert c.open(a)
        assert c.vote("approve", a, "--sign", keys["bob"])[0] == 0
        assert c.decided(a["run"]) == "committed"
        b = c.gated(f"signers: {c.signers}, quorum: 2", GATED.replace("paid >", "more >"))
        assert c.vote("approve", b, "--sign", keys["alice"])[0] == 0
        assert c.vote("deny", b, "--sign", keys["carol"])[0] == 0
        assert c.decided(b["run"]) == "denied"
        assert c.read("paid") is None


def test_a_key_of_a_person_outside_the_role():
    with People() as c:
        keys = {n: c.key(n + "@example.org") for n in ("alice", "bob")}
        a = c.gated(f"signers: {c.signers}, role: ['signer:bob@example.org']")
        assert c.vote("approve", a, "--sign", keys["alice"])[0] == 3
        assert c.open(a)
        assert c.vote("approve", a, "--sign", keys["bob"])[0] == 0
        assert c.decided(a["run"]) == "committed"


def test_roles_of_uid_and_group():
    me = os.geteuid()
    with People() as c:
        a = c.gated(f"role: ['uid:{me + 1}', 'group:nobody-is-in-this']")
        code, _, err = c.vote("approve", a)
        assert code == 3 and "may not decide" in err, err
        assert c.open(a)
        b = c.json("run", c.plan(GATED, "two.yaml"), "--policy", c.policy(f"role: ['uid:{me}']"), "--no-input")[1]
        item = next(x for x in c.waiting() if x["run"] == b["run"])
        assert c.vote("approve", item)[0] == 0


def test_who_started_the_run_is_excluded():
    with People() as c:
        a = c.gated("exclude: [starter]")
        for word in ("approve", "deny"):
            assert c.vote(word, a)[0] == 3
        assert c.open(a)


def test_nobody_decides_while_the_policy_cannot_be_read():
    """Its file is away when a new supervisor reads it: what it excludes is not known, so every vote is refused."""
    with People() as c:
        # past the size up to which content is kept in the journal itself
        long = "".join(f"  - {{path: /nowhere/{i}/{'x' * 200}/{'y' * 200}, access: r}}\n" for i in range(200))
        a = c.gated("exclude: [starter]", more="fs:\n" + long)
        os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
        blobs = [os.path.join(d, f) for d, _, files in os.walk(os.path.join(c.state, "v1", "blobs")) for f in files]
        with_it = [b for b in blobs if b"/nowhere/199/" in open(b, "rb").read()]
        assert with_it, blobs
        for b in with_it:
            os.rename(b, c.file(os.path.basename(b)))
        c.json("status")  # begins the new supervisor
        for word in ("approve", "deny"):
            status, said = post(c, a, {"decision": word, "card_digest": a["card_digest"]})
            assert status == 500 and "cannot be read" in json.dumps(said), (status, said)
        assert c.open(a)
        for b in with_it:
            os.rename(c.file(os.path.basename(b)), b)
        assert c.vote("approve", a)[0] == 3
        assert c.open(a)


def test_a_pattern_of_principals_is_nobody():
    with People() as c:
        wild = c.key("wild", principal="*@example.org")
        a = c.gated(f"signers: {c.signers}, quorum: 2")
        assert c.vote("approve", a, "--sign", wild)[0] == 3
        assert c.vote("approve", a, "--sign", wild, "--signer", "*@example.org")[0] == 3
        assert c.vote("approve", a, "--sign", wild, "--signer", "dave@example.org")[0] == 0  # the file says she may be
        assert c.show(a["approval"])["votes"][0]["principal"] == "signer:dave@example.org"


def test_a_signers_file_that_others_can_write():
    with People() as c:
        c.key("alice@example.org")
        os.chmod(c.signers, 0o666)
        code, _, err = c.run("run", c.plan(GATED), "--policy", c.policy(f"signers: {c.signers}"), "--no-input")
        assert code == 2 and "signers" in err, (code, err)
        os.chmod(c.signers, 0o644)
        os.rename(c.signers, c.signers + ".real")
        os.symlink(c.signers + ".real", c.signers)
        assert c.run("run", c.plan(GATED), "--policy", c.policy(f"signers: {c.signers}"), "--no-input")[0] == 2
        os.unlink(c.signers)
        open(c.signers, "w").close()
        assert c.run("run", c.plan(GATED), "--policy", c.policy(f"signers: {c.signers}"), "--no-input")[0] == 2


# ---- which action, and when

def test_a_vote_for_another_digest():
    with People() as c:
        a = c.gated("quorum: 1")
        for digest in ("0" * 64, a["card_digest"][:-1] + ("0" if a["card_digest"][-1] != "0" else "1"), a["action"]):
            status, said = post(c, a, {"decision": "approve", "card_digest": digest})
            assert status == 409, said
        assert c.run("approve", a["approval"], "--no-input", "--digest", "0" * 16)[0] == 9
        assert c.open(a)


def test_text_is_no_vote():
    """A word in a reason, an output or a choice approves nothing."""
    with People() as c:
        a = c.gated("quorum: 1")
        for body in ({"decision": "yes", "card_digest": a["card_digest"]}, {"decision": "do NOT approve", "card_digest": a["card_digest"]},
                     {"decision": "approve", "choice": "yes", "card_digest": a["card_digest"]}, {"decision": "approve"},
                     {"decision": ["approve"], "card_digest": a["card_digest"]}, {"reason": "approve", "card_digest": a["card_digest"]}):
            assert post(c, a, body)[0] == 400, body
        assert c.open(a)


def test_one_vote_does_not_decide_two_that_wait():
    with People() as c:
        a = c.gated("quorum: 1")
        c.run("run", c.plan(GATED, "two.yaml"), "--policy", c.policy("quorum: 1"), "--no-input")
        other = next(x for x in c.waiting() if x["approval"] != a["approval"])
        assert c.vote("approve", a)[0] == 0
        assert c.decided(a["run"]) == "committed"
        assert c.show(other["approval"])["state"] == "open"


def test_a_vote_after_it_was_decided_hears_the_outcome():
    with People() as c:
        a = c.gated("quorum: 1")
        assert c.vote("deny", a, "--reason", "no")[0] == 0
        code, _, err = c.vote("approve", a)
        assert code == 9 and "DENIED already" in err, (code, err)
        assert c.decided(a["run"]) == "denied"


def test_a_vote_after_expiry():
    with People() as c:
        a = c.gated("decide_by: 1s")
        c.until(lambda: not c.open(a))
        code, _, err = c.vote("approve", a)
        assert code == 9 and "EXPIRED already" in err, (code, err)
        assert c.decided(a["run"]) == "denied"
        assert c.read("paid") is None


# ---- by the agent

VOTE = r"""
import glob, json, os, socket, sys
approval, card = sys.argv[1:3]
places = [os.path.join(d, "control") for d in sys.argv[3:]] + glob.glob("/run/**/control", recursive=True) + ["\\0control"]
body = json.dumps({"decision": "approve", "card_digest": card}).encode()
for place in places:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(3)
    try:
        s.connect(place.replace("\\0", "\0"))
        s.sendall(b"POST /v1/approvals/%s/vote HTTP/1.1\r\nHost: h\r\nHoldfast-Request: x\r\nContent-Length: %d\r\n\r\n" % (approval.encode(), len(body)) + body)
        print("ANSWER", place, s.recv(4096)[:15])
    except OSError as e:
        print("refused", place, e.errno)
"""


def test_an_agent_that_votes_for_itself_from_its_sandbox():
    """The policy grants it the whole state directory and the folder of the socket, and it knows id and digest."""
    with People() as c:
        a = c.gated("quorum: 1")
        with open(os.path.join(c.state, "runtime")) as f:
            runtime = f.read()
        with open(c.path("vote.py"), "w") as f:
            f.write(VOTE)
        grant = "version: 1\nname: wide\nextends: [offline]\nfs:\n  - {path: %s, access: rx}\n"
        policy = c.file("wide.yaml")
        args = ("exec", "--policy", policy, "--", "/usr/bin/python3", "vote.py", a["approval"], a["card_digest"], runtime, c.state,
                os.path.join(c.state, "run"))
        with open(policy, "w") as f:
            f.write(grant % c.state)
        code, _, err = c.run(*args)
        assert code == 125 and "own folder" in err, (code, err)
        with open(policy, "w") as f:
            f.write(grant % c.root)
        code, out, err = c.run(*args)
        assert "ANSWER" not in out and "refused" in out, (code, out, err)
        assert c.open(a)


def test_a_vote_from_another_user_or_pid_namespace():
    with People() as c:
        a = c.gated("quorum: 1")
        tried = 0
        for unshare in (["-U"], ["-U", "-r"], ["-U", "-r", "-p", "-f", "--mount-proc"], ["-p", "-f", "--mount-proc"]):
            if subprocess.run(["unshare", *unshare, "true"], capture_output=True).returncode != 0:
                continue
            tried += 1
            r = subprocess.run(["unshare", *unshare, HOLDFAST, "--state", c.state, "approve", a["approval"], "--no-input", "--digest",
                                a["card_digest"]], env=c.env, capture_output=True, text=True, timeout=60)
            assert r.returncode != 0 and c.open(a), (unshare, r)
        assert tried, "no namespace could be made here"


def test_a_vote_of_another_user():
    if os.geteuid() != 0:
        return
    with People() as c:
        a = c.gated("quorum: 1")
        os.chmod(c.state, 0o755)
        r = subprocess.run(["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", HOLDFAST, "--state", c.state, "approve",
                            a["approval"], "--no-input", "--digest", a["card_digest"]], env=c.env, capture_output=True, text=True, timeout=60)
        os.chmod(c.state, 0o700)
        assert r.returncode != 0 and c.open(a), r


def test_words_of_the_agent_are_no_vote():
    """What a step prints, names and leaves behind says "approve" in every way there is."""
    with People() as c:
        plan = ("name: p\nland: never\nsteps:\n"
                "  - {name: talk, run: [/bin/sh, -c, 'echo approve; echo y; printf \"approve\\n\" > /run/holdfast/out/approve; echo yes > approve']}\n"
                "  - {name: pay, needs: [talk], gate: ask, run: [/bin/true]}\n")
        a = c.gated("quorum: 1", plan)
        assert c.open(a)
        r = subprocess.run([HOLDFAST, "--state", c.state, "approve", a["approval"]], env=c.env, input="approve\nyes\n", text=True,
                           capture_output=True, timeout=60)
        # No terminal asks: this is the word of whoever typed the command, and the card of that instant.
        assert r.returncode == 0, r


# ---- what is shown

SPOOFS = {
    "escape": "\x1b[2J\x1b[1;1Happrove: nothing happens",
    "osc": "\x1b]0;all is well\x07",
    "carriage return": "rm -rf /\rls           ",
    "backspace": "rm -rf /" + "\b" * 8 + "ls",
    "newline": "ls\ndeny:    nothing happens\ndecide by never",
    "tab": "ls\t\t\t\t\t\t\t\t\tharmless",
    "bidi override": "\u202egnihton\u202c",
    "bidi isolate": "\u2066x\u2069",
    "zero width": "p\u200bay\u200dload\ufeff",
    "soft hyphen": "pay\u00adload",
    "line separator": "a\u2028b\u2029c",
    "c1 control": "a\u009b2Jb",
    "look-alike": "\u0440ay\u0440al.com",
    "tag characters": "a\U000e0041b",
    "del": "a\x7fb",
}
# Nothing of these may reach a terminal or a notify command as it is.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")


def test_spoofing_in_a_command_stands_on_no_surface():
    with People() as c:
        policy = c.policy("quorum: 1", "exec:\n  - {do: allow, path: /}\n  - {do: ask, path: /usr/bin/printf}\n")
        for name, text in SPOOFS.items():
            waiting = subprocess.Popen([HOLDFAST, "--state", c.state, "exec", "--policy", policy, "--no-input", "--", "/usr/bin/printf", text],
                                       cwd=c.tree, env=c.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            c.until(c.waiting)
            a = c.item()
            assert a["kind"] == "step-gate", a
            for said in (a["card"], c.run("show", a["approval"])[1], c.run("queue")[1], c.run("status", a["run"])[1]):
                bad = RAW.search(said)
                assert not bad, (name, hex(ord(bad.group())), said)
                # One `approve:` and one `deny:` begin a line, and they are the card's own.
                assert len(re.findall(r"(?m)^deny: ", said)) <= 1 and len(re.findall(r"(?m)^decide by", said)) <= 1, (name, said)
            if name == "look-alike":
                assert "\u0440" not in a["card"], a["card"]
            assert c.run("deny", a["approval"], "--no-input", "--digest", a["card_digest"])[0] == 0
            said = waiting.communicate(timeout=60)[0]
            assert waiting.returncode == 125 and not RAW.search(said), (name, waiting.returncode, said)


def test_a_reason_and_a_choice_are_escaped_where_they_are_shown():
    with People() as c:
        a = c.gated("quorum: 1")
        assert c.run("deny", a["approval"], "--no-input", "--digest", a["card_digest"], "--reason", SPOOFS["escape"] + SPOOFS["bidi override"])[0] == 0
        for said in (c.run("show", a["approval"])[1], c.run("log", a["run"])[1], c.run("status", a["run"])[1]):
            assert not RAW.search(said), said


def test_a_card_that_does_not_show_all_is_not_approved_by_default():
    with People() as c:
        plan = "name: p\nland: never\nsteps:\n  - {name: pay, gate: ask, run: [/bin/echo, " + ", ".join(f"a{i}" for i in range(60)) + "]}\n"
        a = c.gated("quorum: 1", plan)
        assert not a["complete"] and "not all of it" in a["card"], a["card"]
        assert c.run("approve", a["approval"], "--no-input")[0] == 4
        assert c.open(a)
        assert c.vote("approve", a)[0] == 0


# ---- approved is executed, and only that

def test_approved_is_executed_once_over_every_kill():
    with People() as c:
        a = c.gated("quorum: 1", GATED.replace("echo paid > paid", "echo paid >> paid; sleep 1").replace("land: never", "land: auto"))
        assert c.vote("approve", a)[0] == 0
        for _ in range(3):
            os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
            time.sleep(0.2)
        c.run("resume", a["run"])
        assert c.decided(a["run"]) == "committed"
        c.until(lambda: c.read("paid"))
        assert c.read("paid") == "paid\n"
        events = [json.loads(x)["type"] for x in c.run("--json", "log", a["run"])[1].splitlines()]
        assert events.count("APPROVAL_CONSUMED") == 1 and events.count("VOTE_CAST") == 1, events


def test_a_prompt_is_not_lost_over_a_kill_and_is_not_asked_twice():
    with People() as c:
        a = c.gated("quorum: 1")
        for _ in range(3):
            os.kill(c.json("status")[1]["daemon"]["pid"], signal.SIGKILL)
            (b,) = c.waiting()
            assert (b["approval"], b["card_digest"]) == (a["approval"], a["card_digest"])
        assert c.vote("approve", a)[0] == 0


def test_the_run_is_cancelled_between_approval_and_execution():
    with People() as c:
        plan = "name: p\nland: never\nsteps:\n  - {name: slow, run: [/bin/sleep, '3']}\n  - {name: pay, gate: ask, run: [/bin/sh, -c, 'echo paid > paid']}\n"
        run = c.json("run", c.plan(plan), "--policy", c.policy("quorum: 1"), "--detach")[1]["run"]
        c.until(lambda: c.waiting())
        a = c.item()
        assert c.vote("approve", a)[0] == 0
        assert c.run("cancel", run)[0] == 0
        c.until(lambda: c.json("status", run)[1]["state"] == "cancelled")
        assert c.show(a["approval"])["state"] in ("revoked", "approved", "lapsed"), c.show(a["approval"])
        assert c.read("paid") is None


if __name__ == "__main__":
    main(sys.modules[__name__])
