"""lbrctl status: contexts come with sessions and their threads, and go with them."""

import json
import os
import pathlib
import time
import unittest

from lbrd_fixture import DEMO, Daemon, Demo, LBRCTL, PATIENCE, main, require_root, resident_bytes, run




def threads():
    """How many threads the machine has."""
    count = 0
    for process in pathlib.Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                count += len(os.listdir(process / "task"))
            except OSError:
                pass  # it has exited
    return count


def cpu_seconds(pid):
    """CPU time of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(daemon):
    done = daemon.lbrctl("status", "--json")
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    stats = json.loads(done.stdout)
    # 64-bit figures are text in JSON.
    return {name: int(value) for name, value in stats.items()
            if isinstance(value, int) or str(value).isdigit()}


class Status(unittest.TestCase):
    def wait_for(self, daemon, what):
        end = time.time() + PATIENCE
        while not what(stats := status(daemon)):
            if time.time() > end:
                self.fail(f"waited in vain; at last {stats}, {threads()} threads")
            time.sleep(0.2)
        return stats

    def start(self, daemon, *args):
        started = daemon.lbrctl("start", *args)
        self.assertEqual(started.returncode, 0, started.stderr)

    def stop(self, daemon, name):
        stopped = daemon.lbrctl("-q", "stop", name)
        self.assertEqual(stopped.returncode, 0, stopped.stderr)

    def test_contexts_of_the_machine_and_of_a_process(self):
        # Events that nobody uses any more are given back at once, and with them their contexts.
        with Daemon(args=["--linger", "0"]) as daemon, Demo("--children", "off") as demo:
            idle = status(daemon)
            self.assertEqual((idle["contexts"], idle["tasks"], idle["global_users"]), (0, 0, 0))
            self.assertGreater(idle["resident_bytes"], 1 << 20)

            self.start(daemon, "one", "-p", demo.pid, "-F", "99")
            self.wait_for(daemon, lambda now: now["contexts"] == len(
                os.listdir(f"/proc/{demo.pid}/task")))

            # Threads come and go meanwhile.
            self.start(daemon, "all", "-a", "-F", "99")
            self.start(daemon, "again", "-a", "-F", "99")
            now = self.wait_for(daemon, lambda now: abs(now["contexts"] - threads()) <= max(
                10, threads() // 10))
            # Both have a share in one flow, which is the one user of all contexts.
            self.assertEqual(now["global_users"], 1)
            self.assertEqual(now["flows"], 1)
            self.assertEqual(now["sessions_running"], 3)
            self.assertEqual(now["contexts_refused"], 0)
            self.assertGreaterEqual(now["context_bytes"], 128 * now["contexts"])

            self.stop(daemon, "all")
            self.assertEqual(status(daemon)["global_users"], 1)
            self.stop(daemon, "again")
            self.wait_for(daemon, lambda now: now["contexts"] == len(
                os.listdir(f"/proc/{demo.pid}/task")))
            self.stop(daemon, "one")
            left = status(daemon)
            self.assertEqual((left["contexts"], left["tasks"], left["global_users"]), (0, 0, 0))
            # What was retired is freed after a grace period.
            self.wait_for(daemon, lambda now: now["context_bytes"] == 0)

    def test_both_processes_say_what_they_use(self):
        with Daemon() as daemon:
            before = cpu_seconds(daemon.process.pid)
            stats = json.loads(daemon.lbrctl("status", "--json").stdout)
            broker = float(stats["broker_cpu_time"].rstrip("s"))
            # The kernel rounds user and system time down, to a clock tick each.
            tick = 1 / os.sysconf("SC_CLK_TCK")
            self.assertGreater(broker, before - 2 * tick)
            self.assertLess(broker, cpu_seconds(daemon.process.pid) + 2 * tick)
            self.assertGreater(broker, 0)
            self.assertGreater(float(stats["cpu_time"].rstrip("s")), 0)
            resident = int(stats["resident_bytes"]) + int(stats["broker_resident_bytes"])
            # Meanwhile the engine may have touched some pages more.
            self.assertAlmostEqual(resident, resident_bytes(daemon.process), delta=4 << 20)
            shown = daemon.lbrctl("status").stdout
            self.assertRegex(shown, "CPU time .*; broker [0-9]")
            self.assertRegex(shown, "resident memory .*; broker [0-9]")

    def test_a_target_that_ends_takes_its_contexts_along(self):
        with Daemon() as daemon:
            with Demo() as demo:
                self.start(daemon, "one", "-p", demo.pid)
                self.assertGreater(status(daemon)["contexts"], 0)
            self.wait_for(daemon, lambda now: now["sessions_stopped"] == 1)
            self.assertEqual(status(daemon)["contexts"], 0)

    def test_what_unwinding_did_adds_up(self):
        with Daemon() as daemon:
            # Of the process alone: with user mode only, each of its samples has a copy of a stack.
            samples, session = daemon.record("-F", "499", "--stack", "dwarf", "--user-only", "-d", "2s",
                                             "--", DEMO, "--seconds", "1")
            self.assertGreater(len(samples), 100)
            did = json.loads(daemon.lbrctl("status", "--json").stdout)["unwinding"]
            verdicts = {entry["name"]: int(entry["value"]) for entry in did["stacks_by_verdict"]}
            figures = {name: int(value) for name, value in did.items() if name != "stacks_by_verdict"}
            self.assertEqual(sum(verdicts.values()), len(samples))
            self.assertEqual(figures["stacks"], len(samples))
            complete = sum(sample["verdict"]["state"] == "complete" for sample in samples)
            self.assertEqual(verdicts["complete"], complete)
            self.assertGreater(complete, len(samples) // 2)
            # What was the same again was not unwound again.
            copies = figures["copies"]
            self.assertLessEqual(copies + figures["identical_copies"], len(samples))
            self.assertGreater(copies + figures["identical_copies"], len(samples) * 9 // 10)
            # A look for each frame that was found by a rule, and most of them in the caches.
            self.assertGreater(figures["rule_lookups"], copies)
            self.assertLessEqual(figures["rule_cache_hits"] + figures["rule_shared_hits"],
                                 figures["rule_lookups"])
            self.assertGreater(figures["rule_cache_hits"], figures["rule_lookups"] // 2)
            shown = daemon.lbrctl("status").stdout
            self.assertRegex(shown, rf"(?m)^stacks +{len(samples):,} samples, [0-9.]+% complete$")

    def test_the_table_fits_a_terminal(self):
        with Daemon() as daemon:
            shown = daemon.lbrctl("status")
            self.assertEqual(shown.returncode, 0, shown.stderr)
            for name in ("lbrd", "sessions", "contexts", "unknown histories", "resident memory"):
                self.assertRegex(shown.stdout, rf"(?m)^{name} +\S")
            for line in shown.stdout.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_help_teaches_and_a_missing_daemon_is_told(self):
        text = run(LBRCTL, "status", "--help").stdout
        self.assertIn("A context is", text)
        self.assertIn("lbrctl status --json", text)
        nobody = run(LBRCTL, "--socket", "/nowhere/lbrd.sock", "status")
        self.assertEqual(nobody.returncode, 1)
        self.assertIn("/nowhere/lbrd.sock", nobody.stderr)
        self.assertEqual(nobody.stdout, "")


if __name__ == "__main__":
    require_root()
    main()
