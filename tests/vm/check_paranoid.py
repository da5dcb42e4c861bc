#!/usr/bin/env python3
"""Checks what lbrd may do in a guest at kernel.perf_event_paranoid 3, which Debian's kernels begin with.

    check_paranoid.py FOLDER        # paranoid-root.json, paranoid-root.txt, …

The kernel lets nobody but CAP_SYS_ADMIN open events then, not even CAP_PERFMON. lbrd must work with it, and
without it (as under systemd) say what stands in the way and what to do, and work once that is done.
"""

import argparse
import json
import pathlib
import sys

REMEDY = "sysctl kernel.perf_event_paranoid=2"


def problems(folder):
    """What is wrong, one line each."""
    for name, level, works in (("root", 3, True), ("service", 3, False), ("allowed", 2, True)):
        text = (folder / f"paranoid-{name}.txt").read_text()
        lines = text.splitlines()
        probes = {probe["name"]: probe
                  for probe in json.loads((folder / f"paranoid-{name}.json").read_text())["probes"]}
        if lines[0] != str(level):
            yield f"{name}: the level is {lines[0]}, not {level}"
        events = probes["perf-events"]["verdict"] == "PROBE_VERDICT_OK"
        if events != works:
            yield f"{name}: perf-events is {probes['perf-events']['verdict']}"
        if (lines[-1] == "exit code 0") != works:
            yield f"{name}: record ended with {lines[-1]}: {text}"
        if not works and REMEDY not in probes["paranoid-level"]["action"]:
            yield f"{name}: doctor does not say what to do: {probes['paranoid-level']}"
        if not works and REMEDY not in " ".join(text.split()):
            yield f"{name}: record does not say what to do: {text}"
        log = (folder / f"paranoid-{name}.log").read_text()
        if (REMEDY in log) == works:
            yield f"{name}: the daemon's log says: {log}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    print(f"perf_event_paranoid, {options.title}")
    wrong = list(problems(options.folder))
    for line in wrong:
        print("  WRONG:", line)
    if not wrong:
        print("  3: root records; without CAP_SYS_ADMIN nothing does, and it is said why. 2: all do.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
