"""The demo workload, whose shares of CPU time are known by construction, profiled for real."""

import json
import re
import time
import unittest

from lbrd_fixture import (DEMO, Daemon, Demo, count, main, names, require_root, run,
                          user_frames)

TRUTH = json.loads(run(DEMO, "--truth").stdout)
# Where the machine gives LBR or other sources these hold as well; here it is the copied stack.
POINTS = 3.0


def function_of(sample):
    """The innermost function of the truth on a sample's stack: whose own time the sample is."""
    for name in names(sample):
        for function in TRUTH["functions"]:
            if name and re.search(function["pattern"], name):
                return function["function"]
    return None


class DemoProfile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Daemon() as daemon, Demo() as demo:
            cls.pid = demo.pid
            cls.samples, cls.session = daemon.record("-a", "-F", "999", "-d", "8s")
        cls.of_demo = [s for s in cls.samples if s["pid"] == cls.pid]

    def test_user_stacks_are_complete(self):
        user = [s for s in self.of_demo if user_frames(s)]
        complete = [s for s in user if s["verdict"]["state"] == "complete"]
        self.assertGreater(len(user), 500)
        self.assertGreaterEqual(len(complete) / len(user), 0.95,
                                count(s["verdict"]["reason"] for s in user))

    def test_a_complete_stack_reaches_the_threads_start(self):
        # What "complete" claims is looked at: the oldest frame is where threads and processes begin.
        starts = count(names(s)[-1] for s in self.of_demo
                       if s["verdict"]["state"] == "complete" and user_frames(s))
        for start in starts:
            self.assertIn(start, {"_start", "__clone3", "clone3", "__GI___clone3", "clone",
                                  "__clone", None}, starts)

    def test_shares_are_the_truth(self):
        found = count(function_of(s) for s in self.of_demo)
        total = sum(n for function, n in found.items() if function)
        print(f"{'function':34} {'truth':>7} {'found':>7}")
        worst = 0
        for function in TRUTH["functions"]:
            share = 100 * found[function["function"]] / total
            print(f"{function['function']:34} {100 * function['share']:6.1f}% {share:6.1f}%")
            worst = max(worst, abs(share - 100 * function["share"]))
        self.assertLessEqual(worst, POINTS)
        # The rest of the program is next to nothing, so the shares are of all of it.
        self.assertGreater(total / len(self.of_demo), 0.95, found)

    def test_recursion_library_and_signal_are_seen_whole(self):
        by_function = {}
        for sample in self.of_demo:
            by_function.setdefault(function_of(sample), []).append(names(sample))
        deep = [n for n in by_function["demo::SearchLeaf"] if n.count("demo::Descend") == 60]
        self.assertGreaterEqual(len(deep) / len(by_function["demo::SearchLeaf"]), 0.95)
        in_library = by_function["demo_codec_transform"]
        self.assertGreaterEqual(
            sum("demo::EncodeFrame" in n for n in in_library) / len(in_library), 0.95)
        in_handler = by_function["demo::HandleTick"]
        self.assertGreaterEqual(
            sum("demo::Integrate" in n and "demo::OnTick" in n for n in in_handler)
            / len(in_handler), 0.95)

    def test_short_lived_children_have_names_and_symbols(self):
        children = [s for s in self.samples if s["comm"] == TRUTH["children"]["comm"]]
        self.assertGreater(len({s["pid"] for s in children}), 10)
        named = [s for s in children if TRUTH["children"]["function"] in names(s)]
        # Some of a child's time is the loader's and the kernel's.
        self.assertGreater(len(named) / len(children), 0.5)


if __name__ == "__main__":
    require_root()
    main()
