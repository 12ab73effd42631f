#!/usr/bin/env python3
"""The two laws of the house, read from the sources and from what was built.

include law   who may include whom, and through which door (ARCHITECTURE.md)
purity law    the pure static libraries call nothing but pure functions and hold no state

usage: laws.py SOURCE_ROOT BUILD_ROOT
"""
import json
import re
import subprocess
import sys
from pathlib import Path

ROOMS = ("base", "policy", "journal", "sandbox", "supervisor", "tools")
DOORS = {r: f"{r}/{r}.h" for r in ROOMS if r not in ("base", "tools")}
BELOW = {
    "base": (),
    "policy": ("base",),
    "journal": ("base",),
    "sandbox": ("base",),
    "supervisor": ("base", "policy", "journal", "sandbox"),
    "tools": ("base", "policy", "journal", "sandbox", "supervisor"),
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
# The supervisor's own main: all of it is in its room.
MAINS = {"tools/holdfastd.c": "supervisor/daemon.h"}
# The courier decides plain reads by itself: the one sibling that sees another (ARCHITECTURE.md).
COURIER = {"sandbox/gate/courier.h": "policy/policy.h"}
# Parsers at the boundary are used through their strict layer only.
WRAPPED = {"llhttp.h": "base/http1.h", "yaml.h": "base/yaml.h"}
WRAPPED_DIRS = {"cbor/": "base/cbor.h"}


def include_faults(root):
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.[ch]")):
            name = path.relative_to(root).as_posix()
            for m in INCLUDE.finditer(path.read_text()):
                why = include_fault(room, name, m.group(1), m.group(2))
                if why:
                    yield f"{name}: includes {m.group(2)}: {why}"


def include_fault(room, name, bracket, target):
    if bracket == "<":
        layer = WRAPPED.get(target) or next((v for k, v in WRAPPED_DIRS.items() if target.startswith(k)), None)
        return f"only base/ sees it; use {layer}" if layer and room != "base" else None
    other = target.split("/")[0]
    if "/" not in target or other not in ROOMS or ".." in target:
        return "not written as room/file.h from the root"
    if other == room or other == "base":
        return None
    if MAINS.get(name) == target or COURIER.get(name) == target:
        return None
    if other not in BELOW[room]:
        return f"{room}/ may not see {other}/"
    return None if target == DOORS[other] else f"outsiders include only {DOORS[other]}"


# Functions of the C library that read and write nothing but their arguments and the heap.
PURE_LIBC = set("""
    malloc calloc realloc free reallocarray abort qsort qsort_r bsearch
    memcpy memmove memset memcmp memchr memrchr mempcpy memmem explicit_bzero rawmemchr
    strlen strnlen strcmp strncmp strcasecmp strncasecmp strcasestr strchr strrchr strchrnul strstr strspn strcspn strpbrk
    strcpy strncpy stpcpy stpncpy strcat strncat strdup strndup strtok_r strsep
    strtol strtoul strtoll strtoull strtod __isoc23_strtol __isoc23_strtoul __isoc23_strtoll __isoc23_strtoull
    snprintf vsnprintf asprintf vasprintf inet_pton inet_ntop
    isalnum isalpha isdigit isxdigit isspace tolower toupper __ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc
    strerrorname_np strerrordesc_np gmtime_r timegm labs llabs div ldiv lldiv
    __errno_location __assert_fail __stack_chk_fail __chk_fail
    __memcpy_chk __memmove_chk __memset_chk __mempcpy_chk __explicit_bzero_chk
    __strcpy_chk __strncpy_chk __stpcpy_chk __strcat_chk __strncat_chk
    __snprintf_chk __vsnprintf_chk __asprintf_chk __vasprintf_chk
    _GLOBAL_OFFSET_TABLE_ __popcountdi2
""".split())
INSTRUMENTS = re.compile(r"^(__(asan|ubsan|tsan|msan|lsan|sanitizer|sancov|gcov|llvm|gcc)_|__start___sancov|__stop___sancov)")
# What each library may use beyond that: pure functions of its dependencies, by full name. None if not here.
PURE_DEPS = {
    "sandbox_courier_pure": r"SHA(1|256)_(Init|Update|Final)|inflate(Init_|End)?",
    "base_core": r"cbor_(stream_decode|encode_\w+|null_\w+_callback)",
    "base_pure": r"SHA256_(Init|Update|Final)|llhttp_(init|execute|resume|get_errno|get_error_reason|get_error_pos|"
    r"should_keep_alive)|yaml_(parser_(initialize|delete|parse|set_encoding|set_input_string)|event_delete)",
    "policy_pure": r"idn2_(lookup_u8|to_ascii_8z|to_ascii_lz|check_version|free|strerror)|"
    r"psl_(builtin|is_public_suffix2?|registrable_domain|unregistrable_domain)|"
    r"u8_casefold|uninorm_nfkc|uc_is_property_default_ignorable_code_point",
}


def tool(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def symbols(archive):
    """(undefined, defined, writable) names of all members together."""
    undefined, defined, writable = set(), set(), set()
    for line in tool("objdump", "-t", str(archive)).splitlines():
        # address, seven flag characters, section, size, [visibility] name
        m = re.match(r"^[0-9a-f]+ (.{7}) (\S+)\s+([0-9a-f]+)\s+(?:\.\w+ )?(\S+)$", line)
        if not m:
            continue
        flags, section, size, name = m.groups()
        if section == "*UND*":
            undefined.add(name)
            continue
        if flags[0] in "gu!" or flags[1] == "w":
            defined.add(name)
        if "O" in flags and int(size, 16) and re.match(r"^(\*COM\*|\.t?(data|bss)(\.(?!rel\.ro).*)?$)", section):
            writable.add(name)
    return undefined, defined, writable


def purity_faults(build):
    info = build / "meson-info"
    targets = json.loads((info / "intro-targets.json").read_text())
    options = {o["name"]: o["value"] for o in json.loads((info / "intro-buildoptions.json").read_text())}
    instrumented = options["b_sanitize"] != "none" or options["b_coverage"] or options["fuzz"]
    libs = {
        t["name"]: symbols(t["filename"][0])
        for t in targets
        if t["type"] == "static library" and (t["name"] == "base_core" or t["name"].endswith("_pure"))
    }
    for must in ("base_core", "base_pure"):
        if must not in libs:
            yield f"{must}: no such static library in the build"
    pure = PURE_LIBC.union(*(defined for _, defined, _ in libs.values()))
    for lib, (undefined, _, writable) in sorted(libs.items()):
        allowed = PURE_DEPS.get(lib, "(?!)")
        for name in sorted(undefined - pure):
            if not INSTRUMENTS.match(name) and not re.fullmatch(allowed, name):
                yield f"{lib}: calls {name}, which is not known to be pure"
        for name in sorted(writable) if not instrumented else ():
            yield f"{lib}: {name} is a variable that outlives a call"
    if "base_core" in libs:
        core = libs["base_core"][0] - libs["base_core"][1]
        for name in sorted(core & libs.get("base_pure", (set(), set(), set()))[1]):
            yield f"base_core: needs {name} of base_pure; the keeper links base_core alone"


def main():
    root, build = Path(sys.argv[1]), Path(sys.argv[2])
    faults = [*include_faults(root), *purity_faults(build)]
    for f in faults:
        print(f)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
