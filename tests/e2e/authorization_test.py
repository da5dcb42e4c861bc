"""Real users, with real uids: each profiles own programs without any rights, and learns nothing of others."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from lbrd_fixture import Daemon, LBRCTL, PATIENCE, Session, kernel_events, main, require_root, run


ANN, BOB = 1500, 1501  # no user need have these
BUSY = "i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done"


def as_user(uid):
    return {"user": uid, "group": uid, "extra_groups": [], "cwd": "/"}


def kernel_frames(samples):
    return [f for s in samples for f in s["stack"]
            if f["source"] == "kernel" or int(str(f["ip"]), 0) >= 0xffff << 48]


class SharedDaemon(Daemon):
    """A daemon whose socket others can reach."""

    def __enter__(self):
        super().__enter__()
        os.chmod(self.folder, 0o755)
        return self

    def lbrctl_as(self, uid, *args, **kwargs):
        return run(LBRCTL, "--socket", self.socket, *args, **as_user(uid), **kwargs)

    def record_as(self, uid, *args):
        """Records as that user, into files of theirs; gives (samples, session, stderr)."""
        with tempfile.TemporaryDirectory(prefix="lbrd-user-") as folder:
            os.chown(folder, uid, uid)
            lines, account = pathlib.Path(folder, "s.jsonl"), pathlib.Path(folder, "s.json")
            done = self.lbrctl_as(uid, "-q", "record", "-o", lines, "-o", account, *args)
            if done.returncode != 0:
                raise RuntimeError(done.stderr)
            with open(lines) as file:
                samples = [json.loads(line) for line in file]
            return samples, Session(json.loads(account.read_text()))

    def audit(self, *words):
        return [line for line in self.log_text().splitlines()
                if "audit:" in line and all(word in line for word in words)]

    def descriptor(self, uid, line):
        """The answer of <socket>.fd to that user."""
        with socket.socket(socket.AF_UNIX) as connection:
            # What the kernel tells of a peer is its effective user when it connects.
            os.seteuid(uid)
            try:
                connection.connect(f"{self.socket}.fd")
            finally:
                os.seteuid(0)
            connection.sendall(line.encode() + b"\n")
            return connection.recv(4096).decode()


class Busy:
    """A program of that user's that works all the time."""

    def __init__(self, uid, program=("sh", "-c", "while :; do :; done")):
        self.uid, self.program = uid, program

    def __enter__(self):
        self.process = subprocess.Popen(list(map(str, self.program)), **as_user(self.uid))
        # Popen returns once it has executed; being another user's it was from its start.
        self.pid = self.process.pid
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Users(unittest.TestCase):
    def assert_denied(self, done, rule, code=1):
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn(f"(rule {rule})", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_a_user_records_an_own_program_without_any_rights(self):
        with SharedDaemon() as daemon, Busy(BOB):
            samples, session = daemon.record_as(ANN, "-F", "999", "-e", "cpu-clock", "--",
                                                "sh", "-c", BUSY)
            self.assertGreater(len(samples), 50)
            self.assertEqual(len({s["pid"] for s in samples}), 1)
            self.assertEqual({s["comm"] for s in samples}, {"sh"})
            self.assertEqual(kernel_frames(samples), [])
            self.assertTrue(session["spec"]["user_only"])
            self.assertTrue(any("user-code-only" in note for note in session["notes"]))
            self.assertEqual(len(daemon.audit(f"uid={ANN}", "action=start", "result=ok")), 1)
            self.assertEqual(len(daemon.audit(f"uid={ANN}", "action=end", "result=ok")), 1)

    def test_everything_else_is_denied_by_a_rule_and_told_to_the_log(self):
        with SharedDaemon() as daemon, Busy(BOB) as other:
            record = lambda *args: daemon.lbrctl_as(ANN, "record", "-d", "1s", *args)
            self.assert_denied(record("-a"), "no-machine")
            self.assert_denied(record("-C", "0"), "no-machine")
            self.assert_denied(record("--cgroup", "/"), "no-cgroups")
            self.assert_denied(record("--uid", BOB), "own-user")
            self.assert_denied(record("--uid", 0), "own-user")
            self.assert_denied(record("-p", other.pid), "own-processes")
            self.assert_denied(record("-t", other.pid), "own-processes")
            self.assert_denied(record("-p", 1), "own-processes")
            self.assert_denied(record("-p", daemon.process.pid), "own-processes")
            self.assert_denied(record("-p", 2**22 - 1), "own-processes")
            self.assert_denied(record("-F", 50000, "--", "true"), "quota-rate")
            self.assert_denied(record("-e", "mem:0xffffffff81000000:x", "--", "true"),
                               "own-breakpoints")
            self.assertEqual(len(daemon.audit(f"uid={ANN}", "result=denied")), 12)
            self.assertEqual(daemon.lbrctl("list").stdout.count("uid"), 0)

    def test_users_do_not_see_each_others_sessions(self):
        with SharedDaemon() as daemon, Busy(ANN) as ann, Busy(BOB) as bob:
            for uid, process in ((ANN, ann), (BOB, bob)):
                started = daemon.lbrctl_as(uid, "start", "web", "-p", process.pid, "-F", "99")
                self.assertEqual(started.returncode, 0, started.stderr)
            self.assertEqual(daemon.lbrctl("start", "web", "-a", "-F", "99").returncode, 0)
            for uid, process, other in ((ANN, ann, bob), (BOB, bob, ann)):
                listed = daemon.lbrctl_as(uid, "list").stdout
                self.assertEqual(len(re.findall(r"^\S*web ", listed, re.M)), 1, listed)
                self.assertIn(f"pid {process.pid}", listed)
                self.assertNotIn(str(other.pid), listed)
                # A name that another has is free; one's own is taken.
                again = daemon.lbrctl_as(uid, "start", "web", "-p", process.pid)
                self.assertIn("a session 'web' exists", again.stderr)
                for name in (f"{BOB}/web", f"{ANN}/web", "nothing", "session-1"):
                    for command in ("stop", "stream"):
                        done = daemon.lbrctl_as(uid, command, name)
                        self.assertEqual(done.returncode, 1)
                        self.assertIn(f"no session '{name}'", done.stderr)
                        self.assertNotIn("rule", done.stderr)
                stats = json.loads(daemon.lbrctl_as(uid, "status", "--json").stdout)
                self.assertEqual(stats["sessions_running"], 1)
                self.assertEqual(int(stats["resident_bytes"]), 0)
            listed = daemon.lbrctl("list").stdout
            self.assertEqual(re.findall(r"^(\S*web) ", listed, re.M),
                             [f"{ANN}/web", f"{BOB}/web", "web"])
            self.assertEqual(daemon.lbrctl_as(ANN, "-q", "stop", "web").returncode, 0)
            # An admin ends a user's.
            self.assertEqual(daemon.lbrctl("-q", "stop", f"{BOB}/web").returncode, 0)
            self.assertIn("no sessions", daemon.lbrctl_as(BOB, "list").stdout)

    def test_all_of_a_users_processes_and_no_others(self):
        with SharedDaemon() as daemon, Busy(ANN) as ann, Busy(BOB) as bob:
            samples, session = daemon.record_as(ANN, "--uid", ANN, "-d", "3s", "-e", "cpu-clock")
            pids = {s["pid"] for s in samples}
            self.assertIn(ann.pid, pids)
            self.assertNotIn(bob.pid, pids)
            self.assertEqual(kernel_frames(samples), [])
            # Besides the busy one, lbrctl is the user's own.
            self.assertLessEqual(len(pids), 2, {(s["pid"], s["comm"]) for s in samples})
            self.assertGreater(session.dropped()["other_user"], 10)

    def test_users_share_one_set_of_events_and_see_their_own(self):
        users = [ANN, BOB, *range(1502, 1510)]
        with SharedDaemon() as daemon, Busy(ANN) as ann, Busy(BOB) as bob:
            def start(uid, name, *args):
                done = daemon.lbrctl_as(uid, "start", name, "-e", "cpu-clock", "--stack", "fp", *args)
                self.assertEqual(done.returncode, 0, done.stderr)
            start(ANN, "first", "--uid", ANN, "-F", "499")
            alone = kernel_events(daemon.process)
            self.assertGreater(alone, 0)
            for uid in users:
                for i in range(4):
                    start(uid, f"s{i}", "--uid", uid, "-F", 99 + 100 * i)
            start(ANN, "one", "-p", ann.pid, "-F", "499")
            start(BOB, "part", "--uid", BOB, "-F", "499", "--only-cpus", "0")
            self.assertEqual(kernel_events(daemon.process), alone)
            for uid, busy, other in ((ANN, ann, bob), (BOB, bob, ann)):
                ticks = lambda: sum(map(int, pathlib.Path(
                    f"/proc/{busy.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
                before = ticks()
                samples, session = daemon.record_as(
                    uid, "--uid", uid, "-F", "499", "-e", "cpu-clock", "--stack", "fp", "-d", "5s")
                used = (ticks() - before) / os.sysconf("SC_CLK_TCK")
                self.assertEqual(kernel_events(daemon.process), alone)
                pids = {s["pid"] for s in samples}
                self.assertIn(busy.pid, pids)
                self.assertNotIn(other.pid, pids)
                self.assertEqual(kernel_frames(samples), [])
                estimated = sum(s["weight"] for s in samples if s["pid"] == busy.pid) / 1e9
                self.assertAlmostEqual(estimated / used, 1, delta=0.25)
                # Nobody is told who else has a share, and what they ask for.
                self.assertEqual(session["flow"]["sessions"], 0)
                self.assertEqual(session["flow"]["frequency_hz"], 0)
            for uid in users[2:]:
                self.assertEqual(daemon.lbrctl_as(uid, "-q", "stop", "s0").returncode, 0)
            mine = json.loads(daemon.lbrctl_as(
                ANN, "-q", "stop", "one", "--format", "session").stdout)
            self.assertGreater(int(mine["stats"]["samples_delivered"]), 100)

    def test_a_setuid_program_is_not_shown_to_who_runs_it(self):
        with SharedDaemon() as daemon, tempfile.TemporaryDirectory(prefix="lbrd-suid-") as folder:
            os.chmod(folder, 0o755)
            privileged = shutil.copy(os.path.realpath(sys.executable), f"{folder}/privileged")
            os.chown(privileged, 0, 0)
            os.chmod(privileged, 0o4755)
            work = "import os, time; assert os.geteuid() == 0\nend = time.time() + %d\n" \
                   "while time.time() < end: sum(range(1000))"
            # Executed within what is profiled: the user's part is there, the other is not.
            samples, _ = daemon.record_as(
                ANN, "-F", "999", "-e", "cpu-clock", "--", "sh", "-c",
                f"{BUSY}; exec {privileged} -c '{work % 2}'")
            self.assertGreater(len(samples), 50)
            self.assertEqual({s["comm"] for s in samples}, {"sh"})
            with Busy(ANN, (privileged, "-c", work % 60)) as running:
                while pathlib.Path(f"/proc/{running.pid}/comm").read_text() != "privileged\n":
                    time.sleep(0.01)
                self.assert_denied(daemon.lbrctl_as(ANN, "record", "-p", running.pid),
                                   "own-processes")
                samples, _ = daemon.record_as(ANN, "--uid", ANN, "-d", "2s", "-e", "cpu-clock")
                self.assertNotIn(running.pid, {s["pid"] for s in samples})

    def test_descriptors_of_own_processes_only(self):
        with SharedDaemon() as daemon, Busy(ANN) as ann:
            self.assertEqual(daemon.lbrctl_as(ANN, "start", "one", "-p", ann.pid).returncode, 0)
            self.assertEqual(daemon.lbrctl_as(ANN, "start", "all", "--uid", ANN).returncode, 0)
            self.assertRegex(daemon.descriptor(ANN, "one 0"), "^ok ")
            self.assertIn("own-descriptors", daemon.descriptor(ANN, "all 0"))
            for name in ("one", "all", f"{ANN}/one"):
                self.assertIn(f"no session '{name}'", daemon.descriptor(BOB, f"{name} 0"))
            self.assertRegex(daemon.descriptor(0, f"{ANN}/all 0"), "^ok ")
            # Who connects and says nothing keeps nobody waiting.
            silent = []
            for _ in range(8):
                silent.append(socket.socket(socket.AF_UNIX))
                silent[-1].connect(f"{daemon.socket}.fd")
            self.assertRegex(daemon.descriptor(ANN, "one 0"), "^ok ")
            for connection in silent:
                connection.close()

    def test_quotas(self):
        with SharedDaemon() as daemon, Busy(ANN) as ann, Busy(BOB) as bob:
            for i in range(8):
                started = daemon.lbrctl_as(ANN, "start", f"s{i}", "-p", ann.pid, "-F", "9")
                self.assertEqual(started.returncode, 0, started.stderr)
            self.assert_denied(daemon.lbrctl_as(ANN, "start", "s8", "-p", ann.pid),
                               "quota-sessions")
            self.assertEqual(daemon.lbrctl_as(BOB, "start", "s0", "-p", bob.pid).returncode, 0)

    def test_doctor_says_what_it_left_out(self):
        with SharedDaemon() as daemon:
            done = daemon.lbrctl_as(ANN, "doctor")
            self.assertIn(done.returncode, (0, 1), done.stderr)
            self.assertIn("kernel-symbols", done.stdout)


if __name__ == "__main__":
    require_root()
    main()
