"""The broker and its engine: who has which rights, what the engine can still do, and that another one
takes its place when it dies."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from lbrd_fixture import (Daemon, Demo, LBRCTL, LBRD, PATIENCE, children, engine_of, events_of,
                          kernel_events, main, require_root, run, wait_for)

# CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_SYSLOG: for its work. CAP_SETUID, CAP_SETGID, CAP_KILL:
# to start an engine as another user, and end it. CAP_IPC_LOCK: only where RLIMIT_MEMLOCK binds.
BROKER = {38, 19, 2, 34, 7, 6, 5, 14}
# CAP_SYS_ADMIN: where the kernel has a third level, and asks for this.
if int(pathlib.Path("/proc/sys/kernel/perf_event_paranoid").read_text()) > 2:
    BROKER.add(21)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def capabilities(text):
    bits = int(text, 16)
    return {number for number in range(64) if bits >> number & 1}


def other_engine(daemon, before):
    """The pid of the engine that took the place of `before`, once it serves."""
    def found():
        now = children(daemon.process.pid)
        return now and now[0] != before and now[0]
    return wait_for(found)


class Rights(unittest.TestCase):
    def test_the_engine_has_none(self):
        with Daemon() as daemon:
            engine = status_of(engine_of(daemon.process))
            self.assertNotIn("0", engine["Uid"].split())
            self.assertNotIn("0", engine["Gid"].split())
            self.assertNotIn("0", engine["Groups"].split())
            for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                self.assertEqual(int(engine[kind], 16), 0, kind)
            self.assertEqual(engine["NoNewPrivs"], "1")
            self.assertEqual(engine["Seccomp"], "2")
            # Each of its threads.
            pid = engine["Pid"]
            for tid in os.listdir(f"/proc/{pid}/task"):
                thread = status_of(f"{pid}/task/{tid}")
                self.assertEqual((thread["CapEff"], thread["Seccomp"]), ("0" * 16, "2"), thread["Name"])

    def test_the_broker_has_the_least(self):
        with Daemon() as daemon:
            engine_of(daemon.process)
            broker = status_of(daemon.process.pid)
            for kind in ("CapPrm", "CapEff", "CapBnd"):
                self.assertEqual(capabilities(broker[kind]) - BROKER, set(), kind)
            self.assertEqual(broker["NoNewPrivs"], "1")
            self.assertEqual(broker["Threads"], "1")
            # It has no client, and no socket that it reads from but its engine's.
            daemon.lbrctl("start", "one", "-a", "-F", "99")
            self.assertGreater(kernel_events(daemon.process), 0)
            # What it has opened it passes on.
            wait_for(lambda: events_of(daemon.process.pid) == 0)

    def test_nobody_traces_the_engine(self):
        with Daemon() as daemon:
            engine = engine_of(daemon.process)
            status = status_of(engine)
            done = run("setpriv", f"--reuid={status['Uid'].split()[0]}", "--clear-groups", "cat",
                       f"/proc/{engine}/maps")
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, "")


class Quality(unittest.TestCase):
    """What the broker opens for it is all that it lacks."""

    def test_other_users_closed_programs_and_the_kernel_have_names(self):
        with tempfile.TemporaryDirectory() as closed, Daemon() as daemon:
            os.chmod(closed, 0o700)  # root's
            shutil.copy("/bin/bash", f"{closed}/burn")
            with subprocess.Popen([f"{closed}/burn", "-c", "while :; do read -t 0.0001 x </dev/zero; done"],
                                  stderr=subprocess.DEVNULL) as burn:
                try:
                    for target in (["-p", burn.pid], ["-a"], ["--uid", "root"]):
                        samples, _ = daemon.record(*target, "-F", "499", "-d", "2s")
                        of = [sample for sample in samples if sample["pid"] == burn.pid]
                        self.assertGreater(len(of), 20, target)
                        complete = sum(sample["verdict"]["state"] == "complete" for sample in of)
                        self.assertGreater(complete, 0.9 * len(of), target)
                        frames = [frame for sample in of for frame in sample["stack"]]
                        self.assertTrue(any(frame["dso"] == f"{closed}/burn" and frame["symbol"]
                                            for frame in frames), target)
                        self.assertTrue(any(frame["source"] == "kernel" and frame["symbol"]
                                            for frame in frames), target)
                finally:
                    burn.kill()

    def test_a_cgroup(self):
        root = next((pathlib.Path(path) for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
                     if pathlib.Path(path, "cgroup.procs").exists()), None)
        if root is None:
            self.skipTest("no cgroup v2 is mounted here")
        group = root / f"lbrd-privileges-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            self.skipTest(f"cannot make a cgroup here: {error}")
        self.addCleanup(group.rmdir)
        with Daemon() as daemon, subprocess.Popen(["bash", "-c", "while :; do :; done"]) as burn:
            try:
                (group / "cgroup.procs").write_text(str(burn.pid))
                done = daemon.lbrctl("-q", "record", "--cgroup", group.name, "-F", "99", "-d", "1s", "-o",
                                     daemon.folder / "x.jsonl")
            finally:
                burn.kill()
                burn.wait()
            if "cannot count in the cgroup" in done.stderr:
                self.skipTest(done.stderr)
            self.assertEqual(done.returncode, 0, done.stderr)
            lines = (daemon.folder / "x.jsonl").read_text().splitlines()
            self.assertEqual({json.loads(line)["pid"] for line in lines}, {burn.pid})


class Restart(unittest.TestCase):
    def test_another_engine_takes_its_place(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            with Daemon(history=True, args=["--history", f"{folder}/history/history.db",
                                            "--history-bucket", "1s"]) as daemon, Demo():
                def stored():
                    done = daemon.lbrctl("status", "--json")
                    return done.returncode == 0 and json.loads(done.stdout)["history"]
                wait_for(lambda: (now := stored()) and int(now["buckets_stored"]) >= 2)
                for _ in range(3):
                    before = engine_of(daemon.process)
                    bucket = int(stored()["last_bucket"])
                    os.kill(before, signal.SIGKILL)
                    # Who connects now waits for the next engine; nobody is refused.
                    done = daemon.lbrctl("list", timeout=PATIENCE)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    after = other_engine(daemon, before)
                    self.assertEqual(status_of(after)["Seccomp"], "2")
                    # The history goes on with what was acknowledged, and the continuous session too.
                    self.assertGreaterEqual(int(stored()["last_bucket"]), bucket)
                    wait_for(lambda: (now := stored()) and int(now["last_bucket"]) > bucket)
                self.assertIn("the engine has ended (signal SIGKILL)", daemon.log_text())

    def test_no_connection_is_refused_meanwhile(self):
        with Daemon() as daemon:
            end = threading.Event()
            refused = []

            def connect():
                while not end.is_set():
                    try:
                        with socket.socket(socket.AF_UNIX) as client:
                            client.settimeout(PATIENCE)
                            client.connect(str(daemon.socket))
                    except BlockingIOError:
                        pass  # 128 wait already
                    except OSError as error:
                        refused.append(error)
                    time.sleep(0.02)
            thread = threading.Thread(target=connect)
            thread.start()
            try:
                for _ in range(5):
                    before = engine_of(daemon.process)
                    os.kill(before, signal.SIGKILL)
                    other_engine(daemon, before)
                    time.sleep(0.2)
            finally:
                end.set()
                thread.join()
            self.assertEqual(refused, [])

    def test_it_ends_with_its_broker(self):
        with tempfile.TemporaryDirectory() as folder:
            broker = subprocess.Popen([str(LBRD), "--socket", f"{folder}/s", "--no-history"],
                                      stderr=subprocess.DEVNULL)
            engine = engine_of(broker)
            broker.kill()
            broker.wait()
            wait_for(lambda: not pathlib.Path(f"/proc/{engine}").exists() or
                     status_of(engine)["State"].startswith("Z"))

    def test_an_engine_that_cannot_start_ends_the_daemon(self):
        done = run(LBRD, "--engine", "0", stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 1)
        self.assertIn("this is not lbrd's broker", done.stderr)


if __name__ == "__main__":
    require_root()
    main()
