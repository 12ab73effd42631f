"""launch: a complete sandbox around /bin/true, from the request to the exit reported, beside what others need for theirs."""
import json
import os
import shutil
import subprocess

from daemon import Daemon
from figures import Row, Table

COMMAND = "/bin/true"
USR_LINKS = ("bin", "sbin", "lib", "lib64")
HYBRID = "/sys/fs/cgroup/unified"
PROBE_TIMEOUT_S = 30
SEED = "1"


class Peer:
    """How one row is made: a command to spawn, or a server that is asked (bench.h)."""

    def __init__(self, row, argv, file="-", ask=False):
        self.row, self.argv, self.file, self.ask = row, argv, file, ask

    def words(self):
        return ["ask" if self.ask else "spawn", self.row.name, str(self.row.every), self.file, *self.argv, ";"]


def holdfast(bench):
    yield Peer(Row("holdfast", "every wall, an overlay of the workspace", must=True), [bench.program("bench-launch")], ask=True)
    yield Peer(Row("holdfast+limits", "and memory, cpu, pids, disk, files, output", must=True), [bench.program("bench-launch"), "limits"],
               ask=True)


def command_line(bench, daemon, workspace):
    """What a person types, with a supervisor that runs already: a run is made, journalled, followed and told."""
    yield Peer(Row("holdfast-exec", "the command line: run, step, layer and commit, synced", must=True),
               [bench.holdfast(), "--state", str(daemon.state), "exec", "--workspace", str(workspace), "--", COMMAND])


def make_tree(folder):
    """What systemd-nspawn and crun take for a root: links and places for mounts; /usr is the host's."""
    tree = folder / "tree"
    for name in ("usr", "proc", "sys", "dev", "tmp", "etc", "run", "var", "root"):
        (tree / name).mkdir(parents=True)
    for name in USR_LINKS:
        (tree / name).symlink_to(f"usr/{name}")
    (tree / "etc" / "os-release").write_text("ID=bench\n")
    return tree


def bubblewrap(bench):
    links = [w for name in USR_LINKS for w in ("--symlink", f"usr/{name}", f"/{name}")]
    base = ["/usr/bin/bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr", *links,
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    filter_file = bench.folder / "filter.bpf"
    with open(filter_file, "wb") as f:
        subprocess.run([bench.program("bench-filter")], stdout=f, check=True)
    yield Peer(Row("bubblewrap", "every namespace, /usr read-only"), [*base, COMMAND])
    yield Peer(Row("bubblewrap+filter", "and a seccomp filter of 300 calls"), [*base, "--seccomp", "9", COMMAND],
               file=str(filter_file))


def crun(bench, tree):
    """Debian's refuses hybrid control groups, so it is spawned where the second hierarchy is not mounted. An ordinary user can only
    do so in a user namespace, and crun makes none then."""
    hybrid = os.path.ismount(HYBRID)
    bundle = bench.folder / "bundle"
    bundle.mkdir()
    kinds = ["pid", "ipc", "uts", "mount", "network", "cgroup"]
    linux = {"namespaces": [{"type": k} for k in kinds]}
    if bench.root or not hybrid:
        ids = [{"containerID": 0, "hostID": 100000 if bench.root else os.getuid(), "size": 1}]
        linux["namespaces"].append({"type": "user"})
        linux.update({"uidMappings": ids, "gidMappings": ids})
    none = {k: [] for k in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    spec = {
        "ociVersion": "1.0.0",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": [COMMAND], "env": ["PATH=/usr/bin:/bin"], "cwd": "/",
                    "capabilities": none, "noNewPrivileges": True},
        "root": {"path": str(tree), "readonly": True},
        "hostname": "bench",
        "mounts": [
            {"destination": "/usr", "type": "none", "source": "/usr", "options": ["rbind", "ro", "nosuid", "nodev"]},
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
        ],
        "linux": linux,
    }
    (bundle / "config.json").write_text(json.dumps(spec))
    run = ["--root", str(bench.folder / "crun"), "run", "--bundle", str(bundle), "bench"]
    rows = [(Row("crun", "no filter, no control groups"), ["/usr/bin/crun", "--cgroup-manager=disabled", *run])]
    if bench.root:
        rows.append((Row("crun+cgroups", "no filter"), ["/usr/bin/crun", "--cgroup-manager=cgroupfs", *run]))
    for row, argv in rows:
        if not hybrid:
            yield Peer(row, argv)
            continue
        hide = f"umount {HYBRID}" if bench.root else f"mount -t tmpfs none {HYBRID}"
        enter = ["/usr/bin/unshare", *([] if bench.root else ["--map-root-user"]), "--mount", "/bin/sh", "-c",
                 f'{hide} && exec "$@"', "sh"]
        yield Peer(row, [*enter, bench.program("bench-rounds"), "serve", "-", *argv], ask=True)


def firejail():
    yield Peer(Row("firejail", "setuid root; its default filter"),
               ["/usr/bin/firejail", "--quiet", "--noprofile", "--net=none", "--private-dev", "--private-tmp", "--seccomp",
                "--caps.drop=all", "--nonewprivs", COMMAND])


def nspawn(bench, tree):
    row = Row("systemd-nspawn", "its default filter")
    if not bench.root:
        row.left_out = "needs root"
    yield Peer(row, ["/usr/bin/systemd-nspawn", "-q", "-D", str(tree), "--register=no", "--keep-unit", "--private-network",
                     "--bind-ro=/usr", "--as-pid2", COMMAND])


def probe(peer):
    """Why it cannot take part, or None. Says what the command itself says."""
    if not shutil.which(peer.argv[0]):
        return "not installed"
    cmd = peer.argv if peer.file == "-" else ["/bin/sh", "-c", 'exec "$@" 9<"$0"', peer.file, *peer.argv]
    try:
        p = subprocess.run(cmd, input="\n" if peer.ask else None, stdin=None if peer.ask else subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"still at it after {PROBE_TIMEOUT_S} s"
    if p.returncode == 0 and (not peer.ask or p.stdout.strip().isdigit()):
        return None
    said = (p.stderr.strip() or p.stdout.strip() or "no message").splitlines()[-1]
    return f"does not work here: status {p.returncode}: {said[:120]}"


def run_rounds(bench, table, peers):
    for p in peers:
        if p.row.left_out is None:
            p.row.left_out = probe(p)
    ready = [w for p in peers if p.row.left_out is None for w in p.words()]
    out = subprocess.run([bench.program("bench-rounds"), str(table.rounds), str(bench.pause_ms), SEED, *ready], stdout=subprocess.PIPE, text=True,
                         check=True)
    table.take(out.stdout)


def measure(bench):
    tree, workspace = make_tree(bench.folder), bench.folder / "workspace"
    workspace.mkdir()
    with Daemon(bench, bench.folder / "state-launch") as daemon:
        peers = [Peer(Row("native", "posix_spawn, no sandbox", must=True, base=True), [COMMAND]),
                 *holdfast(bench), *command_line(bench, daemon, workspace),
                 *bubblewrap(bench), *crun(bench, tree), *firejail(), *nspawn(bench, tree)]
        table = Table(f"launch of {COMMAND}, {'root' if bench.root else 'ordinary user'}", bench.rounds, [p.row for p in peers])
        run_rounds(bench, table, peers)
    ours, theirs = (table.row(n).summary().get("median") for n in ("holdfast", "bubblewrap"))
    if ours and theirs:
        table.lines.append(f"holdfast: {ours / theirs:.2f} x bubblewrap; {bench.pause_ms} ms between turns")
    yield table
