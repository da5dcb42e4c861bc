"""Wrong use gives one clear line that says what to do, and a non-zero exit."""

import os
import subprocess
import tempfile
import unittest

from lbrd_fixture import DEMO, Daemon, LBRCTL, LBRD, main, require_root, run


class Errors(unittest.TestCase):
    def assert_refused(self, done, code, *words):
        self.assertEqual(done.returncode, code, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def test_no_daemon(self):
        done = run(LBRCTL, "--socket", "/nonexistent/lbrd.sock", "list")
        self.assert_refused(done, 1, "no daemon", "sudo lbrd", "--socket")

    def test_nothing_to_record(self):
        with Daemon() as daemon:
            self.assert_refused(daemon.lbrctl("record"), 2, "-a", "-p PID", "-- COMMAND")

    def test_bad_pid_event_mode_and_command(self):
        with Daemon() as daemon:
            self.assert_refused(daemon.lbrctl("record", "-p", 2**22 - 1, "-d", "1s"), 1,
                                "no such process")
            self.assert_refused(daemon.lbrctl("record", "-p", -5, "-d", "1s"), 2, "process ID")
            self.assert_refused(daemon.lbrctl("record", "-a", "-e", "no-such-event"), 1,
                                "no-such-event", "try")
            self.assert_refused(daemon.lbrctl("record", "-a", "--stack", "magic"), 2, "--stack",
                                "dwarf")
            self.assert_refused(daemon.lbrctl("record", "-a", "--branch-filter", "most"), 2,
                                "--branch-filter", "any-call")
            self.assert_refused(daemon.lbrctl("record", "-a", "--branch-filter", "any", "--stack",
                                              "lbr"), 2, "branch_filter", "call-stack only")
            self.assert_refused(daemon.lbrctl("record", "-a", "--branch-filter", "any", "-e",
                                              "cpu-clock"), 1, "branch filter any", "no branch stack")
            self.assert_refused(daemon.lbrctl("record", "--", "/nonexistent"), 1, "/nonexistent")
            self.assert_refused(daemon.lbrctl("record", "-a", "-p", 1), 2, "exclude")
            self.assert_refused(daemon.lbrctl("record", "-t", 1, "-C", "0"), 2, "exclude")
            self.assert_refused(daemon.lbrctl("record", "-a", "--", "true"), 2, "--cgroup")
            self.assert_refused(daemon.lbrctl("record", "-C", "0-", "-d", "1s"), 2, "0-3,7")
            self.assert_refused(daemon.lbrctl("record", "-C", "60000", "-d", "1s"), 2, "no CPU 60000")
            self.assert_refused(daemon.lbrctl("record", "-t", 2**22 - 1, "-d", "1s"), 1,
                                f"no thread {2**22 - 1}")
            self.assert_refused(daemon.lbrctl("record", "-t", -5, "-d", "1s"), 2, "thread ID")
            self.assert_refused(daemon.lbrctl("record", "--uid", "no-such-user"), 2, "no-such-user")
            self.assert_refused(daemon.lbrctl("record", "--cgroup", "no/such", "-d", "1s"), 1,
                                "/sys/fs/cgroup/no/such")
            self.assert_refused(daemon.lbrctl("record", "--cgroup", "/proc", "-d", "1s"), 2,
                                "cgroup v2")
            self.assert_refused(daemon.lbrctl("record", "-a", "-d", "soon"), 2, "--duration", "10s")
            self.assert_refused(daemon.lbrctl("record", "-a", "-F", "99", "-c", "5"), 2, "-F", "-c")
            self.assert_refused(daemon.lbrctl("record", "-a", "-F", "99999999"), 2, "too high")
            self.assert_refused(daemon.lbrctl("record", "-a", "-e", "cpu-clock", "-F", "50000"), 2,
                                "too high", "20000")
            self.assert_refused(daemon.lbrctl("record", "-a", "-e", "cpu-clock", "-c", "1000"), 2,
                                "too many", "50000")
            self.assert_refused(daemon.lbrctl("record", "-a", "-o", "x.bmp"), 2, ".svg", "--format")
            self.assert_refused(daemon.lbrctl("record", "-a", "-d", "1s", "-o", "/nonexistent/x.svg"),
                                1, "/nonexistent/x.svg")
            self.assert_refused(daemon.lbrctl("stop", "nobody"), 1, "nobody", "lbrctl list")
            self.assert_refused(daemon.lbrctl("start", "Bad Name", "-a"), 2, "Bad Name")

    def test_a_session_of_that_name(self):
        with Daemon() as daemon:
            self.assertEqual(daemon.lbrctl("start", "twice", "-a", "-F", "19").returncode, 0)
            self.assert_refused(daemon.lbrctl("start", "twice", "-a"), 1, "exists", "lbrctl stop")

    def test_recordings_that_are_none(self):
        self.assert_refused(run(LBRCTL, "report", "--input", "/nonexistent"), 1, "/nonexistent")
        with tempfile.NamedTemporaryFile("w", suffix=".data") as text:
            text.write("this is not a recording\n" * 100)
            text.flush()
            self.assert_refused(run(LBRCTL, "report", "--input", text.name), 2, text.name)
        with tempfile.NamedTemporaryFile("w", suffix=".data") as empty:
            self.assert_refused(run(LBRCTL, "report", "--input", empty.name), 2, empty.name)

    def test_second_daemon_on_the_same_socket(self):
        with Daemon() as daemon:
            self.assert_refused(run(LBRD, "--socket", daemon.socket), 1, "already listens")

    def test_unknown_words(self):
        for command in ([LBRCTL, "frobnicate"], [LBRCTL, "record", "--frobnicate"],
                        [LBRD, "--frobnicate"]):
            done = run(*command)
            self.assertEqual(done.returncode, 2)
            self.assertIn("--help", done.stdout + done.stderr)

    def test_without_root(self):
        def drop():
            os.setgid(65534)
            os.setuid(65534)
        with Daemon() as daemon:
            done = subprocess.run([str(LBRCTL), "--socket", str(daemon.socket), "list"],
                                  capture_output=True, text=True, preexec_fn=drop)
            self.assert_refused(done, 1, "root")
        done = subprocess.run([str(LBRD)], capture_output=True, text=True, preexec_fn=drop)
        self.assert_refused(done, 1, "root", "lbrctl report")

    def test_help_teaches(self):
        words = ("record", "start", "stop", "list", "stream", "watch", "query", "report", "status",
                 "doctor")
        commands = [[LBRCTL, "--help"], *([LBRCTL, word, "--help"] for word in words),
                    [LBRD, "--help"], [DEMO, "--help"]]
        for command in commands:
            done = run(*command)
            self.assertEqual(done.returncode, 0, command)
            self.assertGreater(len(done.stdout), 100, command)
            if command[0] == DEMO:
                continue
            for line in done.stdout.splitlines():
                self.assertLessEqual(len(line), 80, f"{command}: {line}")


if __name__ == "__main__":
    require_root()
    main()
