"""queue: with so many items open, what a supervisor holds for them and how long a person waits for the list. The items are gates of
steps, made by the supervisor itself: each has its card, its record and its deadline."""
import subprocess
import time
from pathlib import Path

import gate
from daemon import Daemon, Refused
from figures import Row, Table

ITEMS, SMOKE_ITEMS = 10_000, 40
A_RUN = 1000  # steps
OPEN_TIMEOUT_S = 300
TARGET_MS, TARGET_MIB = 100, 50


def plan_of(n):
    steps = "".join(f"  - {{name: s{i}, run: [/bin/echo, s{i}], gate: ask}}\n" for i in range(n))
    return f"version: 1\nland: never\nsteps:\n{steps}"


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


def processes(daemon):
    """The keeper's children: a step that is suspended has none."""
    keeper = daemon.connection.call("GET", "/v1/daemon")["keeper"]
    return len(gate.children(keeper)) if keeper else 0


def opened(connection):
    return connection.call("GET", "/v1/approvals?max=0")["open"]


def fill(daemon, workspace, items):
    """Nanoseconds until all are open."""
    start = time.monotonic_ns()
    left = items
    while left > 0:
        daemon.create({"plan_path": "bench.yaml"}, workspace, plan=plan_of(min(left, A_RUN)))
        left -= A_RUN
    end = time.monotonic() + OPEN_TIMEOUT_S
    while opened(daemon.connection) < items:
        if time.monotonic() > end:
            raise Refused(f"queue: {opened(daemon.connection)} of {items} items are open")
        time.sleep(0.05)
    return time.monotonic_ns() - start


def timed(argv, state):
    start = time.monotonic_ns()
    p = subprocess.run([argv[0], "--state", str(state), *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if p.returncode or not p.stdout:
        raise Refused(f"queue: {' '.join(argv[1:])}: exit {p.returncode}")
    return time.monotonic_ns() - start


def measure(bench):
    items = SMOKE_ITEMS if bench.smoke else ITEMS
    rounds = max(1, bench.rounds // 10)
    workspace = bench.folder / "queue-workspace"
    workspace.mkdir()
    me = bench.holdfast()
    ways = [(Row("status, nothing open", "a process started, a daemon asked", must=True, base=True), [me, "status"]),
            (Row("queue", "the first hundred", must=True), [me, "queue"]),
            (Row("queue --json", "all", must=True), [me, "queue", "--json"]),
            (Row("status", "all runs, the first of the queue", must=True), [me, "status"]),
            (Row("status --json", "all runs, all items", must=True), [me, "status", "--json"])]
    table = Table(f"queue: {items:,} open items", rounds, [row for row, _ in ways])
    daemon = Daemon(bench, bench.folder / "queue-state")
    with daemon as d:
        for _ in range(rounds):
            ways[0][0].add(timed(ways[0][1], daemon.state))
        memory, before = resident_mib(d.process.pid), processes(d)
        took = fill(d, workspace, items)
        more = resident_mib(d.process.pid) - memory
        table.lines.append(f"opened in {took / 1e9:.1f} s, {took / 1e3 / items:,.0f} us an item")
        table.lines.append(f"memory: {memory:.1f} MiB before, {more:.1f} MiB more (at most {TARGET_MIB} is wanted); "
                           f"processes more: {processes(d) - before}")
        for _ in range(rounds):
            for row, argv in ways[1:]:
                row.add(timed(argv, daemon.state))
    start = time.monotonic_ns()
    with daemon as d:  # who holds nothing but the journal has them all again
        table.lines.append(f"started again with them in {(d.ready_ns - start) / 1e6:,.0f} ms, "
                           f"{resident_mib(d.process.pid):.1f} MiB, {opened(d.connection):,} open")
    slow = [row.name for row, _ in ways[1:] if row.summary()["median"] > TARGET_MS * 1_000_000]
    if slow and not bench.smoke:
        table.lines.append(f"missed (more than {TARGET_MS} ms): {', '.join(slow)}")
    yield table
