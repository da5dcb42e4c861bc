"""A program as it comes from a compiler that was not asked to optimize. Some of its samples are
taken at `ret`, where its call frame information speaks of a word below the stack pointer."""

import pathlib
import shutil
import tempfile
import unittest

from lbrd_fixture import Daemon, count, main, names, require_root, run

PROGRAM = r"""
#include <ctime>
static long leaf(long x) { return x * 3 + 1; }
static long middle(long x) { return leaf(x) + leaf(x + 1); }
static long top(long n) {
  long sum = 0;
  for (long i = 0; i < n; ++i) sum += middle(i);
  return sum;
}
int main() {
  volatile long sum = 0;
  while (std::clock() < 3 * CLOCKS_PER_SEC) sum = sum + top(100000);
}
"""


class Unoptimized(unittest.TestCase):
    def test_stacks_are_complete(self):
        compiler = shutil.which("g++") or shutil.which("clang++-14")
        if compiler is None:
            self.skipTest("there is no compiler for the program")
        with tempfile.TemporaryDirectory() as folder, Daemon() as daemon:
            program = pathlib.Path(folder) / "unoptimized"
            (source := program.with_suffix(".cc")).write_text(PROGRAM)
            built = run(compiler, "-O0", "-o", program, source)
            self.assertEqual(built.returncode, 0, built.stderr)
            samples, _ = daemon.record("--stack", "dwarf", "-F", "999", "--", program)
        inside = [s for s in samples if names(s) and names(s)[0] in
                  {"leaf", "middle", "top"}]
        self.assertGreater(len(inside), 300, count(tuple(names(s)[:3]) for s in samples))
        verdicts = count((s["verdict"]["state"], s["verdict"]["reason"]) for s in inside)
        self.assertGreaterEqual(verdicts["complete", ""] / len(inside), 0.99, verdicts)
        chain = ["leaf", "middle", "top", "main"]
        for sample in inside:
            if sample["verdict"]["state"] != "complete":
                continue
            found = names(sample)
            self.assertEqual(found[:found.index("main") + 1], chain[chain.index(found[0]):])


if __name__ == "__main__":
    require_root()
    main()
