"""Samples, what is said of them, and how a table looks."""
import math


def quantile(ordered, q):
    """Nearest rank: always one of the samples."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


class Row:
    """every: it takes part in one of so many rounds. must: the bench fails where it is not measured."""

    def __init__(self, name, note="", must=False, base=False, every=1):
        self.name, self.note, self.must, self.base, self.every = name, note, must, base, every
        self.samples = []  # nanoseconds
        self.count = 0     # things done in all of them
        self.left_out = None

    def add(self, ns, count=1):
        self.samples.append(ns)
        self.count += count

    def summary(self):
        s = sorted(self.samples)
        return {"median": quantile(s, 0.5), "p99": quantile(s, 0.99), "min": s[0], "max": s[-1]} if s else {}


class Table:
    """rows: in order. unit: what one of the counted things is called, where a rate is worth saying."""

    def __init__(self, name, rounds, rows, unit=None):
        self.name, self.rounds, self.rows, self.unit = name, rounds, rows, unit
        self.lines = []  # said below the table

    def row(self, name):
        return next(r for r in self.rows if r.name == name)

    def take(self, text):
        """What the programs of bench.h print."""
        for line in text.splitlines():
            name, value, *rest = line.split(" ", 2)
            row = self.row(name)
            if value == "failed":
                row.left_out = "failed: " + " ".join(rest)
            else:
                row.add(int(value), int(rest[0]) if rest else 1)

    def base_ns(self):
        for r in self.rows:
            if r.base and r.samples:
                return r.summary()["median"]
        return None

    def as_json(self):
        base, rows = self.base_ns(), []
        for r in self.rows:
            s = r.summary()
            out = {"name": r.name, "note": r.note, "must": r.must, "wanted": math.ceil(self.rounds / r.every),
                   "samples": len(r.samples), "left_out": r.left_out}
            out.update({f"{k}_us": round(v / 1000, 1) for k, v in s.items()})
            if s and base:
                out["ratio"] = round(s["median"] / base, 2)
            if s and self.unit:
                out[f"{self.unit}_per_s"] = round(r.count * 1e9 / sum(r.samples))
            rows.append(out)
        return {"name": self.name, "rounds": self.rounds, "rows": rows, "lines": self.lines}

    def print(self):
        t = self.as_json()
        rate = f"{self.unit}_per_s" if self.unit else None
        print(f"\n{t['name']}")
        head = f"  {'':22} {'median us':>11} {'p99 us':>11} {'min us':>11} {'x base':>7} {'samples':>8}"
        print(head + (f" {self.unit + '/s':>10}" if rate else ""))
        for r in t["rows"]:
            if not r["samples"]:
                print(f"  {r['name']:22} left out: {r['left_out']}")
                continue
            line = f"  {r['name']:22} {r['median_us']:>11,.0f} {r['p99_us']:>11,.0f} {r['min_us']:>11,.0f} {r.get('ratio', ''):>7} {r['samples']:>8}"
            line += f" {r[rate]:>10,}" if rate else ""
            print(f"{line}  {r['note']}".rstrip() + (f"; then {r['left_out']}" if r["left_out"] else ""))
        for line in self.lines:
            print(f"  {line}")
