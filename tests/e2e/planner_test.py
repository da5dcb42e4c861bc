"""Sessions share kernel events: however many there are, the kernel holds those of one, each session's account adds
up, and its estimates are those of a lone one."""

import json
import os
import signal
import subprocess
import time
import unittest

from lbrd_fixture import Daemon, Demo, Session, kernel_events, main, require_root, wait_for


class Planner(unittest.TestCase):
    def start(self, daemon, name, *args):
        started = daemon.lbrctl("start", name, "--stack", "fp", *args)
        self.assertEqual(started.returncode, 0, started.stderr)
        return started.stdout

    def stop(self, daemon, name):
        account = daemon.folder / f"{name}.json"
        stopped = daemon.lbrctl("-q", "stop", name, "-o", account)
        self.assertEqual(stopped.returncode, 0, stopped.stderr)
        return Session(json.loads(account.read_text()))

    def assert_adds_up(self, session):
        left_out = sum(int(c["value"]) for c in session["stats"].get("samples_left_out", []))
        self.assertEqual(session.stat("samples_generated"),
                         session.stat("samples_seen") + session.stat("samples_lost"))
        self.assertEqual(session.stat("samples_seen"),
                         session.stat("samples_delivered") + sum(session.dropped().values()))
        self.assertEqual(session.stat("flow_samples"), session.stat("samples_seen") + left_out)

    def test_ten_sessions_have_the_events_of_one(self):
        with Daemon() as daemon, Demo() as demo:
            self.start(daemon, "s0", "-a", "-F", "999")
            alone = kernel_events(daemon.process)
            self.assertGreater(alone, 0)
            for i in range(1, 6):
                self.start(daemon, f"s{i}", "-a", "-F", 99 + 100 * i)
            self.start(daemon, "user", "--uid", "root", "-F", "999")
            self.start(daemon, "cpu", "-C", "0", "-F", "999")
            self.start(daemon, "process", "-p", demo.pid, "-F", "999")
            self.start(daemon, "thread", "-t", demo.pid, "-F", "499")
            self.assertEqual(kernel_events(daemon.process), alone)
            time.sleep(3)
            names = [f"s{i}" for i in range(6)] + ["user", "cpu", "process", "thread"]
            sessions = {name: self.stop(daemon, name) for name in names}
            for name, session in sessions.items():
                with self.subTest(name):
                    self.assert_adds_up(session)
                    self.assertEqual(session["state"], "SESSION_STATE_STOPPED")
                    self.assertIn("flow", session)
            for name in names[:9]:
                self.assertGreater(sessions[name].stat("samples_delivered"), 10, name)
            # The events rest, and serve the next one.
            self.assertEqual(kernel_events(daemon.process), alone)
            self.start(daemon, "again", "-a", "-F", "999")
            self.assertEqual(kernel_events(daemon.process), alone)
            time.sleep(1)
            again = self.stop(daemon, "again")
            self.assert_adds_up(again)
            self.assertGreater(again.stat("samples_delivered"), 10)

    def test_without_lingering_the_events_are_given_back(self):
        with Daemon(args=["--linger", "0"]) as daemon, Demo():
            self.start(daemon, "one", "-a", "-F", "99")
            self.assertGreater(kernel_events(daemon.process), 0)
            self.stop(daemon, "one")
            end = time.time() + 60
            while kernel_events(daemon.process) != 0 and time.time() < end:
                time.sleep(0.1)
            self.assertEqual(kernel_events(daemon.process), 0)

    def test_slower_sessions_keep_their_share_of_the_fastest(self):
        # The fastest is there from the first to the last: the events run at its rate throughout, and
        # a slower session keeps every so many'th of what it sees of them on each CPU.
        with Daemon() as daemon, Demo():
            rates = {"fast": 1999, "half": 999, "slow": 199}
            for name, rate in rates.items():
                self.start(daemon, name, "-a", "-F", rate)
            time.sleep(5)
            for name in ("slow", "half", "fast"):
                session = self.stop(daemon, name)
                self.assert_adds_up(session)
                share = rates[name] / rates["fast"]
                offered, kept = session.stat("flow_samples"), session.stat("samples_seen")
                self.assertGreater(offered, 0, name)
                self.assertLessEqual(abs(kept - offered * share), os.cpu_count() + 1, name)

    def test_every_nth_of_a_period_has_the_weight_asked_for(self):
        with Daemon() as daemon, Demo():
            self.start(daemon, "fine", "-a", "-e", "page-faults", "-c", "10")
            samples, session = daemon.record("-a", "-e", "page-faults", "-c", "70", "--stack", "fp",
                                             "-d", "3s")
            fine = self.stop(daemon, "fine")
            self.assert_adds_up(fine)
            self.assert_adds_up(session)
            self.assertEqual({s["weight"] for s in samples}, {70})
            # 1 of 7, within one a CPU.
            kept, all_of_them = session.stat("samples_seen"), session.stat("flow_samples")
            self.assertLessEqual(abs(kept - all_of_them / 7), os.cpu_count() + 1)

    def test_a_cpu_budget_slows_sampling_down_and_weights_tell(self):
        # So small a budget that it is exceeded whatever the machine. The demo keeps CPUs busy, and
        # the sum of weights is CPU time however few the samples are.
        with Daemon(args=["--max-cpu", "0.01%"]) as daemon, Demo("--children", "off") as demo:
            self.start(daemon, "busy", "-a", "-F", 1999, "-e", "cpu-clock")
            wait_for(lambda: "slowed down" in daemon.lbrctl("status").stdout)
            with open(f"/proc/{demo.pid}/stat") as stat:
                before = sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))
            samples, session = daemon.record("-a", "-F", 1999, "-e", "cpu-clock", "-d", "15s")
            with open(f"/proc/{demo.pid}/stat") as stat:
                after = sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))
            self.assert_adds_up(session)
            self.assertTrue(any("max-cpu" in note for note in session["notes"]), session["notes"])
            used = (after - before) / os.sysconf("SC_CLK_TCK")
            estimated = sum(s["weight"] for s in samples if s["pid"] == demo.pid) / 1e9
            rate = len(samples) / estimated
            self.assertLess(rate, 1000, "slower than asked for")
            # Some hundred samples are left; their sum is within some tenths of the truth.
            self.assertAlmostEqual(estimated / used, 1, delta=0.35)
            self.stop(daemon, "busy")

    def test_a_stopped_client_loses_only_its_own(self):
        with Daemon() as daemon, Demo():
            clients = []
            try:
                for i in range(10):
                    self.start(daemon, f"s{i}", "-a", "-F", "199")
                    out = open(daemon.folder / f"s{i}.jsonl", "w+")
                    clients.append((daemon.start_lbrctl("stream", f"s{i}", stdout=out,
                                                        stderr=subprocess.PIPE), out))
                time.sleep(1)
                clients[0][0].send_signal(signal.SIGSTOP)
                time.sleep(3)
                sessions = [self.stop(daemon, f"s{i}") for i in range(1, 10)]
                for (client, out), session in zip(clients[1:], sessions):
                    # Its stream ended with its session, well: nothing of it was dropped.
                    self.assertEqual(client.wait(timeout=60), 0, client.stderr.read())
                    self.assert_adds_up(session)
                    out.seek(0)
                    lines = sum(1 for _ in out)
                    self.assertGreater(lines, 0)
                    self.assertLessEqual(lines, session.stat("samples_delivered"))
            finally:
                for client, out in clients:
                    client.kill()
                    client.wait()
                    client.stderr.close()
                    out.close()


if __name__ == "__main__":
    require_root()
    main()
