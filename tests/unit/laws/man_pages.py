#!/usr/bin/env python3
"""Every key that a file may hold and every option of a command stands in its man page, in the place where that key is told.

Read from the parsers' own tables, so that a key that is added without a word about it fails.

usage: man_pages.py SOURCE_ROOT
"""
import re
import sys
from pathlib import Path

# Table of the parser -> production of GRAMMAR in holdfast-policy(5).
POLICY = {"policy_keys_file": "file", "keys_case": "test", "keys_keyed": "retry", "keys_probe": "retry", "keys_from": "secret"}
# Table -> section of holdfast-plan(5), and how a key is written there.
PLAN = {
    "plan_keys": ("THE PLAN", r"^\*{}\*$"),
    "step_keys": ("A STEP", r"^\*{}\*$"),
    "stdin_keys": ("A STEP", r"\*{}\*:"),
    "retry_keys": ("RETRIES", r"^\*{}\*$"),
    "contract_keys": ("CONTRACT", r"^\*{}\*$"),
    "check_keys": ("CONTRACT", r"\*{}:\*"),
    "expect_keys": ("CONTRACT", r"\*{}:\*"),
}
SETTINGS = {"file_keys": r"^{}:", "notify_keys": r"^notify: \{{.*\b{}:", "limit_keys": r"^  {}:"}


def section(page, name):
    return re.search(rf"^# {re.escape(name)}\n(.*?)(?=^# |\Z)", page, re.M | re.S).group(1)


def word_tables(source):
    """The parser's lists of known keys."""
    return {m.group(1): re.findall(r'"([^"]+)"', m.group(2))
            for m in re.finditer(r"static const char \*const (\w+_keys)\[\] = \{(.*?)\};", source, re.S)}


def policy_tables(source):
    shared = re.search(r"#define RULE_KEYS(.*?)\n\n", source, re.S).group(1)
    keys = {m.group(1): re.findall(r'KEY\(\w+, "([^"]+)"', m.group(2).replace("RULE_KEYS", shared))
            for m in re.finditer(r"struct policy_key (\w+)_rows\[\] = \{(.*?)\n\};", source, re.S)}
    # The one key that stands for a plain word cannot be written.
    for table, row in re.findall(r"TABLE\((\w+),(?:(?!TABLE\().)*?\.scalar = &\w+_rows\[(\d+)\]", source, re.S):
        del keys[table][int(row)]
    return keys


def policy_faults(root):
    grammar = section((root / "docs/holdfast-policy.5.scd").read_text(), "GRAMMAR")
    told = dict(re.findall(r"^(\w+) +:= (.*?)(?=^\w+ +:=|^```)", grammar, re.M | re.S))
    tables = policy_tables((root / "policy/keys.c").read_text())
    if len(tables) < 20 or sum(map(len, tables.values())) < 100:
        yield f"policy/keys.c: only {len(tables)} tables were found; this test no longer reads it"
    for table, keys in tables.items():
        name = POLICY.get(table, table.removeprefix("keys_"))
        for key in keys:
            if not re.search(rf"\b{key}\b", told.get(name, "")):
                yield f"holdfast-policy(5), GRAMMAR, {name}: no key '{key}' (policy/keys.c, {table})"


def plan_faults(root):
    page = (root / "docs/holdfast-plan.5.scd").read_text()
    tables = word_tables((root / "supervisor/plan_parse.c").read_text())
    if set(tables) != set(PLAN):
        yield f"supervisor/plan_parse.c: tables {sorted(tables)}, this test knows {sorted(PLAN)}"
    for table, (where, form) in PLAN.items():
        for key in tables.get(table, []):
            if not re.search(form.format(key), section(page, where), re.M):
                yield f"holdfast-plan(5), {where}: no key '{key}' (supervisor/plan_parse.c, {table})"


def settings_faults(root):
    text = section((root / "docs/holdfast.1.scd").read_text(), "SETTINGS")
    example = re.search(r"^```\n(.*?)^```", text, re.M | re.S).group(1)
    tables = word_tables((root / "supervisor/settings.c").read_text())
    if set(tables) != set(SETTINGS):
        yield f"supervisor/settings.c: tables {sorted(tables)}, this test knows {sorted(SETTINGS)}"
    for table, form in SETTINGS.items():
        for key in tables.get(table, []):
            if not re.search(form.format(key), example, re.M):
                yield f"holdfast(1), SETTINGS: no key '{key}' (supervisor/settings.c, {table})"


def option_faults(root):
    pages = "".join((root / "docs" / p).read_text() for p in ("holdfast.1.scd", "holdfast-policy.5.scd"))
    found = 0
    for path in sorted((root / "tools").glob("*.c")):
        if path.name == "holdfastd.c":  # started by the command line; supervisor.h tells how
            continue
        for name in re.findall(r'\{"([a-z-]+)",\s*(?:no|required)_argument', path.read_text()):
            found += 1
            if not re.search(rf"--{name}\b", pages):
                yield f"holdfast(1): no option --{name} (tools/{path.name})"
    if found < 30:
        yield f"tools: only {found} options were found; this test no longer reads them"


def main():
    root = Path(sys.argv[1])
    faults = [*policy_faults(root), *plan_faults(root), *settings_faults(root), *option_faults(root)]
    print("\n".join(faults) or "every key and option is told")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
