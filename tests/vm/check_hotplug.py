#!/usr/bin/env python3
"""Checks that a session outlived CPUs going off and on.

    check_hotplug.py FOLDER    # hotplug.json, hotplug.txt, hotplug-toggles.txt, fork-storm*.txt

The session must have ended by itself, as it was to; its account must balance; CPUs must really have
gone off and on, and processes forked. Its gaps must be told: no more than CPUs went off; the first 64
one by one, each after the one before it of the same CPU; and the time of all of them together, with
the time that the events were enabled, must be CPUs x time, but for --percent: at least the time that
was asked for, and at most the session's running time, which ends when its last record is read, on a
busy machine long after its events have stopped.
"""

import argparse
import json
import pathlib
import re
import sys

from check_deferred import unbalanced


TOLD_ONE_BY_ONE = 64


def gap_problems(session, offs, percent, seconds):
    stats = session["stats"]
    count, gaps = int(stats.get("gap_count", 0)), stats.get("gaps", [])
    if count == 0:
        yield "the session does not tell of its gaps"
        return
    if count > offs:
        yield f"{count} gaps, but CPUs went off {offs} times"
    if len(gaps) != min(count, TOLD_ONE_BY_ONE):
        yield f"{len(gaps)} of {count} gaps are told one by one"
    last = {}
    for gap in gaps:
        cpu, begin, end = gap.get("cpu", 0), int(gap["from_ns"]), int(gap.get("to_ns", 0))
        if cpu == 0:
            yield f"CPU 0 never went: {gap}"
        if end and end < begin:
            yield f"a gap that ends before it begins: {gap}"
        if last.get(cpu) == 0 or begin < last.get(cpu, begin):
            yield f"two gaps of one CPU at once: {gap}"
        last[cpu] = end
    whole = session["cpus"] * float(session["running_time"].rstrip("s"))
    enabled, away = (int(stats[name]) / 1e9 for name in ("time_enabled_ns", "gap_ns"))
    least = session["cpus"] * seconds
    if not least * (1 - percent / 100) <= enabled + away <= whole * (1 + percent / 100):
        yield (f"{session['cpus']} CPUs were there for {least} to {whole:.1f} s, but enabled {enabled:.1f} s "
               f"+ gaps {away:.1f} s = {enabled + away:.1f} s")


def by_lbr(session):
    """(user stacks whose oldest frame is LBR's, user stacks)"""
    sources = {c["name"]: int(c["value"]) for c in session["stats"].get("stacks_by_source", [])}
    return sources.get("lbr", 0), int(session["stats"].get("user_samples", 0))


def lbr_problems(session):
    modes = {event["stack_mode"] for event in session["events"] if not event.get("side_band")}
    if modes != {"STACK_MODE_LBR"}:
        yield f"the session's stacks are {modes}"
    lbr, users = by_lbr(session)
    # Most CPUs went and came back early: without LBR from then on few stacks would have it.
    if lbr * 2 < users or users == 0:
        yield f"only {lbr} of {users} user stacks are LBR's"


def problems(session, text, toggles, forks, percent=5, seconds=60):
    if "hung" in text:
        yield "the session hung"
    codes = re.findall(r"^exit code (\d+)$", text, re.M)
    if codes != ["0"]:
        yield f"lbrctl ended with {codes}"
    if session["state"] != "SESSION_STATE_STOPPED":
        yield f"the session is {session['state']}: {session.get('error')}"
    wrong = unbalanced(session["stats"])
    if wrong:
        yield f"the account: {wrong}: {json.dumps(session['stats'])}"
    if int(session["stats"]["samples_delivered"]) == 0:
        yield "no sample was delivered"
    if min(toggles) < 20 * seconds / 60:
        yield f"CPUs went off {toggles[0]} and on {toggles[1]} times: too few to tell"
    if forks < 1000 * seconds / 60:
        yield f"only {forks} forks: too few to tell"
    yield from gap_problems(session, toggles[0], percent, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--title", default="")
    parser.add_argument("--percent", type=float, default=5)
    parser.add_argument("--seconds", type=int, default=60, help="how long it was to run")
    parser.add_argument("--lbr", default="none", help="of the guest: none, arch or legacy")
    options = parser.parse_args()
    session = json.loads((options.folder / "hotplug.json").read_text())
    text = (options.folder / "hotplug.txt").read_text()
    toggles = [int(n) for n in (options.folder / "hotplug-toggles.txt").read_text().split()]
    storms = [(options.folder / f"fork-storm{which}.txt").read_text().split() for which in ("", "-anywhere")]
    forks = sum(int(storm[0]) for storm in storms)
    rate = sum(int(storm[0]) / float(storm[1]) for storm in storms)
    print(f"hotplug, {options.title}")
    stats = session["stats"]
    shown = ("samples_generated", "samples_seen", "samples_lost", "side_band_lost", "late_records",
             "gap_count", "gap_ns", "time_enabled_ns")
    print(f"  CPUs went off {toggles[0]} and on {toggles[1]} times; {forks} forks, {rate:.0f} a second;",
          f"{session['cpus']} CPUs for {session['running_time']};",
          ", ".join(f"{name} {stats.get(name, 0)}" for name in shown))
    wrong = list(problems(session, text, toggles, forks, options.percent, options.seconds))
    if options.lbr != "none":
        print("  user stacks by LBR: {} of {}".format(*by_lbr(session)))
        wrong += lbr_problems(session)
    for line in wrong:
        print("  WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
