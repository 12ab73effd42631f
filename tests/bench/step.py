"""step: a step declared, run in its sandbox, sealed, committed and synced, as a client of the control socket sees it. The events
that end a measurement are told only when they are durable. The time of this client, in Python, is in it."""
import subprocess
import time

from daemon import Daemon, Refused
from figures import Row, Table

COMMAND = ["/bin/true"]
WRITES = ["/bin/sh", "-c", "echo $$ >file"]
CHAIN_MAX = 300
STEPS_A_RUN = 100  # a run has a limit of layers
MUST = {"must": True}


def clock():
    return time.monotonic_ns()


class Native:
    """posix_spawn of the same command, by the server of bench.h."""

    def __init__(self, bench):
        self.process = subprocess.Popen([bench.program("bench-rounds"), "serve", "-", *COMMAND], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def once(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Driver:
    """A run that a program outside drives, a step at a time; another one when it has had its steps."""

    def __init__(self, daemon, workspace, argv):
        self.daemon, self.workspace, self.argv = daemon, workspace, argv
        self.begin()

    def begin(self):
        self.steps = 0
        self.run = self.daemon.create({"driver": True, "land": "never"}, self.workspace)
        self.events = self.daemon.events(self.run)

    def once(self):
        if self.steps == STEPS_A_RUN:
            self.close()
            self.begin()
        start = clock()
        self.steps += 1
        self.daemon.connection.call("POST", f"/v1/runs/{self.run}/steps", {"name": f"s{self.steps}", "argv": self.argv})
        self.events.until("STEP_COMMITTED")
        return clock() - start

    def close(self):
        self.daemon.connection.call("POST", f"/v1/runs/{self.run}/end", {})
        self.events.until("RUN_SUCCEEDED")
        self.events.close()


class Exec:
    """A run of one step each time, as `holdfast exec` makes it."""

    def __init__(self, daemon, workspace):
        self.daemon, self.workspace = daemon, workspace

    def once(self):
        start = clock()
        run = self.daemon.create({"exec": {"argv": COMMAND, "land": False}}, self.workspace)
        events = self.daemon.events(run)
        events.until("RUN_SUCCEEDED")
        took = clock() - start
        events.close()
        return took

    def close(self):
        pass


def plan_of(n, chained):
    lines = ["version: 1", "land: never", "steps:"]
    for i in range(n):
        lines += [f"  - name: s{i}", "    run: [/bin/true]"]
        if chained and i:
            lines.append(f"    needs: [s{i - 1}]")
    return "\n".join(lines) + "\n"


def run_plan(daemon, workspace, row, n, chained):
    """Each sample is the time between two commits; the first begins with the request."""
    last = clock()
    events = daemon.events(daemon.create({"plan_path": "bench.yaml"}, workspace, plan=plan_of(n, chained)))
    for _ in range(n):
        events.until("STEP_COMMITTED")
        now = clock()
        row.add(now - last)
        last = now
    events.until("RUN_SUCCEEDED")
    events.close()


def measure(bench):
    n = min(bench.rounds, CHAIN_MAX)
    native = Row("native", "posix_spawn, no sandbox", base=True, **MUST)
    single = Row("step", "of a driver's run", **MUST)
    writing = Row("step that writes", "a file: its layer is sealed too", **MUST)
    exec_run = Row("run of one step", "created, run, succeeded", **MUST)
    chain = Row("plan, one by one", f"{n} steps, each needs the one before", **MUST)
    side = Row("plan, side by side", f"{n} steps that need nothing", **MUST)
    table = Table(f"step, {'root' if bench.root else 'ordinary user'}", bench.rounds,
                  [native, single, writing, exec_run, chain, side], unit="steps")
    places = [bench.folder / f"workspace{i}" for i in range(5)]
    for p in places:
        p.mkdir()
    with Daemon(bench, bench.folder / "state") as d:
        turns = [(native, Native(bench)), (single, Driver(d, places[0], COMMAND)), (writing, Driver(d, places[1], WRITES)),
                 (exec_run, Exec(d, places[2]))]
        for _, t in turns:
            t.once()
        for _ in range(bench.rounds):
            for row, t in turns:
                if row.left_out is None:
                    try:
                        row.add(t.once())
                    except Refused as e:
                        row.left_out = f"failed: {e}"
        for row, t in turns:
            if row.left_out is None:
                t.close()
        for row, place, chained in ((chain, places[3], True), (side, places[4], False)):
            try:
                run_plan(d, place, row, n, chained)
            except Refused as e:
                row.left_out = f"failed: {e}"
    yield table
