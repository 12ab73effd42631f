"""Runs from a request to their end, over the socket: what steps give each other, who is asked, what lands."""

import contextlib
import json
import os
import subprocess
import sys
import time

from supervised import BUILD, Supervised, main


def write(s, name, text):
    with open(os.path.join(s.workspace, name), "w") as f:
        f.write(text)
    time.sleep(0.02)  # file systems stamp by a coarse clock: what is written in a run's first milliseconds is an edit during it


def read(s, name):
    with open(os.path.join(s.workspace, name)) as f:
        return f.read()


def item(s, kind, seconds=20):
    end = time.monotonic() + seconds
    while True:
        for a in s.get("/v1/approvals").json()["approvals"]:
            if a["kind"] == kind:
                return s.get(f"/v1/approvals/{a['approval']}").json()
        assert time.monotonic() < end, f"no {kind} in the queue\n{s.logged()}"
        time.sleep(0.05)


def vote(s, a, decision="approve", **more):
    return s.post(f"/v1/approvals/{a['approval']}/vote", {"decision": decision, "card_digest": a["card_digest"], **more})


def test_steps_pass_files_output_and_layers_on():
    plan = """version: 1
land: never
steps:
  - name: first
    run: echo line; echo result > /run/holdfast/out/r; mkdir /run/holdfast/out/d; echo deep > /run/holdfast/out/d/e; echo layer > file
  - name: second
    needs: [first]
    stdin: {from: first}
    run: cat; cat /run/holdfast/in/first/r /run/holdfast/in/first/d/e /run/holdfast/in/first/stdout file; rm file
  - name: third
    needs: [second]
    stdin: {text: "given\\n"}
    env: {A: b}
    run: cat; test ! -e file && echo gone; echo $A
"""
    with Supervised() as s:
        s.start()
        run = s.begin(plan=plan)
        assert s.wait(run)["state"] == "succeeded", s.status(run)
        assert s.output(run, "second") == b"line\nresult\ndeep\nline\nlayer\n", s.output(run, "second")
        assert s.output(run, "third").startswith(b"given\ngone\n"), s.output(run, "third")
        assert sorted(s.step(run, "first")["result"]["results"]) == ["d/e", "r"]
        assert os.listdir(s.workspace) == []


def test_exit_status_signal_and_missing_program():
    with Supervised() as s:
        s.start()
        for argv, code, signal, why in ((["/bin/sh", "-c", "exit 7"], 7, 0, ""), (["/bin/sh", "-c", "kill -9 $$"], None, 9, ""),
                                        (["/bin/no-such-program"], 127, 0, "exec: ")):
            run = s.begin(argv)
            done = s.wait(run)
            assert done["state"] == "failed" and done["exit"] == 1, done
            a = s.step(run, done["steps"][0]["name"])["attempts"][0]
            assert (a["exit_code"], a["signal"]) == (code, signal) and (a["why"] or "").startswith(why), a


def test_item_of_a_run_that_has_ended_is_shown_after_a_restart():
    with Supervised() as s:
        s.start()
        run = s.begin(plan="version: 1\nland: never\nsteps:\n  - {name: one, gate: ask, run: 'true'}\n")
        item = s.wait(run, ("waiting",))["needs_person"][0]["approval"]
        assert s.holdfast("approve", item).returncode == 0
        assert s.wait(run)["state"] == "succeeded"
        before = s.get(f"/v1/approvals/{item}").json()
        s.kill()
        s.start()
        for name in (item, item[:8]):
            assert s.get(f"/v1/approvals/{name}").json() == before, name
            p = s.holdfast("show", name)
            assert p.returncode == 0 and "state consumed" in p.stdout, p
        assert s.get("/v1/approvals/" + "0" * 32).status == 404


def test_stdin_reaches_the_command():
    with Supervised() as s:
        s.start()
        run = s.begin(["/bin/cat"], stdin=b"x" * 300000, exec={})
        s.wait(run)
        assert s.output(run, "cat") == b"x" * 300000


def test_landing_asks_at_draft_and_undo_takes_it_back():
    plan = "version: 1\nagency: draft\nsteps:\n  - {name: edit, run: 'echo new > a; echo more > b; rm c'}\n"
    with Supervised() as s:
        s.start()
        write(s, "a", "old\n")
        write(s, "c", "kept\n")
        run = s.begin(plan=plan)
        a = item(s, "landing")
        assert "a" in a["card"] and a["title"], a
        assert read(s, "a") == "old\n" and s.status(run)["state"] == "waiting" and s.status(run)["exit"] == 4
        assert s.post(f"/v1/approvals/{a['approval']}/vote", {"decision": "approve", "card_digest": "0" * 64}).status == 409
        s.kill()
        s.start()
        again = item(s, "landing")
        assert again["approval"] == a["approval"] and again["card_digest"] == a["card_digest"]
        assert vote(s, a).status == 200
        done = s.wait(run)
        assert done["state"] == "succeeded" and done["landing"] == "landed", done
        assert read(s, "a") == "new\n" and read(s, "b") == "more\n" and not os.path.exists(os.path.join(s.workspace, "c"))
        assert vote(s, a, "deny").status == 409, "another word after the decision"
        assert s.post(f"/v1/runs/{run}/undo").status == 200
        end = time.monotonic() + 20
        while s.status(run)["landing"] != "undone":
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        assert read(s, "a") == "old\n" and read(s, "c") == "kept\n" and sorted(os.listdir(s.workspace)) == ["a", "c"]


def test_edit_meanwhile_is_a_conflict_and_nothing_is_lost():
    plan = "version: 1\nsteps:\n  - {name: edit, run: 'echo theirs > a; echo other > b; sleep 1'}\n"
    for choice, expected in (("mine", "mine\n"), ("theirs", "theirs\n")):
        with Supervised() as s:
            s.start()
            write(s, "a", "old\n")
            run = s.begin(plan=plan)
            s.wait_live(run)
            time.sleep(0.1)
            write(s, "a", "mine\n")
            a = item(s, "conflict")
            assert read(s, "a") == "mine\n" and not os.path.exists(os.path.join(s.workspace, "b")), "a half-landed tree"
            assert s.status(run)["exit"] == 9, s.status(run)
            assert vote(s, a, choice=choice).status == 200
            done = s.wait(run)
            assert done["landing"] == "landed" and read(s, "a") == expected and read(s, "b") == "other\n", done


def until(s, run, what, seconds=20):
    end = time.monotonic() + seconds
    while not what(s.status(run)):
        assert time.monotonic() < end, s.status(run)
        time.sleep(0.05)


def test_workspace_that_was_moved_is_landed_in_when_it_is_back():
    with Supervised() as s:
        s.start()
        moved = s.workspace + "-moved"
        write(s, "f", "old\n")
        run = s.begin(plan="version: 1\nsteps:\n  - {name: edit, run: 'echo new > f; sleep 1'}\n")
        s.wait_live(run)
        os.rename(s.workspace, moved)
        until(s, run, lambda now: now["state"] == "paused")
        why = s.status(run)["why"]
        assert s.workspace in why and moved in why and "move it back" in why, why
        assert s.post(f"/v1/runs/{run}/land").status == 409
        os.mkdir(s.workspace)  # another directory at the path is not the run's
        s.post(f"/v1/runs/{run}/resume")
        time.sleep(0.3)
        until(s, run, lambda now: now["state"] == "paused")
        with open(os.path.join(moved, "f")) as f:
            assert f.read() == "old\n" and os.listdir(s.workspace) == []
        os.rmdir(s.workspace)
        os.rename(moved, s.workspace)
        s.post(f"/v1/runs/{run}/resume")
        assert s.wait(run)["landing"] == "landed" and read(s, "f") == "new\n"
        os.rename(s.workspace, moved)
        refused = s.post(f"/v1/runs/{run}/undo")
        why = refused.json()["error"]["why"]  # where it is now is known only as long as the ended run's folder is held
        assert refused.status == 409 and (moved in why or "is not the directory" in why) and s.status(run)["landing"] == "landed", why
        os.rename(moved, s.workspace)
        assert s.post(f"/v1/runs/{run}/undo").status == 200
        until(s, run, lambda now: now["landing"] == "undone")
        assert read(s, "f") == "old\n"


def test_a_landing_holds_up_nobody_else():
    """Held by a failpoint in the middle, so that nothing here depends on how fast a disk is."""
    for where in ("landing.before_exchange=delay:6000@1000", "work.plan=delay:6000"):
        with Supervised() as s:
            s.start({"HOLDFAST_FAILPOINT": where})
            for i in range(10):
                write(s, f"f{i}", f"old {i}\n")
            run = s.begin(plan="version: 1\nsteps:\n  - {name: many, run: 'i=0; while [ $i -lt 2000 ]; do echo $i > f$i; i=$((i+1)); done'}\n")
            state = "landing" if "exchange" in where else "unlanded"
            until(s, run, lambda now: now["steps"][0]["state"] == "committed" and now["landing"] == state, 40)
            if state == "landing":
                time.sleep(1)
            asked = time.monotonic()
            other = os.path.join(s.root, "other")
            os.mkdir(other)
            first = s.workspace
            s.workspace = other
            beside = s.begin(["/bin/echo", "beside"])
            assert s.wait(beside)["state"] == "succeeded" and s.output(beside, "echo") == b"beside\n"
            s.workspace = first
            assert s.get("/v1/approvals").status == 200 and s.events(run)
            assert s.status(run)["landing"] == state, "it was not held, so this showed nothing"
            assert s.post("/v1/gc", {}).status == 200, "garbage is collected once no landing is under way"
            assert s.status(run)["landing"] == "landed" or state == "unlanded"
            assert s.wait(run)["landing"] == "landed" and len(os.listdir(first)) == 2000
            assert time.monotonic() - asked < 60
            assert s.post(f"/v1/runs/{run}/undo").status == 200, "and the gc took none of its pre-images"
            until(s, run, lambda now: now["landing"] == "undone", 60)
            assert {n: read(s, n) for n in os.listdir(first)} == {f"f{i}": f"old {i}\n" for i in range(10)}


def test_undo_that_meets_an_edit_leaves_alone_what_was_removed_since():
    """What the run made and nobody displaced is in no blob: where a person removed it, there is nothing to put back."""
    with Supervised() as s:
        s.start()
        write(s, "x", "old\n")
        run = s.begin(plan="version: 1\nsteps:\n  - {name: edit, run: 'echo new > x; mkdir nd; echo 3 > nd/k; echo 4 > z'}\n")
        assert s.wait(run)["landing"] == "landed"
        write(s, "x", "mine\n")
        os.rename(os.path.join(s.workspace, "z"), os.path.join(s.workspace, "zz"))
        assert s.post(f"/v1/runs/{run}/undo").status == 200
        until(s, run, lambda now: now["landing"] == "conflict")
        assert sorted(os.listdir(s.workspace)) == ["nd", "x", "zz"] and read(s, "x") == "mine\n" and read(s, "nd/k") == "3\n"
        assert vote(s, item(s, "conflict"), choice="theirs").status == 200
        until(s, run, lambda now: now["landing"] == "undone")
        assert sorted(os.listdir(s.workspace)) == ["x", "zz"] and read(s, "x") == "old\n" and read(s, "zz") == "4\n"


def test_what_a_person_removed_while_a_step_ran_is_not_put_back():
    """The step has its copies by then, and the base has nothing when they are sealed: overlay's mark tells that there was something."""
    plan = """version: 1
steps:
  - name: edit
    run: echo x >> gone; echo x >> moved; echo x >> d/f; mv old new; echo ready; until grep -q go sign; do sleep 0.05; done
"""
    with Supervised() as s:
        s.start()
        os.mkdir(os.path.join(s.workspace, "d"))
        for name in ("gone", "moved", "d/f", "old", "sign"):
            write(s, name, "base\n")
        run = s.begin(plan=plan)
        end = time.monotonic() + 60
        while b"ready" not in s.output(run, "edit"):
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        os.unlink(os.path.join(s.workspace, "gone"))
        for name in ("moved", "d"):
            os.rename(os.path.join(s.workspace, name), os.path.join(s.workspace, name + "2"))
        write(s, "sign", "go\n")
        until(s, run, lambda now: now["landing"] == "conflict")
        a = item(s, "conflict")
        assert {"gone", "moved", "d/f"} == {w for w in a["card"].replace(":", " ").split() if w in ("gone", "moved", "d/f", "new", "old")}, a["card"]
        assert sorted(os.listdir(s.workspace)) == ["d2", "moved2", "old", "sign"], "nothing is put back unasked"
        assert vote(s, a, choice="mine").status == 200
        assert s.wait(run)["landing"] == "landed"
        assert sorted(os.listdir(s.workspace)) == ["d2", "moved2", "new", "sign"] and read(s, "new") == "base\n" and read(s, "d2/f") == "base\n"


def test_landing_of_a_damaged_layer_is_a_conflict_that_can_be_answered():
    """Damaged between the plan and its application: all is taken back, and after a repair the same files land."""
    with Supervised() as s:
        s.start()
        write(s, "f", "old\n")
        run = s.begin(plan="version: 1\nland: ask\nsteps:\n  - {name: edit, run: 'echo new > f; echo g > g'}\n")
        asked = item(s, "landing")
        layers = os.path.join(s.state, "v1", "layers")
        (layer,) = [n for n in os.listdir(layers) if os.path.exists(os.path.join(layers, n, "u", "g"))]
        sealed = os.path.join(layers, layer, "u", "g")
        with open(sealed, "r+") as g:
            g.write("X")
        assert vote(s, asked).status == 200
        until(s, run, lambda now: now["landing"] == "conflict")
        a = item(s, "conflict")
        assert f"layer {layer}: not what was sealed; put v1/layers/{layer} of the state directory back" in json.dumps(a), a
        assert os.listdir(s.workspace) == ["f"] and read(s, "f") == "old\n"
        with open(sealed, "r+") as g:
            g.write("g")
        assert vote(s, a, choice="theirs").status == 200
        assert s.wait(run)["landing"] == "landed" and read(s, "g") == "g\n" and read(s, "f") == "new\n"


def test_layers_are_looked_at_before_a_landing_begins():
    """A layer that is not whole lands nothing and begins nothing: who asked is told which, and after a repair it lands."""
    with Supervised() as s:
        s.start()
        run = s.begin(plan="version: 1\nland: never\nsteps:\n  - {name: edit, run: 'echo g > g'}\n")
        assert s.wait(run)["state"] == "succeeded"
        layers = os.path.join(s.state, "v1", "layers")
        (layer,) = [n for n in os.listdir(layers) if os.path.exists(os.path.join(layers, n, "u", "g"))]
        sealed = os.path.join(layers, layer, "u", "g")
        os.rename(sealed, sealed + "-moved")
        refused = s.post(f"/v1/runs/{run}/land")
        why = json.dumps(refused.json())
        assert refused.status >= 400 and f"layer {layer}" in why and f"put v1/layers/{layer}" in why, refused
        assert s.status(run)["landing"] == "unlanded" and os.listdir(s.workspace) == []
        os.rename(sealed + "-moved", sealed)
        assert s.post(f"/v1/runs/{run}/land").status == 200
        until(s, run, lambda now: now["landing"] == "landed")
        assert read(s, "g") == "g\n"


def test_exec_waits_for_a_workspace_that_another_run_has():
    with Supervised() as s:
        s.start()
        first = s.begin(plan="version: 1\nsteps:\n  - {name: hold, run: 'sleep 3'}\n")
        s.wait_live(first)
        command = [os.path.join(BUILD, "tools", "holdfast"), "--state", s.state, "exec", "--workspace", s.workspace, "--land", "--", "/bin/sh", "-c"]
        env = s.environment()
        goes = subprocess.Popen([*command, "echo made > q"], env=env, stderr=subprocess.PIPE)
        ends = subprocess.Popen([*command, "echo no > r"], env=env, stderr=subprocess.PIPE)
        time.sleep(1)
        ends.terminate()
        said = ends.communicate(timeout=20)[1]
        assert ends.returncode == 143 and b"cancelled before its command began" in said, (ends.returncode, said)
        said = goes.communicate(timeout=20)[1]
        assert goes.returncode == 0 and os.listdir(s.workspace) == ["q"], (goes.returncode, said)


def test_gc_leaves_a_landing_that_waits_for_its_workspace():
    with Supervised() as s:
        s.start()
        write(s, "f", "old\n")
        first = s.begin(plan="version: 1\nsteps:\n  - {name: hold, run: 'sleep 4; echo a > a'}\n")
        s.wait_live(first)
        second = s.begin(plan="version: 1\nbase: pinned\nsteps:\n  - {name: edit, run: 'echo new > f'}\n")
        until(s, second, lambda now: now["steps"][0]["state"] == "committed" and now["state"] == "waiting")
        assert "lease" in s.status(second)["waits"] and s.post("/v1/gc", {}).status == 200
        assert s.wait(first)["landing"] == "landed"
        assert s.wait(second, seconds=15)["landing"] == "landed" and read(s, "f") == "new\n", s.status(second)


def test_a_supervisor_that_is_told_to_stop_records_the_landing_under_way():
    with Supervised() as s:
        s.start({"HOLDFAST_FAILPOINT": "landing.before_exchange=delay:3000"})
        write(s, "f", "old\n")
        run = s.begin(plan="version: 1\nsteps:\n  - {name: edit, run: 'echo new > f'}\n")
        until(s, run, lambda now: now["landing"] == "landing")
        s.stop()
        assert read(s, "f") == "new\n"
        s.start()
        assert s.wait(run)["landing"] == "landed"
        assert [e["type"] for e in s.events(run)].count("LANDED") == 1, s.events(run)


def test_gate_asks_before_the_step_and_deny_ends_it():
    plan = "version: 1\nland: never\nsteps:\n  - {name: go, gate: ask, run: 'echo went'}\n"
    for decision, state in (("approve", "succeeded"), ("deny", "failed")):
        with Supervised() as s:
            s.start()
            run = s.begin(plan=plan)
            a = item(s, "step-gate")
            assert s.status(run)["steps"][0]["attempts"] == 0
            assert vote(s, a, decision).status == 200
            assert s.wait(run)["state"] == state
            assert s.output(run, "go") == (b"went\n" if state == "succeeded" else b"")


def test_contract_is_checked_on_the_sealed_layer_and_feedback_comes_back():
    plan = """version: 1
land: never
steps:
  - name: work
    run: cat /run/holdfast/in/feedback 2>/dev/null; if [ -e /run/holdfast/in/feedback ]; then echo right > f; else echo wrong > f; fi
    retry: {max: 3, backoff: 100ms..1s, on: [check]}
    contract: {checks: [{run: [test, -e, f], expect: {exit: 0}}, {run: [grep, -q, right, f], expect: {exit: 0}}]}
"""
    with Supervised() as s:
        s.start()
        run = s.begin(plan=plan)
        done = s.wait(run)
        assert done["state"] == "succeeded" and done["steps"][0]["attempts"] == 2, done
        assert b"check failed" in s.output(run, "work")


def test_protected_path_is_refused_whatever_the_checks_say():
    plan = """version: 1
land: never
steps:
  - name: cheat
    run: mkdir -p tests; echo true > tests/run
    contract: {checks: [{run: ["true"], expect: {exit: 0}}], protected: ["tests/**"]}
"""
    with Supervised() as s:
        s.start()
        run = s.begin(plan=plan)
        end = time.monotonic() + 20
        while "protected" not in json.dumps(s.status(run)):
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        assert s.status(run)["done"] == []


def test_protected_path_of_an_earlier_step_is_not_removed_with_its_folder():
    plan = """version: 1
land: never
steps:
  - name: make
    run: mkdir -p a/tests; echo true > a/tests/x; echo y > a/other
  - name: allowed
    needs: [make]
    run: rm a/other
    contract: {checks: [{run: ["true"], expect: {exit: 0}}], protected: ["a/tests/**"]}
  - name: cheat
    needs: [allowed]
    run: rm -rf a
    contract: {checks: [{run: ["true"], expect: {exit: 0}}], protected: ["a/tests/**"]}
"""
    with Supervised() as s:
        s.start()
        run = s.begin(plan=plan)
        end = time.monotonic() + 30
        while "protected path changed" not in json.dumps(s.status(run)):
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        assert len(s.status(run)["done"]) == 2, s.status(run)


def test_holes_land_as_holes():
    with Supervised() as s:
        s.start()
        run = s.begin(plan="version: 1\nland: auto\nsteps:\n  - {name: w, run: 'truncate -s 20M end; truncate -s 9M mid; "
                           "printf xyz >> mid; truncate -s 12M mid'}\n", agency="trusted")
        assert s.wait(run)["state"] == "succeeded", s.status(run)
        for name, content in (("end", bytes(20 << 20)), ("mid", bytes(9 << 20) + b"xyz" + bytes((3 << 20) - 3))):
            path = os.path.join(s.workspace, name)
            with open(path, "rb") as f:
                assert f.read() == content, name
            assert os.stat(path).st_blocks * 512 < 1 << 20, os.stat(path)


def begin_with_policy(s, text, plan):
    fds = {"workspace": os.open(s.workspace, os.O_RDONLY), "plan": os.memfd_create("plan"), "policy": os.memfd_create("policy")}
    for name, content in (("plan", plan), ("policy", text)):
        os.write(fds[name], content.encode())
        os.lseek(fds[name], 0, os.SEEK_SET)
    body = {"workspace": s.workspace, "env": {"PATH": os.environ["PATH"], "HOME": s.home}, "plan_path": "plan.yaml",
            "policy_path": "policy.yaml"}
    try:
        return s.post("/v1/runs", body, fds)
    finally:
        for fd in fds.values():
            os.close(fd)


def test_layer_past_a_limit_fails_its_step_once():
    for limit, command, why in (("disk: 64KiB", "for i in 1 2 3; do head -c 60000 /dev/zero > f$i; done", "disk"),
                                ("files: 5", "for i in 1 2 3 4 5 6 7 8 9; do echo > f$i; done", "limit")):
        with Supervised() as s:
            s.start()
            a = begin_with_policy(s, f"version: 1\nname: small\nextends: [offline]\nlimits: {{{limit}}}\n",
                                  f"version: 1\nland: never\nsteps:\n  - {{name: work, run: '{command}', retry: {{max: 3}}}}\n")
            assert a.status in (200, 201, 202), a
            run = a.json()["run"]
            s.wait(run, ("failed", "waiting"), 20)
            step = s.step(run, "work")
            assert len(step["attempts"]) == 1, step
            assert why in step["why"], step


def test_output_past_its_limit_is_cut_and_said():
    with Supervised() as s:
        s.start()
        a = begin_with_policy(s, "version: 1\nname: small\nextends: [offline]\nlimits: {output: 64KiB}\n",
                              "version: 1\nland: never\nsteps:\n  - {name: long, run: 'head -c 100000 /dev/zero'}\n"
                              "  - {name: short, run: 'echo all'}\n")
        assert a.status in (200, 201, 202), a
        run = a.json()["run"]
        s.wait(run)
        assert len(s.output(run, "long")) == 65536
        cut = s.step(run, "long")["attempts"][0]
        assert cut["out_size"] == 100000 and "output kept: 65536 of 100000 bytes" in cut["notes"], cut
        whole = s.step(run, "short")["attempts"][0]
        assert not any("kept" in n for n in whole.get("notes", [])), whole


def test_policy_that_demands_what_nobody_enforces_is_refused():
    for demand in ("contract: {checks: [{run: ['true'], expect: {exit: 0}}]}",):
        with Supervised() as s:
            s.start()
            a = begin_with_policy(s, f"version: 1\nname: strict\nextends: [offline]\n{demand}\n",
                                  "version: 1\nland: never\nsteps:\n  - {name: work, run: 'true'}\n")
            assert a.status >= 400 and "does not enforce" in json.dumps(a.json()), (demand, a.json())
            assert a.json()["error"]["exit"] == 8, a.json()


def test_timeout_cancel_and_pause():
    with Supervised() as s:
        s.start()
        run = s.begin(plan="version: 1\nland: never\nsteps:\n  - {name: slow, run: 'sleep 60', timeout: 1s, retry: {max: 1}}\n")
        end = time.monotonic() + 20
        while s.status(run)["state"] not in ("failed", "waiting"):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert s.step(run, "slow")["attempts"][0]["state"] == "timed-out"
        run = s.begin(["/bin/sleep", "60"])
        s.wait_live(run)
        assert s.post(f"/v1/runs/{run}/cancel", {"kill": True}).status == 200
        assert s.wait(run)["state"] == "cancelled"
        run = s.begin(plan="version: 1\nland: never\nsteps:\n  - {name: a, run: 'sleep 1'}\n  - {name: b, needs: [a], run: 'true'}\n")
        s.wait_live(run)
        assert s.post(f"/v1/runs/{run}/pause").status == 200
        time.sleep(2)
        assert s.status(run)["state"] == "paused" and s.status(run)["steps"][-1]["name"] != "b" or \
            s.status(run)["steps"][-1]["attempts"] == 0
        assert s.post(f"/v1/runs/{run}/resume").status == 200
        assert s.wait(run)["state"] == "succeeded"


def test_events_and_output_can_be_followed():
    with Supervised() as s:
        s.start()
        run = s.begin(["/bin/sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.3; done"])
        c = s.client()
        c.send(f"GET /v1/runs/{run}/steps/sh/output?follow=1 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert c.head()[0] == 200
        begun, seen = time.monotonic(), []
        for piece in c.chunks():
            seen.append((time.monotonic() - begun, piece))
        assert b"".join(p for _, p in seen) == b"1\n2\n3\n4\n" and len(seen) >= 3, seen
        a = s.get(f"/v1/runs/{run}/events?follow=1")
        types = [json.loads(line)["type"] for line in a.body.splitlines()]
        assert types[0] == "RUN_CREATED" and types[-1] == "RUN_SUCCEEDED", types
        part = s.get(f"/v1/runs/{run}/events?from=3").body.splitlines()
        assert json.loads(part[0])["seq"] == 3


def test_terminal_is_handed_over():
    with Supervised() as s:
        s.start()
        run = s.begin(["/bin/sh", "-c", "test -t 0 && read x; echo got $x; stty size"], exec={"tty": {"rows": 33, "cols": 77, "term": "vt100"}})
        a = s.get(f"/v1/runs/{run}/steps/sh/tty")
        assert a.status == 200 and len(a.fds) == 1, a
        seen = b""
        end = time.monotonic() + 20
        os.write(a.fds[0], b"hello\n")
        while b"33 77" not in seen and time.monotonic() < end:
            piece = os.read(a.fds[0], 4096)
            if not piece:
                break
            seen += piece
        assert b"got hello" in seen and b"33 77" in seen, seen
        os.close(a.fds[0])


def test_diff_is_made_in_a_sandbox():
    with Supervised() as s:
        s.start()
        write(s, "a", "one\ntwo\n")
        run = s.begin(["/bin/sh", "-c", "echo three >> a; echo x > n"])
        s.wait(run)
        stat = s.get(f"/v1/runs/{run}/diff?stat=1").json()["changes"]
        assert sorted((c["path"], c["change"]) for c in stat) == [("a", "M"), ("n", "A")], stat
        text = s.get(f"/v1/runs/{run}/diff")
        assert text.status == 200 and b"+three" in text.body and b"+x" in text.body, text
        assert b"+three" in s.get(f"/v1/runs/{run}/diff?step=sh").body


def test_untrusted_project_policy_only_takes_away_and_says_so():
    text = "version: 1\nname: p\nfs:\n  - {path: \"${workspace}/secret\", access: none}\n  - {path: /etc/passwd, access: r}\n"
    with Supervised() as s:
        s.start()
        os.mkdir(os.path.join(s.workspace, ".holdfast"))
        write(s, ".holdfast/policy.yaml", text)
        write(s, "secret", "s3cret\n")
        fds = {"workspace": os.open(s.workspace, os.O_RDONLY), "project-policy": os.open(os.path.join(s.workspace, ".holdfast/policy.yaml"), os.O_RDONLY)}
        body = {"env": {"PATH": os.environ["PATH"], "HOME": s.home}, "exec": {"argv": ["/bin/sh", "-c", "cat secret; echo end"]},
                "project_policy_path": os.path.join(s.workspace, ".holdfast/policy.yaml")}
        a = s.post("/v1/runs", body, fds)
        for fd in fds.values():
            os.close(fd)
        assert a.status == 201, a
        done = s.wait(a.json()["run"])
        assert s.output(a.json()["run"], "sh") == b"end\n"
        assert any("holdfast trust" in n for n in done["notes"]), done["notes"]


def test_environment_is_the_policys():
    with Supervised() as s:
        s.start()
        run = s.begin(["/usr/bin/env"], env={"PATH": os.environ["PATH"], "HOME": s.home, "SECRET_TOKEN": "x", "LANG": "C.UTF-8"})
        s.wait(run)
        out = s.output(run, "env").decode()
        assert "SECRET_TOKEN" not in out and "LANG=C.UTF-8" in out and f"HOME={s.home}" in out, out


def test_outside_driver_declares_as_it_goes():
    with Supervised() as s:
        s.start()
        run = s.begin(driver=True)
        a = s.post(f"/v1/runs/{run}/steps", {"name": "one", "argv": ["/bin/sh", "-c", "echo 1"]})
        assert a.status == 201 and a.json()["reused"] is False, a
        end = time.monotonic() + 20
        while len(s.status(run)["done"]) < 1:
            assert time.monotonic() < end, s.status(run)
            time.sleep(0.05)
        b = s.post(f"/v1/runs/{run}/steps", {"name": "one", "argv": ["/bin/sh", "-c", "echo 1"]})
        assert b.status in (200, 201), b
        assert s.post(f"/v1/runs/{run}/end").status == 200
        assert s.wait(run)["state"] == "succeeded"


def test_runs_that_are_over_hold_no_descriptor():
    with Supervised() as s:
        s.start()
        run = s.begin(["/bin/true"])
        s.wait(run)
        time.sleep(2)
        before = len(os.listdir(f"/proc/{s.process.pid}/fd"))
        for _ in range(20):
            s.wait(s.begin(["/bin/true"]))
        time.sleep(2)
        assert len(os.listdir(f"/proc/{s.process.pid}/fd")) <= before + 5
        assert s.status(run)["state"] == "succeeded", "a run that is over can still be asked for"


def test_what_is_said_to_a_run_that_is_over_ends_no_supervisor():
    words = {"cancel": {"kill": True}, "pause": {}, "resume": {}, "agency": {"agency": "observe"}, "land": {}, "undo": {}, "end": {},
             "steps": {"name": "more", "argv": ["/bin/true"]}}
    with contextlib.ExitStack() as stack:
        said = []
        for word, body in words.items():
            s = stack.enter_context(Supervised())
            pid = s.start()["pid"]
            driver = word == "steps"
            run = s.begin(driver=True) if driver else s.begin(["/bin/true"])
            if driver:
                assert s.post(f"/v1/runs/{run}/cancel").status == 200
            s.wait(run)
            time.sleep(1.6)  # two idle ticks without a client: its rows leave memory
            a = s.post(f"/v1/runs/{run}/{word}", body)
            assert a.status == 200 if word in ("resume", "end") else a.json()["error"]["exit"] == 9, (word, a)
            said.append((s, word, run, pid))
        time.sleep(1.6)  # and again, after the word
        for s, word, run, pid in said:
            assert s.process.poll() is None, (word, s.logged()[-2000:])
            assert s.get("/v1/daemon").json()["pid"] == pid and s.status(run)["state"] in ("succeeded", "cancelled"), word


def test_fork_goes_on_from_before_a_step():
    plan = "version: 1\nland: never\nsteps:\n  - {name: a, run: 'echo a > f; echo A'}\n  - {name: b, needs: [a], run: 'cat f; echo B'}\n"
    with Supervised() as s:
        s.start()
        run = s.begin(plan=plan)
        s.wait(run)
        f = s.post(f"/v1/runs/{run}/fork", {"at": "b"})
        assert f.status == 201, f
        other = f.json()["run"]
        assert s.wait(other)["state"] == "succeeded" and other != run
        assert s.output(other, "b") == b"a\nB\n"


if __name__ == "__main__":
    main(sys.modules[__name__])
