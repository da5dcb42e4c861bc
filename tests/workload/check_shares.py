#!/usr/bin/env python3
"""Compares a profile of the demo program with what is known about it.

    demo --truth >truth.json
    check_shares.py truth.json out.jsonl               # from lbrctl record --format jsonl
    check_shares.py truth.json --perf-script out.txt   # from perf script

Prints one line per function and exits 0 when each share is within --points of the truth and at
least --complete percent of the demo's samples reach the thread's first function. Samples of its
children are left out, as in the truth.
"""

import argparse
import json
import re
import sys


def jsonl_samples(path):
    """Yields (comm, symbols from the leaf outwards, weight)."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sample = json.loads(line)
            if "stack" in sample:
                symbols = [frame.get("symbol") or "" for frame in sample["stack"]]
                yield sample.get("comm", ""), symbols, sample.get("weight", 1)


def perf_script_samples(path):
    comm, symbols = None, []
    frame = re.compile(r"^\s+[0-9a-f]+ (.*) \([^()]*\)$")
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if not line:
                if comm is not None:
                    yield comm, symbols, 1
                comm, symbols = None, []
            elif line[0] in " \t" and comm is not None and (match := frame.match(line)):
                symbols.append(re.sub(r"\+0x[0-9a-f]+$", "", match.group(1)))
            elif not line.startswith("#"):
                comm = re.sub(r"\s+\d+(/\d+)?\s.*$", "", line).strip()
    if comm is not None:
        yield comm, symbols, 1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("truth", help="what demo --truth printed")
    parser.add_argument("profile")
    parser.add_argument(
        "--perf-script", action="store_true", help="PROFILE is the text of perf script"
    )
    parser.add_argument(
        "--points", type=float, default=3.0, help="how far off a share may be (default 3)"
    )
    parser.add_argument(
        "--complete", type=float, default=0.0, help="percent of complete stacks wanted (default 0)"
    )
    parser.add_argument("--least", type=int, default=200, help="samples wanted (default 200)")
    options = parser.parse_args()

    with open(options.truth, encoding="utf-8") as file:
        truth = json.load(file)
    functions = [
        (f["function"], re.compile(f["pattern"]), f["thread"], f["share"])
        for f in truth["functions"]
    ]
    threads = set(truth["threads"])
    seen = {name: 0 for name, *_ in functions}
    counted = total = complete = other = 0
    samples = perf_script_samples if options.perf_script else jsonl_samples
    for comm, symbols, weight in samples(options.profile):
        if comm not in threads:
            continue
        counted += 1
        total += weight
        complete += weight * any("demo::RunWorker" in symbol for symbol in symbols)
        # The innermost of the known functions: below it there is at most a clock read or the kernel.
        for symbol in symbols:
            name = next(
                (name for name, pattern, _, _ in reversed(functions) if pattern.search(symbol)),
                None,
            )
            if name:
                seen[name] += weight
                break
        else:
            other += weight
    if counted < options.least:
        print(
            f"only {counted} samples of the demo's threads, {options.least} are wanted",
            file=sys.stderr,
        )
        return 1

    worst = 0.0
    print(f"{'function':30} {'thread':14} {'truth':>7} {'seen':>7} {'off by':>7}")
    for name, _, thread, share in functions:
        percent = 100 * seen[name] / total
        worst = max(worst, abs(percent - 100 * share))
        print(
            f"{name:30} {thread:14} {100 * share:6.2f}% {percent:6.2f}% {percent - 100 * share:+7.2f}"
        )
    print(f"{'elsewhere':45} {'':7} {100 * other / total:6.2f}%")
    complete_percent = 100 * complete / total
    print(
        f"{counted} samples; worst {worst:.2f} points off; {complete_percent:.2f} % complete stacks"
    )
    return 0 if worst <= options.points and complete_percent >= options.complete else 1


if __name__ == "__main__":
    sys.exit(main())
