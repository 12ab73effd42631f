#!/usr/bin/env python3
"""Every test that SECURITY.md names exists, is run, and every paragraph on a wall names one; its list of tries is the containment suite's.

usage: security.py SOURCE_ROOT
"""
import re
import sys
from pathlib import Path


def main():
    root = Path(sys.argv[1])
    text = (root / "SECURITY.md").read_text()
    source = "\n".join(p.read_text() for p in sorted((root / "tests").rglob("*.[cp]*")) if p.suffix in (".c", ".py"))
    faults, named = [], 0
    for part in re.findall(r"\*Tried by\*(.*?)(?:\.\n|\.$)", text, re.S | re.M):
        for name in re.findall(r"`(\w+)`", part):
            named += 1
            python = re.search(rf"^def {name}\(", source, re.M)
            c = re.search(rf"^static void {name}\(void \*\*state\)", source, re.M) and len(re.findall(rf"\b{name}\b", source)) > 1
            if not python and not c:
                faults.append(f"SECURITY.md: there is no test {name}")
    walls = re.findall(r"^(\d)\. \*\*(.*?)(?=^\d\. \*\*|^All probes)", text, re.S | re.M)
    if [n for n, _ in walls] != list("123456789") or named < 40:
        faults.append("SECURITY.md: its nine walls or its tests were not found")
    faults += [f"SECURITY.md: wall {n} names no test" for n, body in walls if "*Tried by*" not in body]
    faults += [f"SECURITY.md: there is no {path}" for path in re.findall(r"`((?:sandbox|policy|supervisor|base|tests)/[\w/]+\.(?:c|py))`", text)
               if not (root / path).is_file()]
    table = set(re.findall(r'^\t\{"([a-z0-9-]+)", (\d),', (root / "tests/adversarial/containment_table.c").read_text(), re.M))
    part = re.search(r"^## Every try, by name$(.*?)^## ", text, re.S | re.M)
    listed = [(name, wall) for wall, body in re.findall(r"^- \*\*Wall (\d)\*\*(.*?)(?=^- |\Z)", part[1] if part else "", re.S | re.M)
              for name in re.findall(r"`([a-z0-9-]+)`", body)]
    faults += [f"SECURITY.md: {name} is not listed, or not under wall {wall}" for name, wall in sorted(table - set(listed))]
    faults += [f"SECURITY.md: {name} is listed under wall {wall}, the suite has no such try" for name, wall in sorted(set(listed) - table)]
    if len(table) < 100 or len(listed) != len(set(listed)):
        faults.append("SECURITY.md: under 100 tries, or one is listed twice")
    print("\n".join(faults) or f"{named} tests and {len(listed)} tries named")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
