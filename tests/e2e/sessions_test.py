"""Sessions that live in the daemon: start, list, stream, stop; several at once; a clean end."""

import json
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

from lbrd_fixture import PATIENCE, Daemon, Demo, Session, main, require_root, wait_for


class Sessions(unittest.TestCase):
    def test_start_list_stop(self):
        with Daemon() as daemon, Demo() as demo:
            started = daemon.lbrctl("start", "all", "-a", "-F", "199")
            self.assertEqual(started.returncode, 0, started.stderr)
            self.assertIn("user stacks from", started.stdout)
            self.assertEqual(daemon.lbrctl("start", "one", "-p", demo.pid, "-F", "99").returncode, 0)
            time.sleep(1)
            listed = daemon.lbrctl("list").stdout
            self.assertRegex(listed, r"all +running +all CPUs")
            self.assertRegex(listed, rf"one +running +pid {demo.pid}")
            account = daemon.folder / "one.json"
            self.assertEqual(daemon.lbrctl("stop", "one", "-o", account).returncode, 0)
            one = Session(json.loads(account.read_text()))
            self.assertEqual(one["state"], "SESSION_STATE_STOPPED")
            self.assertGreater(one.stat("samples_delivered"), 20)
            stopped = daemon.lbrctl("stop", "all")
            self.assertEqual(stopped.returncode, 0, stopped.stderr)
            self.assertIn("FUNCTION", stopped.stdout)
            self.assertIn("no sessions", daemon.lbrctl("list").stdout)

    def test_stream(self):
        with Daemon() as daemon, Demo():
            self.assertEqual(daemon.lbrctl("start", "live", "-a", "-d", "2s").returncode, 0)
            streamed = daemon.lbrctl("stream", "live")
            self.assertEqual(streamed.returncode, 0, streamed.stderr)
            samples = [json.loads(line) for line in streamed.stdout.splitlines()]
            self.assertGreater(len(samples), 50)
            self.assertLessEqual(
                {"time", "pid", "tid", "cpu", "event", "weight", "stack", "verdict"},
                set(samples[0]))

    def test_a_process_session_sees_only_that_process_and_ends_with_it(self):
        with Daemon() as daemon, Demo("--seconds", 8, "--children", "off") as demo:
            samples, session = daemon.record("-p", demo.pid)
            self.assertEqual({s["pid"] for s in samples}, {demo.pid})
            self.assertGreater(len({s["tid"] for s in samples}), 2)
            self.assertEqual(session["state"], "SESSION_STATE_STOPPED")

    def test_a_command_from_its_start_to_its_end(self):
        with Daemon() as daemon:
            samples, session = daemon.record(
                "-F", "4999", "--", "sh", "-c",
                "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec true")
            self.assertGreater(len(samples), 100)
            self.assertEqual(len({s["pid"] for s in samples}), 1)
            self.assertNotIn("lbrctl", {s["comm"] for s in samples})

    def test_the_command_may_follow_an_output_file(self):
        with Daemon() as daemon, tempfile.TemporaryDirectory(prefix="lbrd-test-") as folder:
            account = pathlib.Path(folder) / "account.json"
            done = daemon.lbrctl("record", "-o", account, "--", "sh", "-c", "exit 0")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(account.exists())

    def test_ctrl_c_shows_what_was_found(self):
        with Daemon() as daemon, Demo():
            client = daemon.start_lbrctl("record", "-a", stdout=subprocess.PIPE)
            wait_for(lambda: "running" in daemon.lbrctl("list").stdout)
            time.sleep(1)
            client.send_signal(signal.SIGINT)
            out, _ = client.communicate(timeout=PATIENCE)
            self.assertEqual(client.returncode, 0)
            self.assertIn("FUNCTION", out)

    def test_sigterm_ends_the_daemon_with_a_session_and_a_stream_open(self):
        with Daemon() as daemon, Demo():
            self.assertEqual(daemon.lbrctl("start", "s", "-a").returncode, 0)
            stream = daemon.start_lbrctl("stream", "s", stdout=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE)
            time.sleep(1)
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(timeout=PATIENCE), 0)
            self.assertFalse(daemon.socket.exists())
            stream.communicate(timeout=PATIENCE)

    def test_a_session_is_handed_from_one_client_to_another(self):
        with Daemon() as daemon, Demo() as demo:
            # Created by a client that is killed, found and streamed by a second, stopped by a third.
            creator = daemon.start_lbrctl("record", "-p", demo.pid, "-F", "199",
                                          stdout=subprocess.DEVNULL)
            wait_for(lambda: re.search("session-1 +running", daemon.lbrctl("list").stdout))
            creator.kill()
            creator.wait()
            second = daemon.start_lbrctl("stream", "session-1", stdout=subprocess.PIPE)
            self.assertTrue(second.stdout.readline().startswith("{"))
            account = daemon.folder / "handed.json"
            stopped = daemon.lbrctl("stop", "session-1", "-o", account)
            self.assertEqual(stopped.returncode, 0, stopped.stderr)
            # The second client's stream ends with the session, and all of it is the process's.
            streamed = [json.loads(line) for line in second.stdout]
            self.assertEqual(second.wait(timeout=30), 0)
            second.stdout.close()
            self.assertIn(demo.pid, {s["pid"] for s in streamed})
            session = Session(json.loads(account.read_text()))
            self.assertGreaterEqual(session.stat("samples_delivered"), len(streamed))
            self.assertIn("no sessions", daemon.lbrctl("list").stdout)

    def test_a_client_that_dies_harms_nobody(self):
        with Daemon() as daemon, Demo():
            client = daemon.start_lbrctl("record", "-a", "-d", "2s", stdout=subprocess.DEVNULL)
            wait_for(lambda: "running" in daemon.lbrctl("list").stdout)
            client.kill()
            client.wait()
            wait_for(lambda: re.search("session-1 +stopped", daemon.lbrctl("list").stdout))


if __name__ == "__main__":
    require_root()
    main()
