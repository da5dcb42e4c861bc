#!/usr/bin/python3
"""What it costs to sample the whole machine with stack copies and names: lbrd against perf and sysprof.

    sudo tests/bench/live_cost_bench.py                # 20 s each, at 99 and 999 Hz
    sudo tests/bench/live_cost_bench.py --seconds 120 --rates 99
    sudo tests/bench/live_cost_bench.py --smoke        # 1 s each: shows that it runs

One load, one run: the demo workload, python3 and g++ compiling. Counted is the CPU time of all processes of
each profiler until its stacks have names: lbrd's broker and engine and `lbrctl record`; `perf record -a
--call-graph dwarf,16384` and `perf script --no-inline` of its file; `sysprof-cli` (frame pointers only; where it
is installed). A sample's cost is CPU time by samples, since a profiler that loses samples is not cheaper for it.
Two sessions of one daemon: the first begins with nothing known, as perf does each time; the next one finds the
machine's binaries known, as in a service that runs on.

Then the memory of lbrd's processes (RSS, summed: pages that they share are counted twice), idle and with 500
processes profiled.
"""

import argparse
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import BUILD, Daemon, cpu_seconds, require_root, resident_bytes
from mixed_load import MixedLoad
from perf_recording import require_perf

MIB = 1 << 20
PROCESSES = 500
# Each runs a little and sleeps, so that it has samples; the interpreter maps what a usual program does.
SLEEPER = "import time\nwhile True:\n    sum(range(20000))\n    time.sleep(0.2)"


def children_cpu():
    times = os.times()
    return times.children_user + times.children_system


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def lbrd_costs(frequency, seconds):
    """(CPU seconds, samples, samples lost) of a daemon's first session, and of its next"""
    costs = []
    with Daemon() as daemon:
        time.sleep(1)
        for _ in range(2):
            before = cpu_seconds(daemon.process) + children_cpu()
            _, session = daemon.record_account("-a", "-F", frequency, "--stack", "dwarf", "-d", f"{seconds}s",
                                               timeout=seconds + 120)
            cpu = cpu_seconds(daemon.process) + children_cpu() - before
            delivered = session.stat("samples_delivered")
            costs.append((cpu, delivered, session.stat("samples_generated") - delivered))
    return costs


def perf_cost(frequency, seconds, folder):
    data = folder / "perf.data"
    before = children_cpu()
    run("perf", "record", "-q", "-a", "-F", frequency, "--call-graph", "dwarf,16384", "-m", "8M", "-o", data, "--",
        "sleep", seconds)
    recorded = children_cpu()
    with open(folder / "script.txt", "w") as out:
        subprocess.run(["perf", "script", "--no-inline", "-F", "ip,sym", "-i", str(data)], stdout=out,
                       stderr=subprocess.DEVNULL, check=True)
    cpu = children_cpu() - before
    stats = run("perf", "report", "--stats", "-i", data)
    count = {words[0]: int(words[2]) for words in (line.split() for line in stats.splitlines())
             if len(words) >= 3 and words[1] == "events:" and words[2].isdigit()}
    data.unlink()
    return cpu, count.get("SAMPLE", 0), count.get("LOST_SAMPLES", 0), recorded - before


class SystemBus:
    """What sysprof-cli asks for; a bus of its own where there is none."""

    SOCKET = pathlib.Path("/run/dbus/system_bus_socket")

    def __enter__(self):
        self.bus = None
        if not self.SOCKET.exists() and shutil.which("dbus-daemon"):
            pathlib.Path("/run/dbus").mkdir(exist_ok=True)
            self.bus = subprocess.Popen(["dbus-daemon", "--system", "--nofork", "--nopidfile"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1)
        return self

    def __exit__(self, *_):
        if self.bus is not None:
            self.bus.terminate()
            self.bus.wait()
            self.SOCKET.unlink(missing_ok=True)


def samples_in(capture):
    """How many samples a .syscap has: after a header of 256 bytes, frames of (u16 length, i16 CPU, i32 pid,
    i64 time, u8 type, ...)."""
    content = capture.read_bytes()
    at, count = 256, 0
    while at + 24 <= len(content):
        length, kind = struct.unpack_from("<H14xB", content, at)
        count += kind == 2
        at += max(length, 24)
    return count


def sysprof_cost(seconds, folder):
    """(CPU seconds, samples), or why there are none. It samples every 1,200,000 cycles, as it likes."""
    if shutil.which("sysprof-cli") is None:
        return "it is not installed (Debian: sysprof)"
    capture = folder / "capture.syscap"
    environment = dict(os.environ)
    if not pathlib.Path("/sys/bus/event_source/devices/cpu").exists():
        environment["LD_PRELOAD"] = str(BUILD / "tests/bench/libcycles_by_clock.so")
    before = children_cpu()
    with SystemBus():
        recording = subprocess.Popen(["sysprof-cli", "--force", "--no-network", "--no-disk", "--no-memory",
                                      "--no-cpu", "--no-battery", str(capture)], env=environment,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        recording.send_signal(signal.SIGINT)
        _, said = recording.communicate(timeout=60)
    samples = samples_in(capture) if capture.exists() else 0
    capture.unlink(missing_ok=True)  # it holds every process's command line
    if samples == 0:
        return "it recorded nothing: " + " ".join(said.split())[-200:]
    return children_cpu() - before, samples


def row(name, cpu, seconds, samples=None, lost=None, ratio=None):
    print(f"{name:34} {cpu:>7.2f} {cpu / seconds * 100:>7.2f} % "
          f"{'' if samples is None else samples:>9} {'' if lost is None else lost:>7} "
          f"{'' if not samples else f'{cpu / samples * 1e6:.1f}':>10} {'' if ratio is None else f'{ratio:.2f}':>7}",
          flush=True)


def compare(frequencies, seconds, folder):
    print(f"{'':34} {'CPU s':>7} {'of a CPU':>9} {'samples':>9} {'lost':>7} {'us/sample':>10} {'to perf':>7}")
    for frequency in frequencies:
        with MixedLoad(folder):
            first, later = lbrd_costs(frequency, seconds)
            perf = perf_cost(frequency, seconds, folder)
        for name, cost in ((f"lbrd, lbrctl, {frequency} Hz", first), ("  the daemon's next session", later)):
            row(name, cost[0], seconds, cost[1], cost[2], cost[0] / max(perf[0], 0.01))
        row(f"perf record + script, {frequency} Hz", perf[0], seconds, perf[1], perf[2], 1)
        row("  of which perf record", perf[3], seconds)
    with MixedLoad(folder):
        sysprof = sysprof_cost(seconds, folder)
    if isinstance(sysprof, str):
        print(f"sysprof: not measured, {sysprof}")
    else:
        row("sysprof-cli, frame pointers", sysprof[0], seconds, sysprof[1])


def memory(processes, seconds):
    with Daemon() as daemon:
        time.sleep(1)
        print(f"lbrd's processes, idle: {resident_bytes(daemon.process) / MIB:.1f} MiB resident")
        sleepers = [subprocess.Popen(["python3", "-c", SLEEPER], stdout=subprocess.DEVNULL)
                    for _ in range(processes)]
        try:
            time.sleep(seconds / 2)
            recording = daemon.start_lbrctl("-q", "record", "-a", "-F", "999", "--stack", "dwarf", "-d",
                                            f"{seconds}s", stdout=subprocess.DEVNULL)
            largest = 0
            while recording.poll() is None:
                largest = max(largest, resident_bytes(daemon.process))
                time.sleep(0.1)
        finally:
            for sleeper in sleepers:
                sleeper.kill()
            for sleeper in sleepers:
                sleeper.wait()
        print(f"with {processes} processes profiled at 999 Hz: at most {largest / MIB:.1f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="how long each (default: 20)")
    parser.add_argument("--rates", type=int, nargs="+", default=[99, 999], metavar="HZ",
                        help="samples a second of each CPU (default: 99 999)")
    parser.add_argument("--smoke", action="store_true", help="1 s each: shows that it runs")
    flags = parser.parse_args()
    require_root()
    require_perf()
    seconds = 1 if flags.smoke else flags.seconds
    with tempfile.TemporaryDirectory(prefix="lbrd-bench-") as folder:
        compare([99] if flags.smoke else flags.rates, seconds, pathlib.Path(folder))
        memory(20 if flags.smoke else PROCESSES, seconds)


main()
