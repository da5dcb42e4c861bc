#!/usr/bin/env python3
"""Tests of check_doctor.py, check_deferred.py, check_filters.py and check_hotplug.py: what is wrong
must be seen."""

import copy
import unittest

import check_deferred
import check_doctor
import check_filters
import check_hotplug


def answer(kernel, lbr):
    survives = kernel >= (6, 15)
    return {
        "probes": [{"name": name, "verdict": f"PROBE_VERDICT_{verdict}", "why": ""}
                   for name, verdict in check_doctor.wanted(kernel, lbr).items()],
        "lbr_depth": 0 if lbr == "none" else 32,
        "stacks": "this kernel keeps each thread's\nLBR" if survives
                  else "this kernel clears LBR at each context switch",
    }


def text(code, survives=True):
    line = "LBR survives context switches" if survives else "LBR is lost at context switches"
    return f"ok lbr-over-switches {line}\nexit code {code}\n"


class Doctor(unittest.TestCase):
    def problems(self, kernel=(6, 19), lbr="arch", code=0, left=("0", "0"), change=None, **kwargs):
        given = answer(kernel, lbr)
        if change:
            change(given)
        return list(check_doctor.problems(given, text(code, **kwargs), list(left), kernel, lbr))

    def test_passes_what_is_right(self):
        self.assertEqual(self.problems(), [])
        self.assertEqual(self.problems((7, 2), "legacy"), [])
        self.assertEqual(self.problems((6, 12), code=1, survives=False), [])
        self.assertEqual(self.problems((6, 1), "legacy", code=1, survives=False), [])
        self.assertEqual(self.problems((6, 19), "none", code=1), [])

    def test_sees_what_is_wrong(self):
        def verdict(name, to):
            def change(given):
                for probe in given["probes"]:
                    if probe["name"] == name:
                        probe["verdict"] = f"PROBE_VERDICT_{to}"
            return change

        self.assertTrue(self.problems(change=verdict("lbr-over-switches", "DEGRADED"), code=1))
        self.assertTrue(self.problems((6, 12), code=1, survives=False,
                                      change=verdict("lbr-over-switches", "OK")))
        self.assertTrue(self.problems(change=lambda given: given["probes"].pop()))
        self.assertTrue(self.problems(change=lambda given: given.update(lbr_depth=16)))
        self.assertTrue(self.problems(change=lambda given: given.update(stacks="")))
        self.assertTrue(self.problems(survives=False))
        self.assertTrue(self.problems(code=1))
        self.assertTrue(self.problems(left=("1", "0")))
        self.assertTrue(self.problems(left=("0", "1")))


class Deferred(unittest.TestCase):
    def test_counts_the_demo_only(self):
        def sample(reason, *sources, comm="demo-parse"):
            return {"comm": comm, "verdict": {"reason": reason},
                    "stack": [{"source": source} for source in sources]}

        self.assertEqual(check_deferred.count([
            sample("", "sampled_ip", "kernel_deferred"),
            sample("", "kernel", "sampled_ip"),
            sample("deferred_missing", "kernel"),
            sample("frame_pointers_only", "sampled_ip", "frame_pointer"),
            sample("", "kernel"),
            sample("deferred_missing", "kernel", comm="sshd"),
        ]), (2, 1, 1))

    def test_holds_the_account_together(self):
        stats = {"samples_generated": "10", "samples_seen": "9", "samples_lost": "1",
                 "samples_delivered": "7", "samples_dropped": [{"name": "x", "value": "2"}]}
        self.assertIsNone(check_deferred.unbalanced(stats))
        for name in ("samples_generated", "samples_delivered"):
            self.assertTrue(check_deferred.unbalanced(dict(stats, **{name: "5"})))


class Filters(unittest.TestCase):
    REFUSED = ("lbrctl: LBR with branch filter any-call (0x11) is not to be had on every CPU: CPU 0\n"
               "has it with another filter, held by 'night' (filter call-stack (0x2c801) on every CPU);\n"
               "stop that session, or let them take turns (--allow-multiplex)\nexit code 1\n")
    TEXT = ("Its samples carry the LBR's branches (any). The kernel time-shared the counters: running\n"
            "50% of the time. Note: takes turns on the hardware: 'night'.\nexit code 0\n")

    @staticmethod
    def session(mode, enabled, running, **more):
        event = dict({"stack_mode": f"STACK_MODE_{mode}"}, **more)
        return {"state": "SESSION_STATE_STOPPED", "events": [event],
                "stats": {"samples_generated": "9", "samples_seen": "9", "samples_delivered": "9",
                          "time_enabled_ns": str(enabled), "time_running_ns": str(running),
                          "stacks_by_source": [{"name": "lbr", "value": "5"}]}}

    def test_sees_what_is_wrong_with_a_refusal(self):
        self.assertEqual(list(check_filters.refusal_problems(self.REFUSED)), [])
        for wrong in (self.REFUSED.replace("code 1", "code 0"), self.REFUSED.replace("night", "day"),
                      self.REFUSED.replace("--allow-multiplex", "")):
            self.assertTrue(list(check_filters.refusal_problems(wrong)), wrong)

    def test_sees_events_that_are_not_shared(self):
        right = {"sessions_running": 10, "flows": 1}
        self.assertEqual(list(check_filters.shared_problems([4, 4, 4], right)), [])
        for given in (([4, 4, 8], right), ([4, 8, 4], right), ([0, 0, 0], right),
                      ([4, 4, 4], dict(right, flows=2)), ([4, 4, 4], dict(right, sessions_running=9))):
            self.assertTrue(list(check_filters.shared_problems(*given)), given)

    def test_sees_what_is_no_time_sharing(self):
        night = self.session("LBR", 100, 70)
        other = self.session("KERNEL_DEFERRED", 100, 50, branch_filter="BRANCH_FILTER_ANY")
        right = [other, self.TEXT, night, "exit code 0\n"]
        self.assertEqual(list(check_filters.turns_problems(*right)), [])
        for at, wrong in (
            (0, self.session("KERNEL_DEFERRED", 100, 100, branch_filter="BRANCH_FILTER_ANY")),
            (0, self.session("LBR", 100, 50, branch_filter="BRANCH_FILTER_ANY")),
            (0, self.session("KERNEL_DEFERRED", 100, 50)),
            (1, self.TEXT.replace("running", "ran")), (1, self.TEXT.replace("code 0", "code 1")),
            (2, self.session("LBR", 100, 100)), (2, self.session("DWARF", 100, 70)),
            (3, "exit code 1\n"),
        ):
            given = right[:at] + [wrong] + right[at + 1:]
            self.assertTrue(list(check_filters.turns_problems(*given)), wrong)

    def test_sees_branches_that_do_not_follow_each_other(self):
        def samples(step, source="sampled_ip"):
            branches = [{"from": {"ip": 10000 - i * step + 10}, "to": {"ip": 10000 - i * step + 100}}
                        for i in range(3)]
            return [{"stack": [{"source": source}], "branches": branches}] * 30

        # Each goes 90 bytes ahead of where it began, and the next begins behind there.
        self.assertEqual(list(check_filters.branch_problems(samples(100), 90)), [])
        for wrong in (samples(-5000), samples(6000), samples(100, "lbr"), samples(100)[:5]):
            self.assertTrue(list(check_filters.branch_problems(wrong, 90)), wrong[0])


class Hotplug(unittest.TestCase):
    SESSION = {"state": "SESSION_STATE_STOPPED", "cpus": 2, "running_time": "60.5s",
               "stats": {"samples_generated": "10", "samples_seen": "10", "samples_delivered": "10",
                         "gap_count": "2", "gap_ns": "21000000000", "time_enabled_ns": "100000000000",
                         "gaps": [{"cpu": 1, "from_ns": "5000000000", "to_ns": "6000000000"},
                                  {"cpu": 1, "from_ns": "7000000000", "to_ns": "0"}]}}

    def changed(self, **stats):
        session = copy.deepcopy(self.SESSION)
        session["stats"].update(stats)
        return session

    def test_passes_what_is_right_and_sees_what_is_wrong(self):
        right = (self.SESSION, "exit code 0\n", [100, 100], 20000)
        self.assertEqual(list(check_hotplug.problems(*right)), [])
        gaps = self.SESSION["stats"]["gaps"]
        for given in (
            (self.changed(samples_seen="9"), *right[1:]),
            (dict(self.SESSION, state="SESSION_STATE_FAILED"), *right[1:]),
            (self.SESSION, "hung\nexit code 137\n", *right[2:]),
            (*right[:2], [100, 3], 20000),
            (*right[:3], 10),
            (self.changed(gap_count="0", gaps=[]), *right[1:]),
            (self.changed(gap_count="101", gaps=gaps * 32), *right[1:]),  # more than there were
            (self.changed(gap_count="3"), *right[1:]),                    # one is not told
            (self.changed(gaps=gaps[::-1]), *right[1:]),                  # at once
            (self.changed(gaps=[gaps[0], dict(gaps[1], to_ns="6500000000")]), *right[1:]),
            (self.changed(gaps=[gaps[1], dict(gaps[1], cpu=0)]), *right[1:]),
            (self.changed(gap_ns="9000000000"), *right[1:]),             # not all of the time
            (self.changed(gap_ns="41000000000"), *right[1:]),            # more than there was
        ):
            self.assertTrue(list(check_hotplug.problems(*given)), given)


if __name__ == "__main__":
    unittest.main()
