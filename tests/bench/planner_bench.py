#!/usr/bin/python3
"""What sessions cost that share kernel events: CPU time of lbrd by number of sessions, in one run on one load.

    sudo tests/bench/planner_bench.py            # 10 s each, five times; medians
    sudo tests/bench/planner_bench.py --smoke    # 1 s each: shows that it runs
"""

import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import Daemon, Demo, cpu_seconds, kernel_events, require_root

TICK = 1 / os.sysconf("SC_CLK_TCK")
# Filters and rates of a crowd, over and over.
KINDS = [("-a", "-F", "999"), ("-a", "-F", "99"), ("--uid", "root", "-F", "499"), ("-C", "0", "-F", "199"),
         ("-a", "-F", "19")]


def measure(sessions, seconds):
    with Daemon() as daemon:
        for i in range(sessions):
            started = daemon.lbrctl("-q", "start", f"s{i}", "--stack", "dwarf", *KINDS[i % len(KINDS)])
            if started.returncode != 0:
                raise RuntimeError(started.stderr)
        time.sleep(1)
        before = cpu_seconds(daemon.process)
        time.sleep(seconds)
        return cpu_seconds(daemon.process) - before, kernel_events(daemon.process)


def main():
    require_root()
    smoke = "--smoke" in sys.argv
    seconds, rounds = (1, 1) if smoke else (10, 5)
    crowds = (1, 10, 100)
    # In turns: what the machine does besides changes from minute to minute.
    measured = {sessions: [] for sessions in crowds}
    with Demo():
        for _ in range(rounds):
            for sessions in crowds:
                measured[sessions].append(measure(sessions, seconds))
    print(f"{'sessions':>8} {'kernel events':>14} {'CPU time of lbrd':>17} {'ratio':>6}")
    alone = None
    for sessions in crowds:
        cpu = statistics.median(cpu for cpu, _ in measured[sessions])
        alone = alone or max(cpu, TICK)
        print(f"{sessions:>8} {max(events for _, events in measured[sessions]):>14} "
              f"{cpu / seconds * 100:>15.2f} % {cpu / alone:>6.2f}")


main()
