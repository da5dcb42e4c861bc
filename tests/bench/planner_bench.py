#!/usr/bin/python3
"""What sessions cost that share kernel events: CPU time of lbrd by number of sessions, in one run on one load.

    sudo tests/bench/planner_bench.py            # 10 s each
    sudo tests/bench/planner_bench.py --smoke    # 1 s each: shows that it runs
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import Daemon, Demo, require_root

TICK = os.sysconf("SC_CLK_TCK")
# Filters and rates of a crowd, over and over.
KINDS = [("-a", "-F", "999"), ("-a", "-F", "99"), ("--uid", "root", "-F", "499"), ("-C", "0", "-F", "199"),
         ("-a", "-F", "19")]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def events(pid):
    folder = f"/proc/{pid}/fd"
    return sum(os.readlink(f"{folder}/{entry}") == "anon_inode:[perf_event]"
               for entry in os.listdir(folder))


def measure(sessions, seconds):
    with Daemon() as daemon:
        for i in range(sessions):
            started = daemon.lbrctl("-q", "start", f"s{i}", "--stack", "dwarf", *KINDS[i % len(KINDS)])
            if started.returncode != 0:
                raise RuntimeError(started.stderr)
        time.sleep(1)
        before = cpu_seconds(daemon.process.pid)
        time.sleep(seconds)
        return cpu_seconds(daemon.process.pid) - before, events(daemon.process.pid)


def main():
    require_root()
    seconds = 1 if "--smoke" in sys.argv else 10
    print(f"{'sessions':>8} {'kernel events':>14} {'CPU time of lbrd':>17} {'ratio':>6}")
    alone = None
    with Demo():
        for sessions in (1, 10, 100):
            cpu, kernel_events = measure(sessions, seconds)
            alone = alone or max(cpu, 1 / TICK)
            print(f"{sessions:>8} {kernel_events:>14} {cpu / seconds * 100:>15.2f} % {cpu / alone:>6.2f}",
                  flush=True)


main()
