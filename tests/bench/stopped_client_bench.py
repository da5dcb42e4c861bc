#!/usr/bin/python3
"""What a client that has stopped reading does to nine others, and to the daemon's memory.

    sudo tests/bench/stopped_client_bench.py                 # ten minutes
    sudo tests/bench/stopped_client_bench.py --minutes 1
    sudo tests/bench/stopped_client_bench.py --smoke         # seconds: shows that it runs

Ten clients stream a session each of the whole machine, under the demo workload: nine at --rate, and one at the
highest rate that the kernel allows (--highest), so that the events run at that. A tenth of the time all read; then that one
is stopped (SIGSTOP). Counted is what arrives at the nine before and afterwards, and what is lost on the way,
and the memory of lbrd's processes, each second.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import Daemon, Demo, Session, require_root, resident_bytes

MIB = 1 << 20
OTHERS = 9
HIGHEST = pathlib.Path("/proc/sys/kernel/perf_event_max_sample_rate")


class Client:
    """A stream, and how many samples of it have arrived."""

    def __init__(self, daemon, name):
        self.samples = 0
        self.process = daemon.start_lbrctl("stream", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self.count)
        self.reader.start()

    def count(self):
        while piece := self.process.stdout.buffer.read1(1 << 16):
            self.samples += piece.count(b"\n")

    def end(self):
        said = self.process.stderr.read()
        self.process.wait()
        self.reader.join()
        return said


def stop(daemon, name):
    account = daemon.folder / f"{name}.json"
    stopped = daemon.lbrctl("-q", "stop", name, "-o", account)
    if stopped.returncode != 0:
        raise RuntimeError(stopped.stderr)
    return Session(json.loads(account.read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long it is stopped (default: 10)")
    parser.add_argument("--rate", type=int, default=499, help="of the nine, Hz (default: 499)")
    parser.add_argument("--highest", type=int, default=int(HIGHEST.read_text()),
                        help="of the one that stops, Hz (default: the most that the kernel allows)")
    parser.add_argument("--smoke", action="store_true", help="seconds: shows that it runs")
    flags = parser.parse_args()
    require_root()
    seconds = 3 if flags.smoke else flags.minutes * 60
    highest = 4000 if flags.smoke else flags.highest
    names = [f"s{i}" for i in range(OTHERS)]
    with Daemon() as daemon, Demo():
        def start(name, rate):
            started = daemon.lbrctl("-q", "start", name, "-a", "-F", rate, "--stack", "fp")
            if started.returncode != 0:
                raise RuntimeError(started.stderr)
            return Client(daemon, name)

        clients = [start(name, flags.rate) for name in names]
        stopped = start("highest", highest)
        time.sleep(1)
        memory = []

        def arrived_in(duration):
            before = [client.samples for client in clients]
            begin = time.monotonic()
            while time.monotonic() < begin + duration:
                memory.append(resident_bytes(daemon.process))
                time.sleep(min(1, duration / 4))
            return [(client.samples - was) / (time.monotonic() - begin) for client, was in zip(clients, before)]

        with_it = arrived_in(max(seconds / 10, 2))
        stopped.process.send_signal(signal.SIGSTOP)
        memory.clear()
        without_it = arrived_in(seconds)
        sessions = [stop(daemon, name) for name in [*names, "highest"]]
        stopped.process.send_signal(signal.SIGCONT)
        said = [client.end() for client in clients]
        stopped_said = stopped.end()

    print(f"highest rate {highest} Hz a CPU, nine clients at {flags.rate} Hz, stopped for {seconds:.0f} s")
    print(f"samples/s of each of the nine before: {min(with_it):.0f} to {max(with_it):.0f}")
    kept = [after / max(before, 1) for before, after in zip(with_it, without_it)]
    print(f"afterwards, of that: {min(kept) * 100:.1f} to {max(kept) * 100:.1f} %")
    lost = sum(session.stat("samples_lost") + sum(session.dropped().values()) for session in sessions[:-1])
    missing = [session.stat("samples_delivered") - client.samples for session, client in zip(sessions, clients)]
    print(f"lost by the nine: {lost} before their streams, {sum(missing)} in them"
          f"{''.join(chr(10) + text.strip() for text in said if text.strip())}")
    print(f"the stopped one's session: {sessions[-1].stat('samples_delivered')} samples; its client said: "
          f"{' '.join(stopped_said.split()) or 'nothing'}")
    print(f"memory of lbrd, MiB: {min(memory) / MIB:.1f} to {max(memory) / MIB:.1f}, at the end {memory[-1] / MIB:.1f}")


main()
