#!/usr/bin/env python3
"""What keeping a history costs: CPU time by thread of lbrd, and bytes on the disk, beside a load.

usage: tests/bench/history_cost.py [--seconds N] [--idle]     (root; a build in LBRD_BUILD)
Prints a table; nothing is asserted.
"""

import argparse
import collections
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import Daemon, Demo, require_root  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def thread_seconds(pid):
    """CPU seconds by thread name, numbers cut off."""
    seconds = collections.Counter()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip().rstrip("0123456789").rstrip("-")
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        seconds[name if name.startswith("lbrd") else "others"] += (
            int(fields[11]) + int(fields[12])) / TICKS
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--idle", action="store_true", help="without the demo workload")
    args = parser.parse_args()
    require_root()
    with tempfile.TemporaryDirectory(prefix="lbrd-history-") as folder:
        path = pathlib.Path(folder) / "history.db"
        with Daemon(history=True, args=("--history", path)) as daemon:
            demo = None if args.idle else Demo()
            if demo:
                demo.__enter__()
            time.sleep(15)  # the first bucket has most definitions
            before, began = thread_seconds(daemon.process.pid), time.time()
            time.sleep(args.seconds)
            used, took = thread_seconds(daemon.process.pid) - before, time.time() - began
            if demo:
                demo.__exit__()
        size = path.stat().st_size  # the log was written back at the end
    store = used["lbrd-store"]
    sampling = sum(used.values()) - store
    print(f"{took:.0f} s, {'idle' if args.idle else 'demo workload'}, {os.cpu_count()} CPUs, 19 Hz")
    for name, seconds in used.most_common():
        print(f"  {name:<16} {seconds:8.2f} s CPU  {100 * seconds / took:6.3f} % of a CPU")
    print(f"  storing / sampling      {store / max(sampling, 1e-9):.2f}")
    print(f"  database                {size / 1024:.0f} KiB"
          f" = {size * 3600 / (took + 15) / 2**20:.1f} MiB an hour at this pace")


if __name__ == "__main__":
    main()
