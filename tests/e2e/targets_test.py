"""What a session can be pointed at: CPUs, a thread, a cgroup, a user; a process with many threads."""

import os
import pathlib
import pwd
import subprocess
import time
import unittest

from lbrd_fixture import DEMO, Daemon, Demo, main, require_root


def threads_of(pid):
    return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))


class Targets(unittest.TestCase):
    def assert_adds_up(self, samples, session):
        self.assertEqual(session.stat("samples_seen"),
                         session.stat("samples_delivered") + sum(session.dropped().values()))
        self.assertEqual(len(samples), session.stat("samples_delivered"))

    def test_a_list_of_cpus(self):
        cpu = max(os.sched_getaffinity(0))
        with Daemon() as daemon, Demo():
            samples, session = daemon.record("-C", cpu, "-F", "499", "-d", "2s")
            self.assertIn(f"CPUs {cpu}", self.listed(daemon, "-C", cpu))
        self.assertEqual({s["cpu"] for s in samples}, {cpu})
        self.assertEqual(session["cpus"], 1)
        self.assert_adds_up(samples, session)
        # A software event needs no counter, and never waits for one.
        self.assertGreater(session.stat("time_enabled_ns"), 0)
        self.assertEqual(session.stat("time_running_ns"), session.stat("time_enabled_ns"))

    def listed(self, daemon, *target):
        self.assertEqual(daemon.lbrctl("start", "listed", *target).returncode, 0)
        text = daemon.lbrctl("list").stdout
        daemon.lbrctl("stop", "listed")
        return text

    def test_a_processs_time_is_its_threads(self):
        # Its events on all CPUs are enabled while a thread runs, and one of them counts.
        with Daemon() as daemon, Demo("--children", "off") as demo:
            _, session = daemon.record("-p", demo.pid, "-e", "cpu-clock", "-d", "2s")
        share = session.stat("time_running_ns") / session.stat("time_enabled_ns")
        self.assertGreater(share, 0.97)
        self.assertLess(share, 1.03)

    def test_a_thread(self):
        with Daemon() as daemon, Demo("--threads", 4) as demo:
            tid = threads_of(demo.pid)[2]
            samples, session = daemon.record("-t", tid, "-F", "999", "-d", "2s")
        self.assertGreater(len(samples), 10)
        self.assertEqual({(s["pid"], s["tid"]) for s in samples}, {(demo.pid, tid)})
        # Names are known although only the thread was asked for.
        named = [s for s in samples if any(frame.get("symbol") for frame in s["stack"])]
        self.assertGreater(len(named), len(samples) * 0.9)
        self.assert_adds_up(samples, session)

    def test_a_threads_end_ends_its_session(self):
        program = "import threading, time; t = threading.Thread(target=time.sleep, args=(2,)); " \
                  "t.start(); time.sleep(60)"
        process = subprocess.Popen(["python3", "-c", program])
        try:
            while len(threads_of(process.pid)) < 2:
                time.sleep(0.05)
            with Daemon() as daemon:
                _, session = daemon.record("-t", threads_of(process.pid)[1], timeout=30)
            self.assertEqual(session["state"], "SESSION_STATE_STOPPED")
        finally:
            process.kill()
            process.wait()

    def test_a_user(self):
        nobody = pwd.getpwnam("nobody").pw_uid

        def drop():
            os.setgid(65534)
            os.setuid(nobody)

        theirs = subprocess.Popen(["sh", "-c", "while :; do /bin/true; i=0; "
                                   "while [ $i -lt 20000 ]; do i=$((i+1)); done; done"],
                                  preexec_fn=drop)
        try:
            with Daemon() as daemon, Demo() as demo:
                samples, session = daemon.record("--uid", "nobody", "-F", "999", "-d", "3s")
        finally:
            theirs.kill()
            theirs.wait()
        self.assertGreater(len(samples), 10)
        self.assertNotIn(demo.pid, {s["pid"] for s in samples})
        self.assertIn(theirs.pid, {s["pid"] for s in samples})
        self.assertGreater(session.dropped()["other_user"], 10)
        self.assert_adds_up(samples, session)

    def test_a_cgroup(self):
        folder = next((pathlib.Path(root) / f"lbrd-test-{os.getpid()}"
                       for root in ("/sys/fs/cgroup/perf_event", "/sys/fs/cgroup/unified",
                                    "/sys/fs/cgroup")
                       if (pathlib.Path(root) / "cgroup.procs").exists()), None)
        if folder is None:
            self.skipTest("no cgroup file system that perf knows is mounted")
        try:
            folder.mkdir()
        except OSError as error:
            self.skipTest(f"cannot make a cgroup: {error}")
        try:
            with Daemon() as daemon, Demo("--children", "off") as inside, Demo() as outside:
                (folder / "cgroup.procs").write_text(str(inside.pid))
                for name in (folder, folder.name):
                    samples, session = daemon.record("--cgroup", name, "-F", "999", "-d", "2s")
                    self.assertGreater(len(samples), 10)
                    self.assertEqual({s["pid"] for s in samples}, {inside.pid})
                    self.assertNotEqual(inside.pid, outside.pid)
                    self.assert_adds_up(samples, session)
        finally:
            time.sleep(0.2)
            folder.rmdir()

    def test_a_process_followed_thread_by_thread(self):
        # 24 threads and more on each CPU want more descriptors than half of these.
        with Daemon(descriptors=160) as daemon, Demo("--threads", 24) as demo:
            samples, session = daemon.record("-p", demo.pid, "-F", "999", "-d", "4s")
        self.assertIn("thread by thread", " ".join(session["notes"]))
        self.assertIn("160", " ".join(session["notes"]))
        own = {s["tid"] for s in samples if s["pid"] == demo.pid}
        self.assertGreaterEqual(len(own), 24)
        self.assertEqual(len(samples), session.stat("samples_delivered"))
        # What it forks is followed as well, and has names.
        forked = [s for s in samples if s["pid"] != demo.pid]
        self.assertGreater(len(forked), 10)
        self.assertTrue(any(frame.get("symbol") for s in forked for frame in s["stack"]))
        self.assert_adds_up(samples, session)


if __name__ == "__main__":
    require_root()
    main()
