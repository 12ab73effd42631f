"""Runs of hundreds of steps that each change files: every layer is mounted at first, then merged (supervisor/squash.h), and
what a step sees, what lands, and how long a step takes, does not depend on how many came before it."""

import datetime
import json
import os
import sys
import time

from supervised import Supervised, main

STEPS = 300


def step_of(i, tree):
    """The script of step i; tree, path -> content, becomes what it leaves."""
    script = ["set -e"]

    def put(path, text):
        script.append(f"echo {text} > {path}")
        tree[path] = f"{text}\n"

    def drop(path):
        script.append(f"rm -r {path}")
        for k in [k for k in tree if k == path or k.startswith(path + "/")]:
            del tree[k]

    if i > 0:
        script.append(f"test $(cat count) = {i - 1}")
    put("count", i)
    put(f"f{i}", i)
    if i >= 3 and (i - 3) % 7:
        drop(f"f{i - 3}")
    if i % 10 == 4:  # a folder, also one of the base, is replaced by another of that name
        drop("d")
        script.append("mkdir d")
        put(f"d/a{i}", i)
    else:
        put(f"d/b{i % 5}", i)
    if i % 20 == 7:  # a folder becomes a file, and a file a folder
        drop("e")
        put("e", i)
    if i % 20 == 13:
        drop("e")
        script.append("mkdir -p e/deep")
        put("e/deep/x", i)
    if i == 40:
        drop("gone")
    names = sorted({p.split("/")[0] for p in tree})
    script.append(f'test "$(ls | tr "\\n" " ")" = "{" ".join(names)} "')
    return "; ".join(script)


def lay(s):
    tree = {"d/base": "base\n", "e/base": "base\n", "gone": "gone\n", "keep": "keep\n"}
    for path, text in tree.items():
        at = os.path.join(s.workspace, path)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "w") as f:
            f.write(text)
    time.sleep(0.05)
    return tree


def plan_of(tree, steps, land="auto"):
    text = f"version: 1\nland: {land}\nsteps:\n"
    for i in range(steps):
        needs = f", needs: [s{i - 1}]" if i else ""
        text += f"  - {{name: s{i}, run: {json.dumps(step_of(i, tree))}{needs}, retry: {{max: 3}}"
        text += f", contract: {{checks: [{{run: 'test $(cat count) = {i}'}}]}}}}\n" if i % 50 == 49 else "}\n"
    return text


def found(root):
    tree = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            with open(path) as f:
                tree[os.path.relpath(path, root)] = f.read()
    return tree


def squashed(s):
    return [n for n in os.listdir(os.path.join(s.state, "v1", "layers")) if n.startswith("0")]


def took(s, run):
    """Milliseconds from a step's commit to the next one's, in order."""
    at = [datetime.datetime.fromisoformat(e["time"][:26].rstrip("Z") + "+00:00").timestamp() for e in s.events(run) if e["type"] == "STEP_COMMITTED"]
    return [(b - a) * 1000 for a, b in zip(at, at[1:])]


def middle(numbers):
    return sorted(numbers)[len(numbers) // 2]


def test_every_step_commits_and_the_tree_lands_whole():
    with Supervised() as s:
        s.start()
        tree = lay(s)
        run = s.begin(plan=plan_of(tree, STEPS))
        done = s.wait(run, seconds=200)
        assert done["state"] == "succeeded" and done["landing"] == "landed", s.logged()
        assert all(x["state"] == "committed" and x["attempts"] == 1 for x in done["steps"]), "a step ran twice"
        assert found(s.workspace) == tree
        spans = took(s, run)
        early, late = middle(spans[5:25]), middle(spans[-40:])
        print(f"     a step: {early:.1f} ms at first, {late:.1f} ms at the end, {max(spans):.1f} ms at most")
        assert late < 2 * early + 10, f"late steps are slow: {early:.1f} ms, then {late:.1f} ms"
        a = s.get(f"/v1/runs/{run}/diff?step=s{STEPS - 2}&stat=1")
        assert a.status == 200 and {"count", f"f{STEPS - 2}"} <= {c["path"] for c in a.json()["changes"]}, a
        a = s.get(f"/v1/runs/{run}/diff?step=s{STEPS - 2}")
        assert a.status == 200 and b"\n+%d\n" % (STEPS - 2) in a.body, a
        end = time.monotonic() + 20
        while squashed(s):
            assert time.monotonic() < end, f"left behind: {squashed(s)}"
            time.sleep(0.1)


def test_kill_of_both_in_the_middle_and_at_any_depth():
    with Supervised() as s:
        s.start()
        tree = lay(s)
        run = s.begin(plan=plan_of(tree, 200, land="never"))
        for at, keeper in ((30, False), (90, True), (130, True), (170, False)):
            end = time.monotonic() + 120
            while sum(x["state"] == "committed" for x in s.status(run)["steps"]) < at:
                assert time.monotonic() < end, s.logged()
                time.sleep(0.02)
            s.kill()
            if keeper:
                s.kill_keeper()
            s.start()
        done = s.wait(run, seconds=200)
        assert done["state"] == "succeeded", f"{done}\n{s.logged()}"
        a = s.post(f"/v1/runs/{run}/fork", {"at": "s180"})
        assert a.status == 201, a
        fork = a.json()["run"]
        assert s.wait(fork, seconds=60)["state"] == "succeeded", s.logged()
        assert s.post(f"/v1/runs/{fork}/land").status == 200
        end = time.monotonic() + 20
        while s.status(fork)["landing"] != "landed":
            assert time.monotonic() < end, s.status(fork)
            time.sleep(0.05)
        assert found(s.workspace) == tree


def test_a_merge_that_fails_or_dies_half_way_is_never_used():
    for how in ("error:EIO@1", "kill@1"):  # each sealer's child begins to count anew, so all of them do
        with Supervised() as s:
            s.start({"HOLDFAST_FAILPOINT": f"sealer.squashing={how}"})
            tree = lay(s)
            run = s.begin(plan=plan_of(tree, 80))  # as deep as can be mounted without one
            done = s.wait(run, seconds=100)
            assert done["state"] == "succeeded" and done["landing"] == "landed", f"{done}\n{s.logged()}"
            assert found(s.workspace) == tree
            assert "layers were not merged" in s.logged(), "no merge was tried"


if __name__ == "__main__":
    main(sys.modules[__name__])
