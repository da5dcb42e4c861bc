#!/usr/bin/python3
"""How many samples a second one client gets over the UNIX socket, and in how many bytes.

    sudo tests/bench/stream_bench.py              # records a mixed load for 20 s, streams it 5 times
    tests/bench/stream_bench.py --input perf.data # a recording made before
    sudo tests/bench/stream_bench.py --smoke      # 2 s, once: shows that it runs

The source is a recording with frame pointers, replayed as fast as it is taken: a daemon reads, resolves
and streams it, and the client (tests/bench/stream_client) decodes the messages. Bytes are those of the
last quarter of the stream, when most definitions are out; those that still come are said apart.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import BUILD, LBRD
from perf_recording import recording

CLIENT = BUILD / "tests/bench/stream_client"


def stream(data):
    done = subprocess.run([str(CLIENT), str(LBRD), str(data)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    figures = json.loads(done.stdout)
    if figures["samples"] != figures["delivered"]:
        raise RuntimeError(f"not all samples came: {done.stdout}")
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="how long to record (default: 20)")
    parser.add_argument("--frequency", type=int, default=25000, help="samples/s a CPU (default: 25000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often it is streamed (default: 5)")
    parser.add_argument("--input", help="a recording made before")
    parser.add_argument("--smoke", action="store_true", help="2 s, once: shows that it runs")
    flags = parser.parse_args()
    if flags.smoke:
        flags.seconds, flags.rounds = 2, 1
    with recording(flags.input, flags.seconds, "-F", flags.frequency, "--call-graph", "fp") as data:
        runs = [stream(data) for _ in range(flags.rounds)]
    rates = sorted(run["samples_per_s"] / 1e6 for run in runs)
    first = runs[0]
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"{first['samples']:,} samples in {first['messages']:,} messages, all of them received")
    print(f"M samples/s: median {statistics.median(rates):.2f}, best {rates[-1]:.2f}")
    print(f"bytes a sample: {first['bytes_per_sample']:.2f}, of which definitions "
          f"{first['definitions']:.2f}")


main()
