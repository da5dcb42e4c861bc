#!/usr/bin/env python3
"""Tests of check_deep.py: each way a stack can be wrong must be seen."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import check_deep as checker

START = ["__libc_start_call_main", "__libc_start_main", "_start"]


def chain(deepest):
    return [f"d{i}" for i in range(deepest, 0, -1)] + ["main"]


def line(symbols, state="complete", reason=None):
    return json.dumps({"stack": [{"symbol": s, "source": "lbr"} for s in symbols],
                       "verdict": {"state": state, "reason": reason}})


class Deep(unittest.TestCase):
    def check(self, lines, copies=None):
        with tempfile.TemporaryDirectory(prefix="lbrd-test-") as folder:
            folder = pathlib.Path(folder)
            (folder / "deep.jsonl").write_text("\n".join(lines) + "\n")
            (folder / "deep-copy.jsonl").write_text("\n".join(copies or lines) + "\n")
            out = io.StringIO()
            with contextlib.redirect_stdout(out), mock.patch.object(sys, "argv", ["x", str(folder)]):
                return checker.main(), out.getvalue()

    def test_kinds(self):
        self.assertEqual(checker.judge(chain(60) + START), "whole")
        self.assertEqual(checker.judge(chain(1)), "whole")
        self.assertEqual(checker.judge(chain(60)[:32]), "cut")
        self.assertEqual(checker.judge(["d5", "d3", "d2", "d1", "main"]), "wrong")
        self.assertEqual(checker.judge(chain(3) + ["other"]), "wrong")
        self.assertIsNone(checker.judge(["memcpy"] + chain(3)))

    def test_whole_stacks_pass(self):
        self.assertEqual(self.check([line(chain(40) + START)] * 600)[0], 0)

    def test_too_few_samples_are_nothing(self):
        self.assertEqual(self.check([line(chain(40))] * 20)[0], 1)

    def test_cut_ones_fail_where_they_are_many(self):
        whole = [line(chain(40))] * 960
        cut = [line(chain(40)[:32], "truncated", "lbr_ended")]
        code, out = self.check(whole + cut * 40)
        self.assertEqual(code, 1)  # of the copies 99 % are wanted
        self.assertIn("with a copy of the stack: 96.00 %", out)
        self.assertEqual(self.check(whole + cut * 40, whole)[0], 0)
        self.assertEqual(self.check(whole + cut * 60, whole)[0], 1)

    def test_one_that_is_wrong_and_sure_fails(self):
        code, out = self.check([line(chain(40))] * 999 + [line(["d5", "d1", "main"], "stitched")])
        self.assertEqual(code, 1)
        self.assertIn("do not say so", out)
        unsure = line(["d5", "d1", "main"], "stitched", "callers_vary")
        self.assertEqual(self.check([line(chain(40))] * 999 + [unsure])[0], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
