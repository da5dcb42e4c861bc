#!/usr/bin/env python3
"""Tests of check_lbr_chains.py: each way a stack can be wrong must be seen."""

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
from unittest import mock

import check_lbr_chains as checker

LIBC = ["__libc_start_call_main", "__libc_start_main@@GLIBC_2.34", "_start"]


def frames(symbols, source="lbr"):
    return [
        {
            "ip": 4096 + i,
            "symbol": s,
            "offset": 0,
            "dso": "/bin/chaina",
            "build_id": None,
            "source": "sampled_ip" if i == 0 else source,
        }
        for i, s in enumerate(symbols)
    ]


def sample(symbols, source="lbr", state="complete", pid=7):
    return {
        "time": 1,
        "pid": pid,
        "tid": pid,
        "comm": "x",
        "cpu": 0,
        "event": "cycles",
        "weight": 1,
        "stack": frames(symbols, source),
        "verdict": {"state": state, "reason": ""},
    }


FULL = {program: sample(chain + LIBC) for program, chain in checker.CHAINS.items()}


class CheckLbrChains(unittest.TestCase):
    def run_checker(self, samples, *flags):
        """All of b is right, and 200 of a beside what is given."""
        lines = [FULL["b"]] * 200 + [FULL["a"]] * 200 + samples
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.jsonl")
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            self.output = io.StringIO()
            with contextlib.redirect_stdout(self.output), mock.patch.object(
                sys, "argv", ["check", path, *flags]
            ):
                return checker.main()

    def expect_kind(self, kind, stack, *flags):
        self.assertEqual(
            checker.judge(self.one(stack), checker.CHAINS["a"], "--strict" in flags), kind
        )
        self.assertEqual(self.run_checker([stack] * 10, *flags), 0 if kind is None else 1)

    @staticmethod
    def one(stack):
        return checker.Sample(
            7,
            [checker.plain_symbol(f["symbol"]) for f in stack["stack"]],
            any(f["source"] == "lbr" for f in stack["stack"]),
            False,
        )

    def test_full(self):
        self.expect_kind(None, FULL["a"])
        self.expect_kind(None, sample(checker.CHAINS["a"]))

    def test_one_percent_may_be_cut(self):
        cut = sample(checker.CHAINS["a"][:9], state="truncated")
        self.assertEqual(self.run_checker([cut] * 2), 0)
        self.assertEqual(self.run_checker([cut] * 3), 1)

    def test_kinds(self):
        chain = checker.CHAINS["a"]
        self.expect_kind("leaf only", sample(chain[:1], state="truncated"))
        self.expect_kind("cut", sample(chain[:-1], state="truncated"))
        self.expect_kind("wrong frame", sample(chain[:5] + chain[6:]))
        self.expect_kind("wrong frame", sample(chain[:5] + [None] + chain[6:]))
        self.expect_kind("foreign at end", sample(chain + ["b_leaf"]))
        self.expect_kind("foreign at end", sample(chain + LIBC[:2] + ["fork"]))
        self.expect_kind("not by LBR", sample(chain + LIBC, source="dwarf"))

    def test_frames_from_before_exec(self):
        stale = sample(checker.CHAINS["a"] + LIBC + ["__execve", "main"])
        self.expect_kind(None, stale)
        self.expect_kind("foreign at end", stale, "--strict")

    def test_cut_may_be_allowed_but_not_called_complete(self):
        chain = checker.CHAINS["a"]
        self.assertEqual(
            self.run_checker([sample(chain[:1], state="truncated")] * 500, "--allow-cut"), 0
        )
        self.assertEqual(
            self.run_checker([sample(chain[:1], state="complete")] * 500, "--allow-cut"), 1
        )
        self.assertIn("called complete", self.output.getvalue())

    def test_recursion(self):
        window = sample(["a_leaf"] + ["a_rec"] * 31, state="truncated", pid=8)
        right = sample(["a_leaf"] + ["a_rec"] * 61 + ["main"] + LIBC, pid=8)
        too_short = sample(["a_leaf"] + ["a_rec"] * 31 + ["main"] + LIBC, pid=8)
        self.assertEqual(self.run_checker([window] * 50 + [right] * 50), 0)
        self.assertEqual(self.run_checker([window] * 50 + [too_short] * 50), 1)

    def test_kernel_mode_samples_are_left_out(self):
        wrong = sample(checker.CHAINS["a"][:3])
        wrong["stack"].insert(0, {"ip": 1 << 63, "symbol": "schedule", "source": "kernel"})
        self.assertEqual(self.run_checker([wrong] * 100), 0)

    def test_few_samples_are_not_enough(self):
        self.assertEqual(self.run_checker([], "--least", "201"), 1)

    def test_perf_script(self):
        chain = "".join(
            f"\t          401{i:03x} {s} (/bin/chaina)\n" for i, s in enumerate(checker.CHAINS["a"])
        )
        text = (
            f"chaina   145 [000]    11.363921:    1000003   cycles: \n{chain}\n"
            "chaina   145 [000]    11.369311:    1000003   cycles: \n\t              12 [unknown] ([unknown])\n\n"
            f"chaina   145 [000]    11.37:    1000003   cycles: \n\tffffffff9c527411 x ([kernel.kallsyms])\n{chain}\n"
        )
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(text)
            file.flush()
            samples = list(checker.perf_script_samples(file.name))
        self.assertEqual([s.symbols for s in samples], [checker.CHAINS["a"], ["a_leaf"]])


if __name__ == "__main__":
    unittest.main()
