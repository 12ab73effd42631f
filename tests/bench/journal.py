"""journal: events that must be on disk before anything goes on, beside the same records in RocksDB alone."""
import subprocess

from figures import Row, Table

SIZES = {1: "one transition", 7: "a step, declared to committed", 63: "nine steps in one batch"}


def measure(bench):
    rows = []
    for n, note in SIZES.items():
        rows += [Row(f"rocksdb-{n}", f"{note}, one synced WriteBatch", must=True, base=n == 1), Row(f"journal-{n}", note, must=True)]
    rows.append(Row("journal-grouped", "nine steps, each a batch of its own, awaited together", must=True))
    table = Table("journal: events synced", bench.rounds, rows, unit="events")
    folder = bench.folder / "journal"
    folder.mkdir()
    out = subprocess.run([bench.program("bench-journal"), str(bench.rounds), str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    table.take(out.stdout)
    for n in SIZES:
        ours, theirs = (table.row(f"{k}-{n}").summary().get("median") for k in ("journal", "rocksdb"))
        if ours and theirs:
            table.lines.append(f"{n} event{'s' if n > 1 else ''} a batch: {ours / theirs:.2f} x RocksDB alone")
    yield table
