"""Names that change while a sandbox is made, a layer sealed or landed. A few rounds here, HOLDFAST_ROUNDS of them in
tools/soak. SECURITY.md names these tests."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from hostile import PYTHON, Hostile, main  # noqa: E402

ROUNDS = int(os.environ.get("HOLDFAST_ROUNDS", "8"))

# Two names change places, as fast as it goes: renameat2(RENAME_EXCHANGE). After each burst a pause of 0 to 4 ms, so that on a
# machine of any speed some rounds meet no change, some one, and some many.
EXCHANGE = """
import ctypes, random, sys, time
l = ctypes.CDLL(None)
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    for _ in range(100):
        l.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)
    time.sleep(random.random() * 0.004)
"""


class Race(Hostile):
    def __enter__(self):
        super().__enter__()
        self.secret = os.path.join(self.root, "private")
        os.makedirs(os.path.join(self.secret, "b"))
        self.put(os.path.join(self.secret, "b", "x"), "secret\n")
        self.put(os.path.join(self.secret, "x"), "secret\n")
        self.racers = []
        return self

    def __exit__(self, *a):
        for r in self.racers:
            r.kill()
            r.wait()
        super().__exit__(*a)

    def put(self, path, text):
        with open(path, "w") as f:
            f.write(text)

    def race(self, *command):
        r = subprocess.Popen(command, cwd=self.tree, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.racers.append(r)
        return r

    def unchanged(self):
        for name in ("b/x", "x"):
            with open(os.path.join(self.secret, name)) as f:
                assert f.read() == "secret\n", name
        assert sorted(os.listdir(self.secret)) == ["b", "x"] and os.listdir(os.path.join(self.secret, "b")) == ["x"]


def test_a_link_that_comes_and_goes_while_sandboxes_are_made_widens_no_grant():
    """One step with rw exchanges a folder and a link; others are granted something below that folder."""
    with Race() as c:
        granted = os.path.join(c.root, "granted")
        os.makedirs(os.path.join(granted, "a", "b"))
        c.put(os.path.join(granted, "a", "b", "x"), "public\n")
        os.symlink(c.secret, os.path.join(granted, "l"))
        p = c.policy(f"  - {{path: \"{granted}\", access: rw}}\n  - {{path: \"{granted}/a/b\", access: r}}\n")
        racer = c.race(PYTHON, "-c", EXCHANGE, os.path.join(granted, "a"), os.path.join(granted, "l"), "100")
        seen = []
        while len(seen) < ROUNDS * 3 or (0 not in seen and len(seen) < ROUNDS * 30):
            code, out, err = c.sh(f"cat {granted}/a/b/x {granted}/l/b/x; ls -A {c.secret} 2>/dev/null; echo evil > {granted}/a/b/x; true", "--policy", p)
            assert "secret" not in out, (code, out, err)
            assert code in (0, 1, 125), (code, out, err)
            seen.append(code)
        assert racer.poll() is None and 0 in seen, (seen, err)
        c.unchanged()


def test_what_a_step_leaves_running_is_over_before_its_layer_is_sealed():
    """A racer of the step's own, which outlives its main process by as much as it can."""
    with Race() as c:
        c.mkdirs("d")
        c.write("d/x", "mine\n")
        for i in range(ROUNDS):
            script = (f"mkdir -p d; echo {i} > d/x; ln -sfn {c.secret} l; cat > race.py <<'E'\n{EXCHANGE}\nE\n"
                      f"for n in 1 2; do setsid {PYTHON} race.py d l 100 & done; sleep 0.05; rm -f race.py; true")
            code, out, err = c.sh(script, "--land")
            assert code in (0, 4), (code, out, err)
            c.unchanged()
            d, link = c.path("d"), c.path("l")
            # One is the folder and the other the link, as the instant of its end had them: never both, never half of one.
            kinds = sorted("link" if os.path.islink(n) else "folder" if os.path.isdir(n) else "nothing" for n in (d, link))
            assert kinds == ["folder", "link"], kinds
            for n in (d, link):
                if os.path.islink(n):
                    os.unlink(n)
                else:
                    subprocess.run(["rm", "-rf", n], check=True)
            c.mkdirs("d")
        assert c.run("verify")[0] == 0


def test_links_that_come_and_go_in_the_workspace_lead_no_landing_outside():
    """A program outside exchanges a folder of the workspace and a link to elsewhere while runs land there."""
    with Race() as c:
        c.mkdirs("d")
        os.symlink(c.secret, c.path("l"))
        racer = c.race(PYTHON, "-c", EXCHANGE, c.path("d"), c.path("l"), "100")
        for i in range(ROUNDS):
            code, out, err = c.sh(f"mkdir -p d; echo {i} > d/x; rm -f d/b/x d/old; echo {i} > d/new; echo {i} > ok{i}; true", "--land")
            assert code in (0, 1, 4, 9, 125), (code, out, err)
            c.unchanged()
        assert racer.poll() is None


if __name__ == "__main__":
    main(globals())
