#!/usr/bin/env python3
"""Checks that kernel-deferred user stacks found their samples.

    check_deferred.py FOLDER    # deferred.jsonl and deferred.json, of lbrctl record in a guest

A sample whose user part was put off and never came has the verdict deferred_missing; all others of
the demo, which is always on a CPU, were joined with their answer. Of at least --least samples at
least --percent must be joined, and the session's account must balance. Samples that were not put off
(the kernel may walk some stacks at once) would show as frames by frame_pointer: there must be
none that hide a failure, so they are counted apart.
"""

import argparse
import json
import pathlib
import sys


def count(samples):
    """(joined, missing, at once) of the samples of the demo."""
    joined = missing = at_once = 0
    for sample in samples:
        if not (sample.get("comm") or "").startswith("demo"):
            continue
        if sample["verdict"].get("reason") == "deferred_missing":
            missing += 1
        elif any(frame["source"] == "frame_pointer" for frame in sample["stack"]):
            at_once += 1
        elif any(frame["source"] != "kernel" for frame in sample["stack"]):
            joined += 1
    return joined, missing, at_once


def unbalanced(stats):
    """Why the account does not balance, or None."""
    get = lambda name: int(stats.get(name, 0))
    dropped = sum(int(c["value"]) for c in stats.get("samples_dropped", []))
    if get("samples_generated") != get("samples_seen") + get("samples_lost"):
        return "generated is not seen + lost"
    if get("samples_seen") != get("samples_delivered") + dropped:
        return "seen is not delivered + dropped"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--percent", type=float, default=99)
    parser.add_argument("--least", type=int, default=200)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    with open(options.folder / "deferred.jsonl", encoding="utf-8") as lines:
        joined, missing, at_once = count(json.loads(line) for line in lines)
    session = json.loads((options.folder / "deferred.json").read_text())
    deferred = joined + missing
    share = 100 * joined / deferred if deferred else 0
    print(f"deferred, {options.title}")
    print(f"  of the demo's samples, {joined} of {deferred} deferred ones were joined ({share:.2f} %);",
          f"{at_once} were not put off")
    wrong = unbalanced(session["stats"])
    if wrong:
        print("  WRONG: the account:", wrong, json.dumps(session["stats"]))
    modes = {event["stack_mode"] for event in session["events"] if not event.get("side_band")}
    if modes != {"STACK_MODE_KERNEL_DEFERRED"}:
        print("  WRONG: the session's stacks are", modes)
        wrong = True
    if deferred < options.least:
        print(f"  WRONG: only {deferred} deferred samples, fewer than {options.least}")
    sys.exit(0 if not wrong and deferred >= options.least and share >= options.percent else 1)


if __name__ == "__main__":
    main()
