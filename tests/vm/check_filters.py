#!/usr/bin/env python3
"""Checks that one LBR served sessions with different branch filters as it must.

    check_filters.py FOLDER    # filters*.{txt,json,jsonl}, of guest/filters.sh

While a session `night` had the LBR for call stacks, another filter had to be refused, naming it; nine
more sessions like it had to get the same kernel events; and a session with --allow-multiplex had to
get another filter in turns, with both told their share of the time. That one's samples must carry
branches that are a history: of two that follow each other, the younger mostly begins near where the
older went (the emulated LBR holds calls and returns, no jumps, so that stubs of the dynamic linker lead
away in between); and no stack of its may be the LBR's.
"""

import argparse
import json
import pathlib
import re
import sys

from check_deferred import unbalanced

# How far from where a branch went the next one may begin.
NEAR_BYTES = 4096


def exit_code(text):
    codes = re.findall(r"^exit code (\d+)$", text, re.M)
    return codes[0] if len(codes) == 1 else codes


def refusal_problems(text):
    flat = " ".join(text.split())
    if exit_code(text) != "1":
        yield f"the second filter was not refused: {flat}"
    for said in ("branch filter any-call", "held by 'night'", "filter call-stack",
                 "--allow-multiplex"):
        if said not in flat:
            yield f"the refusal does not say \"{said}\": {flat}"


def shared_problems(descriptors, status):
    if len(set(descriptors)) != 1 or descriptors[0] == 0:
        yield f"perf descriptors of one session, after the refusal, and of ten: {descriptors}"
    if (int(status.get("sessions_running", 0)), int(status.get("flows", 0))) != (10, 1):
        yield (f"{status.get('sessions_running', 0)} sessions run on {status.get('flows', 0)} "
               "flows, not ten on one")


def share(session):
    stats = session["stats"]
    return int(stats.get("time_running_ns", 0)) / max(1, int(stats.get("time_enabled_ns", 0)))


def turns_problems(session, text, night, night_text):
    for name, one, said in (("the second", session, text), ("night", night, night_text)):
        if exit_code(said) != "0" or one["state"] != "SESSION_STATE_STOPPED":
            yield f"{name} is {one['state']}, lbrctl ended with {exit_code(said)}: {said}"
        wrong = unbalanced(one["stats"])
        if wrong:
            yield f"the account of {name}: {wrong}: {json.dumps(one['stats'])}"
    if not 0.05 < share(session) < 0.95:
        yield f"the second ran {share(session):.0%} of the time: that is no time-sharing"
    if not 0.05 < share(night) < 1:
        yield f"night ran {share(night):.0%} of the time: that is no time-sharing"
    for said in ("time-shared the counters: running", "takes turns on the hardware", "'night'",
                 "the LBR's branches (any)"):
        if said not in " ".join(text.split()):
            yield f"the second's summary does not say \"{said}\": {text}"
    event = session["events"][0]
    if event.get("branch_filter") != "BRANCH_FILTER_ANY":
        yield f"the second's branches are {event.get('branch_filter')}"
    if event["stack_mode"] == "STACK_MODE_LBR":
        yield "the second's stacks are said to be the LBR's"
    modes = {one["stack_mode"] for one in night["events"] if not one.get("side_band")}
    if modes != {"STACK_MODE_LBR"}:
        yield f"night's stacks are {modes}"
    sources = {c["name"]: int(c["value"]) for c in night["stats"].get("stacks_by_source", [])}
    if sources.get("lbr", 0) == 0:
        yield f"none of night's stacks is the LBR's: {sources}"


def branch_counts(samples):
    """(samples with branches, pairs of branches that follow each other, of those near ones, samples
    with a frame of the LBR's in their stack)"""
    holding = pairs = near = by_lbr = 0
    for sample in samples:
        by_lbr += any(frame["source"] in ("lbr", "stitched") for frame in sample["stack"])
        branches = sample.get("branches", [])
        holding += bool(branches)
        for younger, older in zip(branches, branches[1:]):
            pairs += 1
            near += abs(younger["from"]["ip"] - older["to"]["ip"]) < NEAR_BYTES
    return holding, pairs, near, by_lbr


def branch_problems(samples, percent):
    holding, pairs, near, by_lbr = branch_counts(samples)
    if holding < 20 or pairs < 20:
        yield f"{holding} of {len(samples)} samples have branches: too few to tell"
    if near * 100 < pairs * percent:
        yield f"only {near} of {pairs} branches begin near where the one before them went"
    if by_lbr:
        yield f"{by_lbr} stacks have frames of the LBR, which held no call stack"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--title", default="")
    parser.add_argument("--percent", type=float, default=60)
    options = parser.parse_args()
    read = lambda name: (options.folder / name).read_text()
    session, night = json.loads(read("filters.json")), json.loads(read("filters-night.json"))
    samples = [json.loads(line) for line in read("filters.jsonl").splitlines()]
    descriptors = [int(n) for n in read("filters-shared.txt").split()]
    status = json.loads(read("filters-status.json"))
    print(f"filters, {options.title}")
    print("  refused:", " ".join(read("filters-refused.txt").split()))
    print(f"  perf descriptors of one session, after the refusal, of ten: {descriptors}")
    print(f"  in turns: any {share(session):.1%} of its time, night (call-stack) {share(night):.1%};",
          "samples {}, with branches {}; pairs {}, near {}".format(
              len(samples), *branch_counts(samples)[:3]))
    wrong = [*refusal_problems(read("filters-refused.txt")),
             *shared_problems(descriptors, status),
             *turns_problems(session, read("filters.txt"), night, read("filters-night.txt")),
             *branch_problems(samples, options.percent)]
    for line in wrong:
        print("  WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
