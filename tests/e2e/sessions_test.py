"""Sessions that live in the daemon: start, list, stream, stop; several at once; a clean end."""

import collections
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

    def test_a_profile_takes_what_it_may(self):
        """Stacks that come later are counted as dropped; another session of the same samples has them."""
        with Daemon(args=["--max-sample-memory", "64M"]) as daemon, Demo():
            for name, args in (("small", ["--profile-bytes", "64K"]), ("whole", [])):
                started = daemon.lbrctl("start", name, "-a", "-F", "999", "--stack", "dwarf", *args)
                self.assertEqual(started.returncode, 0, started.stderr)
            time.sleep(4)
            status = json.loads(daemon.lbrctl("status", "--json").stdout)
            self.assertEqual(int(status["sample_memory_limit_bytes"]), 64 << 20)
            self.assertGreater(int(status["sample_memory_bytes"]), 64 << 10)
            self.assertLess(int(status["sample_memory_bytes"]), 64 << 20)
            sessions = {}
            for name in ("small", "whole"):
                account = daemon.folder / f"{name}.json"
                stopped = daemon.lbrctl("stop", name, "-o", account)
                self.assertEqual(stopped.returncode, 0, stopped.stderr)
                sessions[name] = Session(json.loads(account.read_text()))
            small, whole = sessions["small"], sessions["whole"]
            self.assertEqual(int(small["spec"]["profile_bytes"]), 64 << 10)
            self.assertGreater(small.dropped()["profile_full"], 0)
            self.assertEqual(small.stat("samples_seen"),
                             small.stat("samples_delivered") + sum(small.dropped().values()))
            self.assertNotIn("profile_full", whole.dropped())
            for bad, why in (("63K", "profile_bytes"), ("lots", "--profile-bytes")):
                refused = daemon.lbrctl("start", "bad", "-a", "--profile-bytes", bad)
                self.assertNotEqual(refused.returncode, 0)
                self.assertIn(why, refused.stderr)

    def test_several_events(self):
        """Each with its own rate, in one session, told apart in every view."""
        with Daemon(history=True) as daemon:
            events = "cpu-clock,task-clock/freq=99/,page-faults/period=1/"
            for target in (("-a", "-d", "3s"), ()):  # a share in flows; a command's own events
                with self.subTest(target=target), Demo("--children", "off"):
                    command = () if target else ("--", "python3", "-c", "for _ in range(300): "
                                                 "bytearray(1 << 22); sum(range(100000))")
                    samples, session = daemon.record("-e", events, "-F", "499", "--retain", *target,
                                                     *command)
                    by_event = collections.Counter(s["event"] for s in samples)
                    self.assertEqual(set(by_event), {"cpu-clock", "task-clock", "page-faults"})
                    self.assertGreater(by_event["cpu-clock"], by_event["task-clock"])
                    self.assertEqual({s["weight"] for s in samples if s["event"] == "page-faults"},
                                     {1})
                    self.assertEqual([e["name"] for e in session["events"]],
                                     ["cpu-clock", "task-clock", "page-faults"])
                    self.assertEqual([(e["frequency_hz"], int(e["period"])) for e in
                                      session["events"]], [(499, 0), (99, 0), (0, 1)])
                    # Every page fault was a sample; a flow is counted from a moment later on.
                    self.assertGreater(int(session["events"][2]["count"]),
                                       0.9 * by_event["page-faults"])
                    self.assertEqual(session.stat("samples_delivered"), len(samples))
            query = daemon.lbrctl("query", "--since", "1h", "-e", "page-faults", "--format", "jsonl")
            self.assertEqual(query.returncode, 0, query.stderr)
            self.assertIn("page-faults", query.stdout)
            self.assertNotIn("task-clock", query.stdout)
            started = daemon.lbrctl("start", "two", "-a", "-e", "cpu-clock", "-e", "page-faults")
            self.assertEqual(started.returncode, 0, started.stderr)
            self.assertIn("sampling page-faults on all CPUs", started.stdout)
            self.assertRegex(daemon.lbrctl("list").stdout, r"all CPUs +cpu-clock \+1 ")
            time.sleep(1)
            stopped = daemon.lbrctl("stop", "two", "--show-event", "page-faults", "--format", "folded")
            self.assertEqual(stopped.returncode, 0, stopped.stderr)
            self.assertGreater(len(stopped.stdout.splitlines()), 1)
            for wrong, why in (("cpu-clock,cpu-clock", "is asked for twice"),
                               ("cpu-clock/freq=fast/", "/freq=HZ/ or /period=EVENTS/"),
                               ("cpu-clock,nonsense", "nonsense: "),
                               (",".join(f"e{i}" for i in range(9)), "at most 8 events")):
                refused = daemon.lbrctl("start", "x", "-a", "-e", wrong)
                self.assertNotEqual(refused.returncode, 0)
                self.assertIn(why, refused.stderr)

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

    def test_a_recording_ends_when_another_client_stops_its_session(self):
        with Daemon() as daemon, Demo():
            client = daemon.start_lbrctl("record", "-a", "-d", "10m", stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE)
            wait_for(lambda: "running" in daemon.lbrctl("list").stdout)
            name = daemon.lbrctl("list").stdout.splitlines()[1].split()[0]
            stopped = daemon.lbrctl("stop", name)
            self.assertEqual(stopped.returncode, 0, stopped.stderr)
            # It is told; it would look by itself only after half a minute.
            out, errors = client.communicate(timeout=20)
            # Each has what was found, or says that the other has.
            shown = "demo" in stopped.stdout, "demo" in out
            self.assertIn(True, shown)
            self.assertEqual(shown[0], "another client has taken" not in stopped.stderr, stopped.stderr)
            self.assertEqual(client.returncode, 0 if shown[1] else 1, errors)
            self.assertEqual(shown[1], "another client has stopped it" not in errors, errors)

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
