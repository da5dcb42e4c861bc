#!/usr/bin/env python3
"""Checks what lbrctl doctor found in a guest against what its kernel is known to have.

    check_doctor.py FOLDER --kernel 6.19 --lbr arch|legacy|none    # doctor.json, doctor.txt, …

What is known: from 6.15 on LBR survives context switches under a per-CPU event, and before it does
not; kernel-deferred stacks came with 6.19, exact counts of losses with 6.0. doctor must find each by
trying, and say so in its text.
"""

import argparse
import json
import pathlib
import re
import sys


def version(text):
    return tuple(int(part) for part in text.split("."))


def wanted(kernel, lbr):
    """What each probe must say: name -> verdict, as in the JSON without its prefix."""
    has_lbr = lbr != "none"
    survives = "OK" if kernel >= (6, 15) else "DEGRADED"
    return {
        "perf-events": "OK",
        "default-event": "OK" if has_lbr else "DEGRADED",
        "lbr": "OK" if has_lbr else "MISSING",
        "lbr-over-switches": survives if has_lbr else "NOT_TRIED",
        "lbr-holders": "OK" if has_lbr else "NOT_TRIED",
        "kernel-deferred": "OK" if kernel >= (6, 19) else "MISSING",
        "stack-copies": "OK",
        "build-ids": "OK",
        "lost-counts": "OK",
        "ring-memory": "OK",
        "breakpoints": "OK",
        "kernel-symbols": "OK",
    }


def problems(answer, text, left, kernel, lbr):
    """What is wrong, one line each."""
    found = {probe["name"]: probe for probe in answer["probes"]}
    for name, verdict in wanted(kernel, lbr).items():
        if name not in found:
            yield f"there is no probe {name}"
        elif found[name]["verdict"] != f"PROBE_VERDICT_{verdict}":
            yield f"{name} is {found[name]['verdict']}, not {verdict}: {found[name]['why']}"
    if lbr != "none":
        if answer["lbr_depth"] != 32:
            yield f"LBR is {answer['lbr_depth']} deep, not 32"
        survives = kernel >= (6, 15)
        line = "LBR survives context switches" if survives else "LBR is lost at context switches"
        if line not in text:
            yield f"the text does not say: {line}"
        paragraph = " ".join(answer["stacks"].split())
        said = "keeps each thread's LBR" if survives else "clears LBR at each context switch"
        if said not in paragraph:
            yield f"the verdict does not say: {said}: {paragraph}"
    codes = re.findall(r"^exit code (\d+)$", text, re.M)
    fine = all(p["verdict"] in ("PROBE_VERDICT_OK", "PROBE_VERDICT_NOT_TRIED")
               for p in answer["probes"])
    if codes != ["0" if fine else "1"]:
        yield f"doctor ended with {codes}, though {'all is' if fine else 'not all is'} fine"
    for line in text.splitlines():
        if len(line) > 80:
            yield f"a line is {len(line)} cells wide: {line}"
    if left != ["0", "0"]:
        yield f"left over: {left[0]} perf descriptors and {left[1]} children"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kernel", type=version, required=True)
    parser.add_argument("--lbr", choices=["arch", "legacy", "none"], required=True)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    answer = json.loads((options.folder / "doctor.json").read_text())
    text = (options.folder / "doctor.txt").read_text()
    left = (options.folder / "doctor-left.txt").read_text().split()
    print(f"doctor, {options.title}")
    for probe in answer["probes"]:
        if probe["name"].startswith("lbr"):
            print(f"  {probe['name']}: {probe['verdict'][14:]}: {probe['value']}. {probe['why']}")
    wrong = list(problems(answer, text, left, options.kernel, options.lbr))
    for line in wrong:
        print("  WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
