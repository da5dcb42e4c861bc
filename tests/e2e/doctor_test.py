"""lbrctl doctor: what it finds on this machine, and what it says and does where there is no daemon."""

import json
import os
import pathlib
import re
import unittest

from lbrd_fixture import Daemon, LBRCTL, children, engine_of, main, require_root, run

HAS_PMU = any(pathlib.Path("/sys/bus/event_source/devices", name).exists()
              for name in ("cpu", "cpu_core"))
VERDICTS = {"✓": "ok", "!": "degraded", "✗": "missing", "-": "not tried"}
NAMES = {"perf-events", "paranoid-level", "default-event", "lbr", "lbr-over-switches", "lbr-holders",
         "kernel-deferred", "stack-copies", "chain-depth", "build-ids", "lost-counts", "ring-memory",
         "breakpoints", "nmi-watchdog", "kernel-symbols"}


def probes(text):
    """name -> (verdict, its line with those below it), of the text output."""
    found = {}
    name = None
    for line in text.splitlines():
        head = re.match(r"(\S) (ok|degraded|missing|not tried) +(\S+)  ", line)
        if head:
            name = head.group(3)
            found[name] = (head.group(2), line)
            if VERDICTS[head.group(1)] != head.group(2):
                raise ValueError(f"mark and verdict differ: {line}")
        elif name and line.startswith(" "):
            found[name] = (found[name][0], found[name][1] + "\n" + line)
        else:
            name = None
    return found


class Doctor(unittest.TestCase):
    def test_finds_each_thing_and_gives_everything_back(self):
        with Daemon() as daemon:
            done = daemon.lbrctl("doctor")
            found = probes(done.stdout)
            self.assertEqual(set(found), NAMES, done.stdout)
            bad = {name for name, (verdict, _) in found.items() if verdict in ("degraded", "missing")}
            self.assertEqual(done.returncode, 1 if bad else 0, done.stdout)
            for name in bad:
                self.assertIn("→", found[name][1], f"{name} does not say what to do")
            for line in done.stdout.splitlines():
                self.assertLessEqual(len(line), 80, line)
            paragraph = done.stdout.rstrip().split("\n\n")[-1]
            self.assertRegex(paragraph, r"^(All s|S)essions .*get user stacks from")
            self.assertEqual(done.stderr, "")
            # Nothing is left open, and no child.
            engine = engine_of(daemon.process)
            fds = pathlib.Path(f"/proc/{engine}/fd")
            left = [os.readlink(fd) for fd in fds.iterdir()]
            self.assertEqual([name for name in left if "perf_event" in name], [])
            self.assertEqual(children(engine), [])

    @unittest.skipIf(HAS_PMU, "this machine has a hardware PMU")
    def test_names_the_kernels_refusal_of_lbr(self):
        with Daemon() as daemon:
            done = daemon.lbrctl("doctor")
            verdict, lines = probes(done.stdout)["lbr"]
            self.assertEqual(verdict, "missing")
            self.assertIn("the kernel says: No such file or directory", " ".join(lines.split()))
            self.assertEqual(done.returncode, 1)
            self.assertEqual(probes(done.stdout)["default-event"][0], "degraded")
            self.assertIn("cpu-clock", probes(done.stdout)["default-event"][1])

    def test_what_sessions_get_is_what_it_says(self):
        with Daemon() as daemon:
            answer = json.loads(daemon.lbrctl("doctor", "--json").stdout)
            self.assertEqual({probe["name"] for probe in answer["probes"]}, NAMES)
            for probe in answer["probes"]:
                self.assertTrue(probe["value"], probe)
                if probe["verdict"] in ("PROBE_VERDICT_DEGRADED", "PROBE_VERDICT_MISSING"):
                    self.assertTrue(probe["why"] and probe["action"], probe)
            started = daemon.lbrctl("start", "s", "-a", "-F", "19")
            self.assertEqual(started.returncode, 0, started.stderr)
            mode = answer["best_stack_mode"].removeprefix("STACK_MODE_").lower().replace("_", "-")
            self.assertIn(f"user stacks from {mode}", started.stdout)
            self.assertIn(f"sampling {answer['default_event']} ", started.stdout)

    def test_works_beside_sessions_and_without_experiments(self):
        with Daemon() as daemon:
            self.assertEqual(daemon.lbrctl("start", "s", "-a").returncode, 0)
            done = daemon.lbrctl("doctor", "--no-experiments")
            self.assertIn(done.returncode, (0, 1))
            self.assertEqual(probes(done.stdout)["lbr-over-switches"][0], "not tried")
            self.assertRegex(daemon.lbrctl("list").stdout, r"s +running")

    def test_without_a_daemon(self):
        done = run(LBRCTL, "--socket", "/nonexistent/lbrd.sock", "doctor")
        self.assertEqual(done.returncode, 2)
        verdict, lines = probes(done.stdout)["daemon"]
        self.assertEqual(verdict, "missing")
        self.assertIn("no daemon listens", lines)
        self.assertIn("→ start one (sudo lbrd)", lines)
        done = run(LBRCTL, "--socket", "/nonexistent/lbrd.sock", "doctor", "--json")
        self.assertEqual(done.returncode, 2)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["probes"][0]["name"], "daemon")
        self.assertEqual(answer["probes"][0]["verdict"], "PROBE_VERDICT_MISSING")

    def test_help_teaches(self):
        done = run(LBRCTL, "doctor", "--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--json", "--no-experiments", "Exit codes: 0", "degraded", "Example"):
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    require_root()
    main()
