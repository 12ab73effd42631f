#!/usr/bin/env python3
"""Holds every golden file to the CDDL (RFC 8610).

A golden file is tests/golden/ROOM/RULE.CASE.cbor: its bytes are one deterministic CBOR item (RFC 8949 section
4.2.1) that matches RULE. Where a room keeps its items as text (TEXT_RULES), they are the lines of hex. Understood is the part of CDDL that base/holdfast.cddl uses: rules, choices (also /=),
maps, arrays and groups with occurrences, literals, ranges, .size, .cbor, and the names of the prelude that
the subset of base/cbor.h can write.

usage: cddl.py CDDL GOLDEN_DIR     check
       cddl.py --self-test         does the checker find what it should?
"""
import re
import sys
from pathlib import Path

# ---- CBOR, strictly ----


class Bad(Exception):
    pass


def decode(data):
    value, rest = decode_one(data, 0)
    if rest != len(data):
        raise Bad("bytes behind the item")
    return value


def decode_one(data, at, depth=0):
    if at >= len(data):
        raise Bad("cut short")
    if depth > 16:
        raise Bad("too deep")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low > 27:
        raise Bad("indefinite length or reserved head")
    if low < 24:
        n = low
    else:
        width = 1 << (low - 24)
        if at + width > len(data):
            raise Bad("cut short")
        n = int.from_bytes(data[at : at + width], "big")
        at += width
        if major != 7 and n < (24 if width == 1 else 1 << (4 * width)):
            raise Bad("head not the shortest")
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major in (2, 3):
        if at + n > len(data):
            raise Bad("cut short")
        raw = data[at : at + n]
        return (bytes(raw) if major == 2 else raw.decode("utf-8")), at + n
    if major == 4:
        items = []
        for _ in range(n):
            item, at = decode_one(data, at, depth + 1)
            items.append(item)
        return items, at
    if major == 5:
        pairs, last = {}, None
        for _ in range(n):
            start = at
            key, at = decode_one(data, at, depth + 1)
            if last is not None and data[start:at] <= last:
                raise Bad("map keys not ascending")
            last = data[start:at]
            pairs[key], at = decode_one(data, at, depth + 1)
        return pairs, at
    if major == 7 and low in (20, 21, 22):
        return {20: False, 21: True, 22: None}[low], at
    raise Bad("tag, float or simple value")


# ---- CDDL: text to rules ----

TOKEN = re.compile(
    r"""\s+|;[^\n]*|(?P<str>"[^"]*")|(?P<hex>h'[0-9a-fA-F]*')|(?P<range>\.\.\.?)|(?P<ctl>\.[a-z]+)
    |(?P<occ>\d*\*\d*|[?+])|(?P<num>-?\d+)|(?P<name>[A-Za-z@_$](?:[-.]*[A-Za-z0-9@_$])*)|(?P<op>//=|/=|=>|//|[=/()\[\]{},:^&~<>\#])""",
    re.X,
)


def tokens(text):
    at, out = 0, []
    while at < len(text):
        m = TOKEN.match(text, at)
        if not m:
            raise Bad(f"line {text.count(chr(10), 0, at) + 1}: not CDDL: {text[at : at + 20]!r}")
        if m.lastgroup:
            out.append((m.lastgroup, m.group(m.lastgroup), text.count("\n", 0, at) + 1))
        at = m.end()
    return out


class Parser:
    """Types become tuples: ("lit", v) ("name", n) ("range", lo, hi, open) ("ctl", op, type, arg) ("choice", [types])
    ("map", [entries]) ("array", [entries]) ("group", [entries]); an entry is (min, max, key type or None, type)."""

    def __init__(self, text):
        self.t, self.i = tokens(text), 0

    def peek(self, ahead=0):
        return self.t[self.i + ahead][1] if self.i + ahead < len(self.t) else None

    def kind(self, ahead=0):
        return self.t[self.i + ahead][0] if self.i + ahead < len(self.t) else None

    def next(self):
        self.i += 1
        return self.t[self.i - 1]

    def want(self, what):
        if self.peek() != what:
            line = self.t[min(self.i, len(self.t) - 1)][2]
            raise Bad(f"line {line}: {what!r} wanted, not {self.peek()!r}")
        self.i += 1

    def rules(self):
        rules = {}
        while self.i < len(self.t):
            kind, name, line = self.next()
            if kind != "name":
                raise Bad(f"line {line}: a rule's name wanted, not {name!r}")
            op = self.next()[1]
            if op not in ("=", "/="):
                raise Bad(f"line {line}: '=' wanted behind {name}")
            body = self.type()
            if op == "/=" and name in rules:
                rules[name] = ("choice", [rules[name], body])
            elif name in rules:
                raise Bad(f"line {line}: {name} defined twice")
            else:
                rules[name] = body
        return rules

    def type(self):
        options = [self.type1()]
        while self.peek() == "/":
            self.next()
            options.append(self.type1())
        return options[0] if len(options) == 1 else ("choice", options)

    def type1(self):
        left = self.type2()
        if self.kind() == "range":
            dots = self.next()[1]
            right = self.type2()
            return ("range", left[1], right[1], dots == "...")
        if self.kind() == "ctl":
            op = self.next()[1]
            if op not in (".size", ".cbor"):
                raise Bad(f"line {self.t[self.i - 1][2]}: control {op} is not understood here")
            return ("ctl", op, left, self.type2_or_range())
        return left

    def type2_or_range(self):
        left = self.type2()
        if self.kind() == "range":
            dots = self.next()[1]
            return ("range", left[1], self.type2()[1], dots == "...")
        return left

    def type2(self):
        kind, text, line = self.next()
        if kind == "num":
            return ("lit", int(text))
        if kind == "str":
            return ("lit", text[1:-1])
        if kind == "hex":
            return ("lit", bytes.fromhex(text[2:-1]))
        if kind == "name":
            return ("name", text)
        if text in "{[(":
            close = {"{": "}", "[": "]", "(": ")"}[text]
            entries = self.entries(close)
            self.want(close)
            if text == "(" and len(entries) == 1 and entries[0][:3] == (1, 1, None):
                return entries[0][3]
            return ({"{": "map", "[": "array", "(": "group"}[text], entries)
        raise Bad(f"line {line}: {text!r} is not understood here")

    def entries(self, close):
        out = []
        while self.peek() not in (close, None):
            low, high = 1, 1
            if self.kind() == "occ":
                mark = self.next()[1]
                if "*" in mark:
                    low, high = (int(n) if n else None for n in mark.split("*"))
                    low = low or 0
                else:
                    low, high = {"?": (0, 1), "+": (1, None)}[mark]
            key, value = None, self.type()
            if self.peek() == ":":
                self.next()
                key, value = (("lit", value[1]) if value[0] == "name" else value), self.type()
            elif self.peek() == "=>":
                self.next()
                key, value = value, self.type()
            out.append((low, high, key, value))
            if self.peek() == ",":
                self.next()
        return out


# ---- matching ----

PRELUDE = {
    "uint": lambda v: is_int(v) and v >= 0,
    "nint": lambda v: is_int(v) and v < 0,
    "int": lambda v: is_int(v),
    "bstr": lambda v: isinstance(v, bytes),
    "bytes": lambda v: isinstance(v, bytes),
    "tstr": lambda v: isinstance(v, str),
    "text": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "true": lambda v: v is True,
    "false": lambda v: v is False,
    "nil": lambda v: v is None,
    "null": lambda v: v is None,
    "any": lambda v: True,
}


def is_int(v):
    return isinstance(v, int) and not isinstance(v, bool)


class Schema:
    def __init__(self, text):
        self.rules = Parser(text).rules()
        for name, body in self.rules.items():
            for used in names_in(body):
                if used not in self.rules and used not in PRELUDE:
                    raise Bad(f"{name}: {used} is defined nowhere")

    def match(self, t, v):
        """None, or why v does not match."""
        kind = t[0]
        if kind == "lit":
            same = type(t[1]) is type(v) and t[1] == v
            return None if same else f"{v!r} is not {t[1]!r}"
        if kind == "name":
            if t[1] in self.rules:
                why = self.match(self.rules[t[1]], v)
                return f"{t[1]}: {why}" if why else None
            return None if PRELUDE[t[1]](v) else f"{v!r} is not {t[1]}"
        if kind == "range":
            inside = is_int(v) and t[1] <= v and (v < t[2] if t[3] else v <= t[2])
            return None if inside else f"{v!r} is not in {t[1]}..{t[2]}"
        if kind == "choice":
            whys = [self.match(o, v) for o in t[1]]
            return None if None in whys else " and ".join(whys)
        if kind == "ctl":
            return self.match(t[2], v) or self.match_control(t[1], t[3], v)
        if kind == "map":
            return self.match_map(t[1], v)
        if kind == "array":
            return self.match_array(t[1], v)
        return "a group stands where a type should"

    def match_control(self, op, arg, v):
        if op == ".cbor":
            try:
                return self.match(arg, decode(v))
            except (Bad, UnicodeDecodeError) as e:
                return f"embedded CBOR: {e}"
        if is_int(v):  # RFC 8610 section 3.8.1: an unsigned integer of at most that many bytes
            return None if v < 256 ** arg[1] else f"{v} takes more than {arg[1]} bytes"
        size = len(v.encode() if isinstance(v, str) else v)
        why = self.match(arg, size)
        return f"size {why}" if why else None

    def flatten(self, entries):
        """Entries with the groups among them put in their place."""
        for low, high, key, t in entries:
            inner = self.rules.get(t[1]) if t[0] == "name" else t
            if key is None and inner and inner[0] == "group" and (low, high) == (1, 1):
                yield from self.flatten(inner[1])
            else:
                yield (low, high, key, t)

    def match_map(self, entries, v):
        if not isinstance(v, dict):
            return f"{v!r} is not a map"
        left = dict(v)
        for low, high, key, t in self.flatten(entries):
            if key is None:
                return "a map entry without key"
            found = [k for k in left if not self.match(key, k)]
            if key[0] == "lit":
                whys = [f"key {k}: {why}" for k in found if (why := self.match(t, left[k]))]
            else:
                found = [k for k in found if not self.match(t, left[k])]
                whys = []
            if whys:
                return whys[0]
            if len(found) < low:
                return f"key {key[1]!r} is missing"
            if high is not None and len(found) > high:
                return f"key {key[1]!r}: more than {high}"
            for k in found:
                del left[k]
        return f"unknown or wrong key {next(iter(left))!r}" if left else None

    def match_array(self, entries, v):
        if not isinstance(v, list):
            return f"{v!r} is not an array"
        entries = list(self.flatten(entries))
        ends, whys = self.array_ends(entries, v, 0)
        if len(v) in ends:
            return None
        return whys[-1] if whys else f"{len(v)} items do not fit"

    def array_ends(self, entries, v, start):
        """The places where a match of all entries from `start` can end."""
        ends, whys = {start}, []
        for low, high, _, t in entries:
            after = set()
            for at in ends:
                n = 0
                while True:
                    if n >= low:
                        after.add(at + n)
                    if at + n >= len(v) or (high is not None and n >= high):
                        break
                    why = self.match(t, v[at + n])
                    if why:
                        whys.append(f"item {at + n}: {why}")
                        break
                    n += 1
            ends = after
        return ends, whys


def names_in(t):
    if t[0] == "name":
        yield t[1]
    elif t[0] == "choice":
        for o in t[1]:
            yield from names_in(o)
    elif t[0] == "ctl":
        yield from names_in(t[2])
        yield from names_in(t[3])
    elif t[0] in ("map", "array", "group"):
        for _, _, key, value in t[1]:
            if key:
                yield from names_in(key)
            yield from names_in(value)


# ---- the two uses ----

TEXT_RULES = {"journal": "journal-record"}


def items(path):
    """(rule, bytes) of each item in a golden file."""
    if path.suffix == ".cbor":
        return [(path.name.split(".")[0], path.read_bytes())]
    lines = [l for l in path.read_text().splitlines() if re.fullmatch(r"([0-9a-f]{2})+", l)]
    return [(TEXT_RULES.get(path.parent.name), bytes.fromhex(l)) for l in lines]


def check(schema, path):
    found = items(path)
    for rule, data in found:
        if rule not in schema.rules:
            return f"no rule {rule} in the CDDL"
        try:
            if why := schema.match(("name", rule), decode(data)):
                return why
        except (Bad, UnicodeDecodeError) as e:
            return f"not deterministic CBOR: {e}"
    return None if found else "no item in it"


SELF_CDDL = """
m = { 1: uint, ? 2: name, * 10..19 => bstr, common }   ; comment
common = ( 3: [* kind], 4 => nil / id )
kind = 0 / 1 / -5
name = tstr .size (1..4)
id = bstr .size 2
pair = [uint, + tstr]
wrap = bstr .cbor pair
open = "a" / h'00ff'
open /= true
n1 = uint .size 1
t = { * tstr => uint }
"""
SELF_GOOD = [
    ("m", "a3010003800 4f6"), ("m", "a4 0105 02616 1 0382 0024 0442 0102"), ("m", "a4 0100 0380 04f6 0a41ff"),
    ("pair", "82006161"), ("pair", "8300616161 62"), ("wrap", "44 82006161"), ("open", "6161"), ("open", "42 00ff"),
    ("open", "f5"), ("n1", "18ff"), ("t", "a0"), ("t", "a2 616101 616202"),
]  # fmt: skip
SELF_BAD = [
    ("m", "a2010003 80", "missing"), ("m", "a3 0120 0380 04f6", "not uint"), ("m", "a3 0100 0381 02 04f6", "is not"),
    ("m", "a4 0100 0380 04f6 0500", "unknown"), ("m", "a4 0100 0260 0380 04f6", "size"), ("m", "80", "not a map"),
    ("m", "a3 0100 0380 0443 010203", "size"), ("m", "a4 0100 0380 04f6 0a00", "unknown"), ("pair", "8100", "fit"),
    ("pair", "82 00 00", "not tstr"), ("wrap", "41 80", "fit"), ("wrap", "42 8200", "cut short"), ("open", "f4", "is not"),
    ("n1", "190100", "more than 1 bytes"), ("pair", "82 1800 6161", "shortest"), ("pair", "9f 00 6161 ff", "indefinite"),
    ("m", "a3 0380 0100 04f6", "ascending"), ("m", "a3 0100 0100 04f6", "ascending"), ("pair", "82006161 00", "behind"),
    ("t", "a1 0101", "unknown"), ("pair", "8200 61ff", "utf-8"), ("pair", "82 f90000 6161", "tag, float"),
]  # fmt: skip


def self_test():
    schema = Schema(SELF_CDDL)
    faults = []

    def run(rule, hexes):
        try:
            return schema.match(("name", rule), decode(bytes.fromhex(hexes.replace(" ", ""))))
        except (Bad, UnicodeDecodeError) as e:
            return str(e)

    for rule, hexes in SELF_GOOD:
        if why := run(rule, hexes):
            faults.append(f"{rule} {hexes}: refused: {why}")
    for rule, hexes, want in SELF_BAD:
        why = run(rule, hexes)
        if not why or want not in why:
            faults.append(f"{rule} {hexes}: wanted {want!r}, got {why!r}")
    for text in ("a = b", "a = uint\na = int", "a = uint .regexp b", "a = {", "= uint", "a = %"):
        try:
            Schema(text)
            faults.append(f"accepted as CDDL: {text!r}")
        except (Bad, IndexError):
            pass
    return faults


def main():
    if sys.argv[1:] == ["--self-test"]:
        faults = self_test()
    else:
        schema = Schema(Path(sys.argv[1]).read_text())
        files = sorted(p for p in Path(sys.argv[2]).rglob("*") if p.suffix in (".cbor", ".txt"))
        faults = [f"{p}: {why}" for p in files if (why := check(schema, p))]
        if not files:
            faults.append("no golden file found")
    for f in faults:
        print(f)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
