#!/usr/bin/python3 -B
"""Measures Holdfast beside its peers and prints one table a part, and JSON.

What is compared runs in interleaved rounds (rounds.c), so that the noise of the machine meets all of it alike; ratios are to the
row that a table names as its base, in the same run. A peer that is not installed, or does not work here, is left out by name.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import gate
import journal
import launch
import resume
import step
import waiting

TOP = Path(__file__).resolve().parents[2]
PARTS = {"launch": launch.measure, "step": step.measure, "journal": journal.measure, "resume": resume.measure,
         "gate": gate.measure, "queue": waiting.measure}
ROUNDS = 300
SMOKE_ROUNDS = 3
PAUSE_MS = 20
ORDINARY_UID = 54321


class Bench:
    """What every part is given."""

    def __init__(self, args, folder):
        self.build = Path(args.build_dir).resolve()
        self.rounds = args.rounds
        self.smoke = args.smoke
        self.pause_ms = args.pause_ms
        self.root = os.geteuid() == 0
        self.folder = Path(folder)  # of this run; gone afterwards

    def holdfast(self):
        return str(self.build / "tools" / "holdfast")

    def holdfastd(self):
        return str(self.build / "tools" / "holdfastd")

    def program(self, name):
        return str(self.build / "tests" / "bench" / name)


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return None
    return out.splitlines()[0] if out else None


def field(path, name):
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "?"


def machine(folder):
    fs = first_line("stat", "-f", "-c", "%T", str(folder))
    return {
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "filesystem": f"{fs} ({folder})",
        "uid": os.geteuid(),
        "realtime": os.sched_getscheduler(0) == os.SCHED_RR,
        "load": [round(x, 2) for x in os.getloadavg()],
        "commit": first_line("git", "-C", str(TOP), "-c", f"safe.directory={TOP}", "describe", "--always", "--dirty"),
        "build": None,
    }


def build_type(build):
    try:
        options = json.loads((Path(build) / "meson-info" / "intro-buildoptions.json").read_text())
    except OSError:
        return "?"
    said = {o["name"]: o["value"] for o in options}
    return f"{said['buildtype']}, sanitizers {said.get('b_sanitize', 'none')}, failpoints {said.get('failpoints')}"


def print_machine(m):
    print(f"machine: Linux {m['kernel']} {m['arch']}, {m['cores']} cores of {m['cpu']}, {m['memory_mib']} MiB, {m['filesystem']}")
    print(f"         uid {m['uid']}, load before {' '.join(map(str, m['load']))}, commit {m['commit']}, {m['build']}"
          + (", at real-time priority" if m["realtime"] else ""))


def measure_here(args):
    """All parts asked for, as who we are."""
    tmp = os.environ.get("TMPDIR") or "/var/tmp"  # /tmp is often a tmpfs, and a journal's place is a disk
    with tempfile.TemporaryDirectory(prefix="holdfast-bench.", dir=tmp) as folder:
        os.chmod(folder, 0o755)  # users that a peer maps to go through it
        facts = machine(folder)
        facts["build"] = build_type(args.build_dir)
        print_machine(facts)
        bench = Bench(args, folder)
        tables = []
        for part in args.parts:
            for table in PARTS[part](bench):
                table.print()
                tables.append(table.as_json())
        return {"machine": facts, "rounds": args.rounds, "tables": tables}


def measure_as_ordinary_user(args):
    """Root only: the same once more as a user without rights. One without a name, so that firejail takes no part."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench.", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        out = Path(folder) / "out.json"
        out.touch()
        os.chown(out, ORDINARY_UID, ORDINARY_UID)
        me = ["/usr/bin/python3", "-B", str(Path(__file__).resolve()), *args.parts, "--rounds", str(args.rounds),
              "--pause-ms", str(args.pause_ms), "--build-dir", str(Path(args.build_dir).resolve()), "--json", str(out), "--as", "me"]
        if args.smoke:
            me.append("--smoke")
        subprocess.run([str(TOP / "tools" / "as-ordinary-user"), *me], check=False,
                       env={**os.environ, "HOLDFAST_TEST_UID": str(ORDINARY_UID)})
        said = out.read_text()
        if not said:
            sys.exit("bench: it did not come to an end as an ordinary user")
        return json.loads(said)["reports"]


def parse_args():
    p = argparse.ArgumentParser(prog="tools/bench", description="Measures Holdfast beside its peers.")
    p.add_argument("parts", nargs="*", metavar="PART", help=f"all (the default), or some of: {' '.join(PARTS)}")
    p.add_argument("--rounds", type=int, help=f"samples of each row (default {ROUNDS})")
    p.add_argument("--json", metavar="FILE", help="writes everything there too")
    p.add_argument("--as", dest="who", choices=["me", "both"], default="both",
                   help="both: root measures a second time as an ordinary user (default)")
    p.add_argument("--pause-ms", type=int, default=PAUSE_MS,
                   help=f"before each launch, so that the kernel has done with the one before (default {PAUSE_MS})")
    p.add_argument("--realtime", action="store_true",
                   help="root only: everything compared runs above what else the machine does (sched(7), SCHED_RR)")
    p.add_argument("--smoke", action="store_true", help="a few rounds: does the harness work? Says nothing of speed")
    p.add_argument("--build-dir", default=str(TOP / "build-bench"), help=argparse.SUPPRESS)
    args = p.parse_args()
    if not args.parts or "all" in args.parts:
        args.parts = list(PARTS)
    unknown = [x for x in args.parts if x not in PARTS]
    if unknown:
        p.error(f"no such part: {unknown[0]}; there are {' '.join(PARTS)} and all")
    if args.rounds is None:
        args.rounds = SMOKE_ROUNDS if args.smoke else ROUNDS
    if args.rounds < 1:
        p.error("--rounds must be 1 or more")
    return args


def missing(reports):
    """Rows that must be there and are not, or not in full."""
    for report in reports:
        for table in report["tables"]:
            for row in table["rows"]:
                if row["must"] and row["samples"] < row["wanted"]:
                    yield f"{table['name']}: {row['name']}: {row['left_out']}"


def main():
    args = parse_args()
    if args.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # inherited, by the ordinary user's turn too
    os.environ["HOLDFAST_HELPERS"] = str(Path(args.build_dir).resolve() / "sandbox")
    reports = [measure_here(args)]
    if os.geteuid() == 0 and args.who == "both":
        sys.stdout.flush()
        reports += measure_as_ordinary_user(args)
    if args.json:
        Path(args.json).write_text(json.dumps({"version": 1, "reports": reports}, indent=1) + "\n")
    bad = list(missing(reports))
    for line in bad:
        print(f"bench: not measured: {line}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
