#!/usr/bin/python3
"""How long a recording takes to become stacks with names: lbrctl report against perf script.

    sudo tests/bench/report_bench.py                    # records 30 s of a mixed load, times both
    sudo tests/bench/report_bench.py --seconds 10
    tests/bench/report_bench.py --input perf.data       # a recording made before
    sudo tests/bench/report_bench.py --smoke            # 1 s, once: shows that it runs

The recording is `perf record -a -F 999 --call-graph dwarf,16384` of the demo workload, g++ compiling and
python3. Every way to read it runs once before it is timed, so that files are in the page cache, and then
in turn with the others; a figure is the median. Wall time is what a user waits; CPU time is what all
processes of the command used.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import LBRCTL
from perf_recording import recording, require_perf


def run_once(command):
    """Runs it with its output thrown away; (wall seconds, CPU seconds)."""
    before = os.times()
    begin = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wall = time.monotonic() - begin
    after = os.times()
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return wall, (after.children_user - before.children_user +
                  after.children_system - before.children_system)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="how long to record (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed (default: 3)")
    parser.add_argument("--input", help="a recording made before")
    parser.add_argument("--keep", metavar="FILE", help="keep the recording here")
    parser.add_argument("--smoke", action="store_true", help="1 s, once: shows that it runs")
    flags = parser.parse_args()
    if flags.smoke:
        flags.seconds, flags.rounds = 1, 1
    require_perf()
    with recording(flags.input, flags.seconds, "-F", 999, "--call-graph", "dwarf,16384") as data:
        if flags.keep and not flags.input:
            shutil.copyfile(data, flags.keep)
        compare(data, flags.rounds)


def compare(data, rounds):
    ways = {
        "perf script --no-inline": ["perf", "script", "--no-inline", "-i", str(data)],
        "lbrctl report": [str(LBRCTL), "-q", "report", "-i", str(data)],
        "lbrctl report --format jsonl": [str(LBRCTL), "-q", "report", "-i", str(data), "--format", "jsonl"],
    }
    summary = subprocess.run([str(LBRCTL), "-q", "report", "-i", str(data), "--format", "session"],
                             capture_output=True, text=True)
    if summary.returncode != 0:
        raise RuntimeError(summary.stderr)
    for command in ways.values():
        run_once(command)
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            times[name].append(run_once(command))
    peer = [statistics.median(part) for part in zip(*times["perf script --no-inline"])]
    print(f"{data.stat().st_size / 1e6:.0f} MB; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"{'':30} {'wall s':>8} {'CPU s':>8} {'faster, wall':>13} {'CPU':>7}")
    for name, runs in times.items():
        wall, cpu = (statistics.median(part) for part in zip(*runs))
        print(f"{name:30} {wall:>8.2f} {cpu:>8.2f} {peer[0] / wall:>11.1f} x {peer[1] / cpu:>5.1f} x")


main()
