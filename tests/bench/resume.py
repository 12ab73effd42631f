"""resume: opening a journal of a size again, as a supervisor that starts does: time, and memory of the process afterwards."""
import subprocess
import time

from daemon import Daemon
from figures import Row, Table

SIZES = (100, 1_000_000)
SMOKE_SIZES = (100, 10_000)
SLOW_EVERY = 10  # a run with 100,000 steps of its own takes about a second
MAKE_TIMEOUT_S = 600


class Journal:
    def __init__(self, bench, events, shape, every):
        note = {"settled": "runs that are over, one that goes on", "live": "all of one run that goes on"}[shape]
        self.row = Row(f"{events:,} {shape}", note, must=True, base=shape == "settled" and events == SIZES[0], every=every)
        self.events, self.shape = events, shape
        self.v1 = bench.folder / f"journal-{shape}-{events}"
        self.v1.mkdir()
        self.rss = []

    def make(self, bench):
        subprocess.run([bench.program("bench-resume"), "make", str(self.v1), str(self.events), self.shape],
                       stdout=subprocess.DEVNULL, check=True, timeout=MAKE_TIMEOUT_S)

    def open(self, bench):
        """A process each time, so that its memory is this opening's. Returns nanoseconds, bytes."""
        out = subprocess.run([bench.program("bench-resume"), "open", str(self.v1)], stdout=subprocess.PIPE, text=True, check=True)
        ns, rss, lsn = map(int, out.stdout.split())
        if lsn < self.events:
            raise RuntimeError(f"{self.v1}: {lsn} events are there of {self.events}")
        return ns, rss


class Start:
    """A supervisor over a journal of that size: from its start to its word that it serves."""

    def __init__(self, bench, events):
        self.row = Row(f"holdfastd, {events:,}", "start to ready, nothing to go on with", must=True)
        self.daemon = Daemon(bench, bench.folder / f"state-{events}")
        with self.daemon:  # makes its folders
            pass
        subprocess.run([bench.program("bench-resume"), "make", str(self.daemon.state / "v1"), str(events), "ended"],
                       stdout=subprocess.DEVNULL, check=True, timeout=MAKE_TIMEOUT_S)
        with self.daemon:  # reads the log, as above
            pass

    def once(self):
        start = time.monotonic_ns()
        with self.daemon as d:
            self.row.add(d.ready_ns - start)


def measure_starts(bench, sizes):
    starts = [Start(bench, n) for n in sizes]
    table = Table("resume: start the supervisor", bench.rounds, [s.row for s in starts])
    starts[0].row.base = True
    for _ in range(bench.rounds):
        for s in starts:
            s.once()
    return table


def measure(bench):
    sizes = SMOKE_SIZES if bench.smoke else SIZES
    journals = [Journal(bench, n, "settled", 1) for n in sizes]
    journals.append(Journal(bench, sizes[-1], "live", 1 if bench.smoke else SLOW_EVERY))
    table = Table("resume: open a journal", bench.rounds, [j.row for j in journals])
    for j in journals:
        j.make(bench)
        ns, rss = j.open(bench)  # reads the log of what was written last, as after a crash, and writes it out
        table.lines.append(f"{j.row.name}: the first time, with its log to be read: {ns / 1e6:,.0f} ms, {rss >> 20} MiB")
    for i in range(bench.rounds):
        for j in journals:
            if i % j.row.every == 0:
                ns, rss = j.open(bench)
                j.row.add(ns)
                j.rss.append(rss)
    for j in journals:
        j.row.note += f"; {sorted(j.rss)[len(j.rss) // 2] >> 20} MiB"
    yield table
    yield measure_starts(bench, sizes)
