"""Who touches this variable: breakpoints by name, every hit with its stack; and who holds them all."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from lbrd_fixture import (Daemon, Session, count, kernel_events, main, names, require_root, run, skip,
                          wait_for)

LEFT, RIGHT, READS = 150, 70, 40

# Touches a variable from two ways, a known number of times each, not so fast that the kernel would
# throttle the event. Prints the variable's address and waits for a line before it begins.
PROGRAM = r"""
#include <stdio.h>
#include <unistd.h>
volatile long watched;
volatile long beside;
static __attribute__((noinline)) void put(long value) { watched = value; beside = value; }
static __attribute__((noinline)) void by_left(long i) { put(i); beside++; }
static __attribute__((noinline)) void by_right(long i) { put(-i); beside--; }
static __attribute__((noinline)) long look(void) { long seen = watched; return seen + beside; }
int main(void) {
  printf("%p %p\n", (void *)&watched, (void *)&put);
  fflush(stdout);
  getchar();
  for (long i = 0; i < LEFT; ++i) { by_left(i); usleep(500); }
  for (long i = 0; i < RIGHT; ++i) { by_right(i); usleep(500); }
  for (long i = 0; i < READS; ++i) { look(); usleep(500); }
  getchar();
  return 0;
}
"""


class Toucher:
    """The program, waiting to begin."""

    binary = None

    @classmethod
    def build(cls, folder):
        source = folder / "toucher.c"
        source.write_text(PROGRAM)
        cls.binary = folder / "toucher"
        # Unoptimized: every function has its frame pointer.
        run("gcc", "-O0", "-g", f"-DLEFT={LEFT}", f"-DRIGHT={RIGHT}", f"-DREADS={READS}", "-o",
            cls.binary, source).check_returncode()

    def __enter__(self):
        self.process = subprocess.Popen([str(self.binary)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.variable, self.put = self.process.stdout.readline().split()
        self.pid = self.process.pid
        # On one CPU, since each counts to a sample's period for itself.
        os.sched_setaffinity(self.pid, {min(os.sched_getaffinity(0))})
        return self

    def line(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def record(daemon, toucher, *args):
    """The program recorded from its first line to its end."""
    lines, account = daemon.folder / "samples.jsonl", daemon.folder / "session.json"
    client = daemon.start_lbrctl("-q", "record", "-p", toucher.pid, "-o", lines, "-o", account,
                                 *args, stderr=subprocess.PIPE)
    wait_for(lambda: "running" in daemon.lbrctl("list").stdout or client.poll() is not None)
    if client.poll() is not None:
        raise RuntimeError(client.communicate()[1])
    toucher.line()
    toucher.line()
    _, err = client.communicate(timeout=120)
    if client.returncode != 0:
        raise RuntimeError(err)
    return ([json.loads(line) for line in lines.read_text().splitlines()],
            Session(json.loads(account.read_text())))


class Breakpoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-breakpoints-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        Toucher.build(cls.folder)

    def assert_two_ways(self, samples):
        self.assertEqual(count(names(s)[0] for s in samples), {"put": LEFT + RIGHT})
        self.assertEqual(count(tuple(names(s)[1:3]) for s in samples),
                         {("by_left", "main"): LEFT, ("by_right", "main"): RIGHT})

    def test_every_write_with_its_stack(self):
        for stack in ("dwarf", "fp"):
            with self.subTest(stack=stack), Daemon() as daemon, Toucher() as toucher:
                samples, session = record(daemon, toucher, "--stack", stack, "-e",
                                          f"mem:{toucher.variable}/8:w")
                self.assert_two_ways(samples)
                self.assertEqual({s["weight"] for s in samples}, {1})
                self.assertEqual(session["events"][0]["unit"], "hits")
                self.assertEqual(session.stat("event_count"), LEFT + RIGHT)
                self.assertEqual(session.stat("samples_lost"), 0)

    def test_reads_and_writes_and_every_nth(self):
        with Daemon() as daemon, Toucher() as toucher:
            samples, _ = record(daemon, toucher, "-e", f"mem:{toucher.variable}:8")
            self.assertEqual(count(names(s)[0] for s in samples),
                             {"put": LEFT + RIGHT, "look": READS})
        with Daemon() as daemon, Toucher() as toucher:
            samples, _ = record(daemon, toucher, "-e", f"mem:{toucher.variable}/8:w", "-c", "10")
            self.assertEqual([s["weight"] for s in samples], [10] * ((LEFT + RIGHT) // 10))

    def test_execution_is_seen_before_it_happens(self):
        with Daemon() as daemon, Toucher() as toucher:
            samples, _ = record(daemon, toucher, "-e", f"mem:{toucher.put}:x")
            self.assert_two_ways(samples)
            self.assertEqual({s["stack"][0]["ip"] for s in samples},
                             {samples[0]["stack"][0]["ip"]})
            self.assertEqual({int(s["stack"][0]["offset"]) for s in samples}, {0})

    def test_the_fifth_is_refused_naming_the_four(self):
        with Daemon() as daemon, Toucher() as toucher:
            event = f"mem:{toucher.variable}/8:w"
            for i in range(4):
                done = daemon.lbrctl("start", f"watch-{i}", "-p", toucher.pid, "-e", event)
                self.assertEqual(done.returncode, 0, done.stderr)
            fifth = daemon.lbrctl("start", "fifth", "-p", toucher.pid, "-e", event)
            self.assertEqual(fifth.returncode, 1)
            for i in range(4):
                self.assertIn(f"'watch-{i}'", fifth.stderr)
            self.assertIn("no breakpoint free", fifth.stderr)
            self.assertEqual(len(fifth.stderr.splitlines()), 1, fifth.stderr)
            # The machine's CPUs too: the process is on one of them. Another process has room.
            everywhere = daemon.lbrctl("start", "everywhere", "-a", "-e", event)
            self.assertEqual(everywhere.returncode, 1)
            self.assertIn("'watch-0'", everywhere.stderr)
            with Toucher() as other:
                done = daemon.lbrctl("start", "other", "-p", other.pid, "-e", event)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(daemon.lbrctl("stop", "watch-2").returncode, 0)
            done = daemon.lbrctl("start", "fifth", "-p", toucher.pid, "-e", event)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_four_of_the_machine_leave_none(self):
        with Daemon() as daemon, Toucher() as toucher:
            # Of different variables: sessions on one share its breakpoints.
            variable = int(str(toucher.variable), 0)
            events = [f"mem:{variable + 8 * i:#x}/8:w" for i in range(5)]
            for i in range(4):
                done = daemon.lbrctl("start", f"all-{i}", "-a", "-e", events[i])
                self.assertEqual(done.returncode, 0, done.stderr)
            done = daemon.lbrctl("start", "shared", "-a", "-e", events[0])
            self.assertEqual(done.returncode, 0, done.stderr)
            for target in (["-a"], ["-p", toucher.pid]):
                done = daemon.lbrctl("start", "one-more", *target, "-e", events[4])
                self.assertEqual(done.returncode, 1)
                self.assertIn("'all-3' (1 on every CPU)", done.stderr)

    def test_others_breakpoints_are_told_apart(self):
        perf = shutil.which("perf")
        if perf is None:
            self.skipTest("perf is not installed")
        with Daemon() as daemon, Toucher() as toucher:
            event = f"mem:{toucher.variable}/8:w"
            with subprocess.Popen([perf, "stat", "-p", str(toucher.pid)] + 4 * ["-e", event],
                                  stderr=subprocess.DEVNULL) as stat:
                try:
                    # Not before perf has its four: a trial of ours would take one of them.
                    wait_for(lambda: kernel_events(stat) >= 4)
                    done = daemon.lbrctl("record", "-p", toucher.pid, "-e", event, "-d", "10ms")
                    self.assertEqual(done.returncode, 1)
                    self.assertIn("outside lbrd (a debugger, perf)", done.stderr)
                finally:
                    stat.kill()

    def test_wrong_names_are_refused_in_a_line(self):
        with Daemon() as daemon:
            for event, word in (("mem:0x1001/8", "multiple"), ("mem:0x1000/3", "length"),
                                ("mem:0x1000:r", "rw"), ("mem:0x1000/4:x", "8"),
                                ("mem:main", "address")):
                done = daemon.lbrctl("record", "-a", "-e", event, "-d", "10ms")
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(word, done.stderr)


def breakpoints_work():
    perf = shutil.which("perf")
    if perf is None:
        return True  # the tests will tell
    return "<not supported>" not in run(perf, "stat", "-e", "mem:0x1000:w", "true").stderr


if __name__ == "__main__":
    require_root()
    if shutil.which("gcc") is None:
        skip("gcc is not installed")
    if not breakpoints_work():
        skip("this machine has no hardware breakpoints, or none that are free")
    main()
