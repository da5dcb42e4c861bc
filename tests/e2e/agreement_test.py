"""Real programs, recorded here by perf with copies of their stacks: our stacks are libunwind's, over the
same data, and where perf's are others it is known why (docs/design/unwinding.md).

Usage: agreement_test.py [--keep FOLDER]   the recordings stay there"""

import collections
import json
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

from lbrd_fixture import BUILD, LBRCTL, main, require_root, run, skip

UNWIND_BENCH = BUILD / "tests/bench/unwind_bench"
KEEP = None

# Deep calls, exceptions that are caught far up, a virtual call, sorting through a function pointer, and a
# signal handler that calls functions itself.
CPP = r"""
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <stdexcept>
#include <string>
#include <sys/time.h>
#include <vector>
static volatile long in_handler;
__attribute__((noinline)) static long Spin(long n) {
  volatile long sum = 0;
  for (long i = 0; i < n; ++i) sum = sum + i * i;
  return sum;
}
static void Handle(int) { in_handler = in_handler + Spin(20000); }
struct Shape {
  virtual ~Shape() = default;
  virtual long Area(int depth) const = 0;
};
struct Square : Shape {
  __attribute__((noinline)) long Area(int depth) const override {
    if (depth == 0) {
      if (Spin(300) % 3 == 0) throw std::runtime_error("square " + std::to_string(Spin(10)));
      return Spin(200);
    }
    return Area(depth - 1) + 1;
  }
};
static int Compare(const void* a, const void* b) {
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}
int main() {
  struct sigaction action = {};
  action.sa_handler = Handle;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval timer = {{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &timer, nullptr);
  std::map<std::string, long> words;
  long caught = 0;
  while (std::clock() < 3 * CLOCKS_PER_SEC) {
    const Square square;
    for (int depth = 1; depth < 40; ++depth) {
      try {
        words[std::to_string(depth)] += square.Area(depth);
      } catch (const std::exception& error) {
        caught += error.what()[0];
      }
    }
    std::vector<int> numbers(3000);
    for (int& number : numbers) number = std::rand();
    qsort(numbers.data(), numbers.size(), sizeof(int), Compare);
  }
  std::printf("%ld %zu %ld\n", caught, words.size(), static_cast<long>(in_handler));
}
"""

PYTHON = r"""
import json, re, time
end = time.process_time() + 3
def work(depth):
    if depth: return work(depth - 1)
    table = {str(i): [i, {"x": i * 1.5}] for i in range(300)}
    text = json.dumps(table)
    return sorted(re.findall(r"\d+", text), key=lambda word: word[::-1]) + [json.loads(text)]
while time.process_time() < end: work(10)
"""

NODE = r"""
const end = process.cpuUsage().user + 3e6;
function work(depth) {
  if (depth) return work(depth - 1);
  const text = JSON.stringify([...Array(500).keys()].map(i => ({ i, s: "x" + i })));
  return JSON.parse(text).sort((a, b) => a.s < b.s ? -1 : 1).length;
}
while (process.cpuUsage().user < end) work(10);
"""


def libunwinds(recording):
    """(samples, those with the same frames, those by kind of difference)"""
    done = run(UNWIND_BENCH, recording, timeout=600)
    found = re.search(r": (\d+) samples,.*same frames as libunwind: (\d+)", done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    kinds = re.findall(r"^- differ \(ours / theirs\) (.*): (\d+)$", done.stdout, re.MULTILINE)
    return int(found[1]), int(found[2]), {kind: int(count) for kind, count in kinds}


def ours(recording, folder):
    """By (tid, ns): the user frames and the verdict."""
    lines = folder / "samples.jsonl"
    done = run(LBRCTL, "-q", "report", "-i", recording, "-o", lines, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found = {}
    for line in lines.read_text().splitlines():
        sample = json.loads(line)
        frames = [f for f in sample["stack"] if f["source"] != "kernel"]
        found[sample["tid"], sample["time"]] = (frames, sample["verdict"])
    return found


def perfs(recording):
    """By (tid, ns): the user frames, as addresses in their files and names."""
    text = run("perf", "script", "--no-inline", "--ns", "-F", "tid,time,ip,sym", "-i", recording,
               timeout=600).stdout
    found, chain = {}, None
    for line in text.splitlines():
        head = re.match(r"^ *(\d+) +(\d+)\.(\d{9}): *$", line)
        if head:
            chain = found.setdefault((int(head[1]), int(head[2]) * 10**9 + int(head[3])), [])
        elif frame := re.match(r"^\s+([0-9a-f]+) ?(.*)$", line):
            address = int(frame[1], 16)
            if address < 1 << 63:
                chain.append((address, frame[2]))
    return found


def kind_of(mine, verdict, theirs):
    """How two accounts of one stack differ; None: they do not."""
    sure = [f for f in mine if f["source"] != "guess"]
    same = 0
    for frame, (address, _) in zip(mine, theirs):
        # perf shows addresses in the file, and return addresses less one. Files are mapped by pages.
        if (frame["ip"] - address) % 4096 not in (0, 1):
            break
        same += 1
    if same == len(mine) == len(theirs):
        return None
    if same == len(theirs):
        return f"perf's is cut, ours {verdict['state']}"
    if same >= len(sure):
        return f"perf's goes on where ours says {verdict['state']}: {verdict['reason']}"
    return "other frames"


class Agreement(unittest.TestCase):
    def record(self, folder, name, *command, **kwargs):
        recording = folder / f"{name}.data"
        done = run("perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,16384",
                   "-o", recording, "--", *command, cwd=folder, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr)
        if KEEP is not None:
            shutil.copy(recording, KEEP)
        return recording

    def check(self, folder, recording, name, same_as_perf):
        samples, same, libunwind_kinds = libunwinds(recording)
        mine, theirs = ours(recording, folder), perfs(recording)
        kinds, leaves = collections.Counter(), collections.defaultdict(collections.Counter)
        both = 0
        for key, (frames, verdict) in mine.items():
            if not frames or not theirs.get(key):
                continue
            both += 1
            kind = kind_of(frames, verdict, theirs[key])
            if kind is not None:
                kinds[kind] += 1
                leaves[kind][frames[0]["symbol"] or "?"] += 1
        print(f"\n{name}: {samples} samples with copies, {100 * same / samples:.2f} % the same frames as "
              f"libunwind, {both} compared with perf's")
        for kind, count in libunwind_kinds.items():
            print(f"  {count:6} ours / libunwind's: {kind}")
        for kind, count in kinds.most_common():
            print(f"  {count:6} {kind}; leaves {leaves[kind].most_common(4)}")
        self.assertGreater(samples, 100)
        # Known: libunwind gives up where an epilogue has taken a register back, and where a thread is in
        # the kernel for its signal return; we go on there.
        known = sum(count for kind, count in libunwind_kinds.items() if kind.endswith(", ours longer"))
        self.assertGreaterEqual((same + known) / samples, 0.999, libunwind_kinds)
        self.assertGreaterEqual(same / samples, 0.98, libunwind_kinds)
        self.assertGreater(both, 0.9 * samples)
        self.assertGreaterEqual(1 - kinds.total() / both, same_as_perf, kinds)

    # `same_as_perf`: the share of stacks that are to be perf's; where it is known to differ, 0.
    def run_in_folder(self, name, what, same_as_perf=0.0):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            self.check(folder, what(folder), name, same_as_perf)

    def compiled(self, folder, *flags):
        compiler = shutil.which("g++")
        if compiler is None:
            self.skipTest("there is no g++ for the program")
        (folder / "program.cc").write_text(CPP)
        built = run(compiler, "-O2", "-fomit-frame-pointer", *flags, "-o", folder / "program",
                    folder / "program.cc")
        if built.returncode != 0 and "-static" in flags:
            self.skipTest(f"no static libraries: {built.stderr.splitlines()[-1]}")
        self.assertEqual(built.returncode, 0, built.stderr)
        return folder / "program"

    def test_cpp_with_exceptions_and_signal_handlers(self):
        self.run_in_folder("C++", lambda folder: self.record(folder, "cpp", self.compiled(folder)),
                           same_as_perf=0.99)

    def test_a_static_binary(self):
        self.run_in_folder("static", lambda folder: self.record(
            folder, "static", self.compiled(folder, "-static")))

    def test_python(self):
        python = pathlib.Path(sys.executable).resolve()
        self.run_in_folder("Python", lambda folder: self.record(folder, "python", python, "-c", PYTHON),
                           same_as_perf=0.99)

    def test_gcc_compiling(self):
        if shutil.which("g++") is None:
            self.skipTest("there is no g++")

        def record(folder):
            (folder / "big.cc").write_text("#include <regex>\n#include <map>\n#include <functional>\n" + CPP)
            return self.record(folder, "gcc", "g++", "-O2", "-c", "big.cc")
        self.run_in_folder("g++", record)

    def test_node(self):
        if shutil.which("node") is None:
            self.skipTest("there is no node")
        self.run_in_folder("Node.js", lambda folder: self.record(folder, "node", "node", "-e", NODE))


if __name__ == "__main__":
    require_root()
    if shutil.which("perf") is None:
        skip("there is no perf to record with")
    if not UNWIND_BENCH.exists():
        skip(f"{UNWIND_BENCH} was not built")
    if len(sys.argv) > 2 and sys.argv[1] == "--keep":
        KEEP = sys.argv[2]
        del sys.argv[1:3]
    main()
