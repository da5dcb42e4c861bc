"""A real daemon and the real command line, for tests that use them as a user would."""

import atexit
import collections
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = pathlib.Path(os.environ.get("LBRD_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("LBRD_BUILD", SOURCE / "build/release"))
LBRD = BUILD / "daemon/lbrd"
LBRCTL = BUILD / "client/lbrctl"
DEMO = BUILD / "tests/workload/demo"
RECORDINGS = pathlib.Path(os.environ.get("LBRD_RECORDINGS", SOURCE / "../shared/recordings"))


# Where tests make their files. What fails, or is interrupted, leaves nothing behind either; the
# engine's user has to get through.
tempfile.tempdir = tempfile.mkdtemp(prefix="lbrd-e2e-")
os.chmod(tempfile.tempdir, 0o711)
atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)
# No test goes to servers that this machine's users have.
os.environ.pop("DEBUGINFOD_URLS", None)
# As Ctrl-C does, so that what `with` has begun is ended.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def skip(reason):
    """Ends the whole test as skipped: CTest shows the reason."""
    print("SKIPPED:", reason)
    sys.exit(77)


def require_root():
    if os.geteuid() != 0:
        skip("profiling the machine needs root")


def main():
    unittest.main(verbosity=2)


PATIENCE = 120  # seconds: what takes longer hangs, however busy the machine is


def wait_for(condition):
    """Waits until it holds, and gives what it returned."""
    end = time.time() + PATIENCE
    while not (found := condition()):
        if time.time() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.05)
    return found


def run(*command, timeout=120, **kwargs):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          timeout=timeout, **kwargs)


class Daemon:
    """lbrd on a socket of its own, from `with` to its end, which must be clean.

    `descriptors`: how many it may have open; None: as many as this process. `args`: more of its
    command line. `env`: more of its environment. `history`: it keeps one, as `args` say.
    """

    def __init__(self, descriptors=None, args=(), env=None, history=False):
        self.descriptors = descriptors
        self.args = [str(arg) for arg in args] + ([] if history else ["--no-history"])
        self.env = {**os.environ, **(env or {})}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-test-"))
        self.socket = self.folder / "lbrd.sock"

    def __enter__(self):
        ready, write = os.pipe()
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(
            [str(LBRD), "--socket", str(self.socket), "--ready-fd", str(write),
             *self.args],
            pass_fds=[write], stderr=self.log, preexec_fn=self.limit, env=self.env)
        os.close(write)
        if os.read(ready, 1) != b"\n":
            raise RuntimeError("lbrd does not start: " + self.log_text())
        os.close(ready)
        return self

    def limit(self):
        if self.descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))

    def __exit__(self, kind, value, traceback):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        text = self.log_text()
        self.log.close()
        shutil.rmtree(self.folder)
        if kind is None and code != 0:
            raise RuntimeError(f"lbrd ended with {code}: {text}")

    def log_text(self):
        self.log.flush()
        return (self.folder / "log").read_text()

    def lbrctl(self, *args, **kwargs):
        return run(LBRCTL, "--socket", self.socket, *args, **kwargs)

    def start_lbrctl(self, *args, **kwargs):
        return subprocess.Popen([str(LBRCTL), "--socket", str(self.socket), *map(str, args)],
                                text=True, **kwargs)

    def record(self, *args, timeout=120):
        """Records; gives (samples, session) as lists and dicts."""
        lines, account = self.folder / "samples.jsonl", self.folder / "session.json"
        done = self.lbrctl("-q", "record", "-o", lines, "-o", account, *args, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        with open(lines) as file:
            samples = [json.loads(line) for line in file]
        return samples, Session(json.loads(account.read_text()))

    def record_account(self, *args, timeout=120):
        """Records as a user does, for the table; gives (it, session)."""
        account = self.folder / "session.json"
        done = self.lbrctl("-q", "record", "--table", "-o", account, *args, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout, Session(json.loads(account.read_text()))


def children(pid):
    return [int(child) for child in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def engine_of(process):
    """The pid of a daemon's engine, which does its work: its process is the broker."""
    return wait_for(lambda: children(process.pid))[0]


def events_of(pid):
    """How many perf events the process has open."""
    count = 0
    folder = f"/proc/{pid}/fd"
    for entry in os.listdir(folder):
        try:
            count += os.readlink(f"{folder}/{entry}") == "anon_inode:[perf_event]"
        except OSError:
            pass  # closed meanwhile
    return count


def kernel_events(process):
    """How many it and its children have open."""
    return sum(events_of(pid) for pid in [process.pid, *children(process.pid)])


def cpu_seconds(process):
    """What the daemon's processes have used so far."""
    ticks = 0
    for pid in (process.pid, *children(process.pid)):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(process):
    """Of the daemon's processes, summed: pages that they share are counted in each."""
    pages = sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
                for pid in (process.pid, *children(process.pid)))
    return pages * os.sysconf("SC_PAGESIZE")


class Session(dict):
    """A session's account; counts as integers (JSON has 64-bit ones as text)."""

    def stat(self, name):
        return int(self["stats"][name])

    def dropped(self):
        return {c["name"]: int(c["value"]) for c in self["stats"]["samples_dropped"]}


class Demo:
    """The demo workload, running."""

    def __init__(self, *args):
        self.args = args

    def __enter__(self):
        self.process = subprocess.Popen([str(DEMO), *map(str, self.args)],
                                        stdout=subprocess.DEVNULL)
        time.sleep(1)  # past its start-up
        return self.process

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


def names(sample):
    return [frame["symbol"] for frame in sample["stack"]]


def user_frames(sample):
    return [frame for frame in sample["stack"] if frame["source"] != "kernel"]


def count(values):
    return collections.Counter(values)
