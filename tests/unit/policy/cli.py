#!/usr/bin/env python3
"""holdfast policy, as a person types it: exits, what goes to which stream, --json that is JSON.

usage: cli.py HOLDFAST SOURCE_DIR
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

holdfast, source = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
examples = source / "examples/policies"
failed = []


def run(*args, exit=0, out=None, err="", stdin=None):
    r = subprocess.run([holdfast, *args], capture_output=True, text=True, cwd=examples, input=stdin)
    what = " ".join(args)
    if r.returncode != exit:
        failed.append(f"{what}: exit {r.returncode}, not {exit}\n{r.stdout}{r.stderr}")
    if out is not None and out not in r.stdout:
        failed.append(f"{what}: no '{out}' in\n{r.stdout}")
    if err is None and r.stderr or err and err not in r.stderr:
        failed.append(f"{what}: stderr is\n{r.stderr}")
    return r.stdout


def document(*args, exit=0):
    text = run("--json", "policy", *args, exit=exit)
    try:
        return json.loads(text)
    except ValueError as e:
        failed.append(f"--json policy {' '.join(args)}: {e}\n{text}")
        return {}


def expect(what, actual, wanted):
    if actual != wanted:
        failed.append(f"{what}: {actual!r}, not {wanted!r}")


broken = str(source / "tests/fixtures/policy/broken.yaml")
run("policy", "check", "acme.yaml", out="", err=None)
run("policy", "check", broken, exit=1, out="error[E0207]: effect 'reversible' needs 'undo'", err=None)
run("policy", "check", "acme.yaml", broken, exit=1)
run("policy", "check", "-", exit=1, out="-:1:1: error[E0008]", stdin="")
run("policy", "check", "-", stdin="version: 1\n")
run("policy", "check", "nothing.yaml", exit=2, err="nothing.yaml")
run("policy", "check", "/dev/zero", exit=2, err="larger than 1024 KiB")
run("policy", "check", exit=2, err="usage:")
run("policy", exit=2, err="usage:")
run("policy", "chek", "acme.yaml", exit=2, err="usage:")
run("policy", "--help", out="usage:", err=None)
found = document("check", broken, exit=1)
expect("findings", [f["code"] for f in found.get("findings", [])], ["E0003", "E0207", "E0010"])
expect("place", [found["findings"][0][k] for k in ("line", "column")], [11, 1])
expect("a clean file", document("check", "acme.yaml"), {"version": 1, "findings": [], "errors": 0, "warnings": 0})

# A name that a terminal would obey is shown, not obeyed.
with tempfile.TemporaryDirectory() as folder:
    evil = Path(folder) / "a\x1b[31m.yaml"
    evil.write_text("version: 2\n")
    expect("escapes", "\x1b" in run("policy", "check", str(evil), exit=1), False)

decide = ["--step", "edit", "http", "POST", "https://api.github.com/repos/acme/app/pulls"]
expect("explain", run("policy", "explain", "acme.yaml", *decide, err=None),
       "deny   decided by step 'edit' (acme.yaml:22:3): keeps only [pkgs]\n"
       "  project: ask open-pr (11:5) | dial: assist x irreversible = ask\n")
expect("explain --json", document("explain", "acme.yaml", *decide)["verdict"], "deny")
expect("at observe", document("explain", "acme.yaml", "--agency", "observe", "write", "${workspace}/a")["verdict"], "deny")
expect("workspace", document("explain", "offline", "--workspace", str(source), "write", f"{source}/a")["verdict"], "allow")
whole = document("explain", "coding")
expect("coding", [whole["agency"], whole["allow_weaker"]], ["assist", ["cpu", "memory", "landlock"]])
run("policy", "explain", "coding", out=".cargo/credentials*", err="coding by itself; a run combines it")
run("policy", "explain", "E0207", out="Name the tool or the text that takes it back.")
run("policy", "explain", "E9999", exit=2, err="no code")
run("policy", "explain", "acme.yaml", "http", "nonsense", exit=2, err="METHOD URL")
run("policy", "explain", broken, exit=2, err="E0207")
run("policy", "explain", "acme.yaml", "--agency", "bold", exit=2, err="usage:")

run("policy", "test", "acme.yaml", "node.yaml", "coding", out="19 tests, 0 failed", err=None)
run("policy", "test", "acme.yaml", "--verbose", out="ok   acme.yaml:25:5: git push")
run("policy", "test", "-", exit=1, out="FAIL -:3:5: read /x: expected allow, got deny",
    stdin="version: 1\ntests:\n  - {read: /x, expect: allow}\n")
expect("test --json", document("test", "acme.yaml")["failed"], 0)

run("policy", "diff", "coding", "offline", out="", err=None)
run("policy", "diff", "coding", "acme.yaml", exit=1, out="POST https://api.github.com/repos/acme/app/pulls: ask, was deny")
run("policy", "diff", "coding", exit=2, err="usage:")
expect("diff --json", document("diff", "acme.yaml", "acme.yaml"), {"version": 1, "wider": []})

expect("schema", run("policy", "schema"), (source / "policy/policy.schema.json").read_text())
json.loads(run("policy", "schema"))

if failed:
    sys.exit("\n".join(failed))
