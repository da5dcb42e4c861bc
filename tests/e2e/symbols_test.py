"""Names of code made at run time, in processes that are gone when they are shown; inlined functions."""

import json
import pathlib
import shutil
import sys
import tempfile
import textwrap
import unittest

from lbrd_fixture import LBRCTL, Daemon, Demo, main, require_root, run, user_frames

# Makes a function in memory of its own and runs it for two seconds; tells of it in a perf map, or in a
# jitdump, where another function takes its place after one.
JIT = textwrap.dedent("""
    import ctypes, mmap, os, struct, sys, time
    how, folder = sys.argv[1:]
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push %rbp; mov %rsp,%rbp; mov $3000000,%ecx; 1: dec %ecx; jnz 1b; pop %rbp; ret
    code = bytes.fromhex("55 48 89 e5 b9 c0c62d00 ff c9 75 fc 5d c3")
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    function = ctypes.CFUNCTYPE(None)(address)

    def load(dump, name):
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        body = struct.pack("<IIQQQQ", os.getpid(), os.getpid(), address, address, len(code), 0)
        body += name + b"\\0" + code
        dump.write(struct.pack("<IIQ", 0, 16 + len(body), now) + body)
        dump.flush()
        return now

    def work(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            function()

    if how == "map":
        with open(f"/tmp/perf-{os.getpid()}.map", "w") as out:
            out.write(f"nonsense\\n{address:x} {len(code):x} made_by_test at run time\\n")
        work(2)
    else:
        dump = open(f"{folder}/jit-{os.getpid()}.dump", "w+b")
        dump.write(struct.pack("<IIIIIIQQ", 0x4a695444, 1, 40, 62, 0, os.getpid(), 0, 0))
        dump.flush()
        mark = mmap.mmap(dump.fileno(), 40, prot=mmap.PROT_READ | mmap.PROT_EXEC,
                         flags=mmap.MAP_PRIVATE)
        load(dump, b"first_function")
        work(1)
        switched = load(dump, b"second_function")
        work(1)
        open(f"{folder}/switched", "w").write(str(switched))
""")

FIB = textwrap.dedent("""
    function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
    const end = Date.now() + 3000;
    let sum = 0;
    while (Date.now() < end) sum += fibonacci(25);
    console.log(sum);
""")


class MadeAtRunTime(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-jit-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.script = self.folder / "jit.py"
        self.script.write_text(JIT)
        self.maps = set(pathlib.Path("/tmp").glob("perf-*.map"))
        self.addCleanup(self.remove_maps)

    def remove_maps(self):
        for path in set(pathlib.Path("/tmp").glob("perf-*.map")) - self.maps:
            path.unlink()

    def record(self, *command):
        with Daemon() as daemon:
            samples, _ = daemon.record("-F", "499", "--", *command, timeout=120)
        return samples

    def leaves(self, samples, symbol):
        leaves = [(s, user_frames(s)[0]) for s in samples if user_frames(s)]
        return [(s, frame) for s, frame in leaves if frame["symbol"] == symbol]

    def test_a_perf_map(self):
        samples = self.record(sys.executable, self.script, "map", self.folder)
        named = self.leaves(samples, "made_by_test at run time")
        self.assertGreater(len(named), len(samples) / 2)
        pid = named[0][0]["pid"]
        self.assertEqual({frame["dso"] for _, frame in named}, {f"/tmp/perf-{pid}.map"})

    def test_a_perf_map_in_a_container(self):
        # The process is 1 in its own PID namespace, and /tmp is its own.
        script = pathlib.Path("/var/tmp") / self.folder.name
        script.write_text(JIT)
        self.addCleanup(script.unlink)
        inside = f"cd / && mount -t tmpfs none /tmp && exec {sys.executable} {script} map /"
        if run("unshare", "-m", "-p", "--fork", "true").returncode != 0:
            self.skipTest("namespaces cannot be made here (unshare)")
        samples = self.record("unshare", "-m", "-p", "--fork", "--kill-child", "sh", "-c", inside)
        named = self.leaves(samples, "made_by_test at run time")
        self.assertGreater(len(named), len(samples) / 2)
        self.assertEqual({frame["dso"] for _, frame in named}, {"/tmp/perf-1.map"})

    def test_programs_of_a_container_that_are_gone_at_once(self):
        # Each has ended by the time its mappings are read; the shell that begins them has not.
        if run("unshare", "-m", "true").returncode != 0:
            self.skipTest("namespaces cannot be made here (unshare)")
        spin = '/mnt/spin$i -c "for ((n = 0; n < 20000; n++)); do :; done"'
        inside = (f"mount -t tmpfs none /mnt; for i in $(seq 40); do "
                  f"cp /bin/bash /mnt/spin$i; {spin}; rm /mnt/spin$((i - 10)); done")
        with Daemon() as daemon:
            shown = daemon.lbrctl("record", "-F", "199", "--format", "folded", "--", "unshare",
                                  "-m", "sh", "-c", inside)
        stacks = [line.rsplit(" ", 1) for line in shown.stdout.splitlines() if line.startswith("spin")]
        whole = sum(int(weight) for _, weight in stacks)
        named = sum(int(weight) for stack, weight in stacks if "execute_command" in stack)
        self.assertGreater(len(stacks), 10, shown.stdout + shown.stderr)
        self.assertGreater(named, whole * 0.7, shown.stdout)

    def test_a_jitdump_whose_code_changes(self):
        samples = self.record(sys.executable, self.script, "dump", self.folder)
        switched = int((self.folder / "switched").read_text())
        first = [s["time"] for s, _ in self.leaves(samples, "first_function")]
        second = [s["time"] for s, _ in self.leaves(samples, "second_function")]
        self.assertGreater(min(len(first), len(second)), 20)
        self.assertLess(max(first), switched)
        self.assertGreaterEqual(min(second), switched)

    def assert_fibonacci(self, samples, kind):
        with_fib = [s for s in samples
                    if any("fibonacci" in (f["symbol"] or "") for f in s["stack"])]
        self.assertGreater(len(with_fib), len(samples) / 2)
        frames = [f for s in with_fib for f in s["stack"] if "fibonacci" in (f["symbol"] or "")]
        self.assertEqual({pathlib.Path(f["dso"]).suffix for f in frames}, {kind})

    def fib(self):
        if not shutil.which("node"):
            self.skipTest("node (nodejs) is not installed")
        script = self.folder / "fib.js"
        script.write_text(FIB)
        return script

    def test_node_with_a_perf_map(self):
        # It leaves a log where it runs.
        self.assert_fibonacci(self.record("env", "-C", self.folder, "node", "--perf-basic-prof",
                                          self.fib()), ".map")

    def test_node_with_a_jitdump_in_a_recording(self):
        # V8 writes it late: too late to be read while it runs.
        script = self.fib()
        if not shutil.which("perf"):
            self.skipTest("perf (linux-perf) is not installed")
        done = run("perf", "record", "-k", "mono", "-e", "cpu-clock", "-F", "199", "-g", "-o",
                   self.folder / "perf.data", "node", "--perf-prof", script, cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = run(LBRCTL, "-q", "report", "-i", self.folder / "perf.data", "--format", "jsonl")
        self.assertEqual(report.returncode, 0, report.stderr)
        self.assert_fibonacci([json.loads(line) for line in report.stdout.splitlines()], ".dump")


class Inlined(unittest.TestCase):
    def test_inlined_functions_and_lines_are_shown_when_asked_for(self):
        with Daemon() as daemon, Demo() as demo:
            plain, _ = daemon.record("-p", demo.pid, "-d", "1s")
            lines, _ = daemon.record("-p", demo.pid, "-d", "1s", "--lines")
            inlined, _ = daemon.record("-p", demo.pid, "-d", "1s", "--inline")
            folded = daemon.lbrctl("-q", "record", "-p", demo.pid, "-d", "1s", "--inline",
                                   "--format", "folded")
        frames = [f for s in plain for f in s["stack"]]
        self.assertFalse(any("file" in f or "inlined" in f for f in frames))
        frames = [f for s in lines for f in s["stack"]]
        if not any("file" in f for f in frames):
            self.skipTest("the demo has no debug information")
        self.assertFalse(any("inlined" in f for f in frames))
        frames = [f for s in inlined for f in s["stack"] if f.get("inlined")]
        self.assertTrue(frames)
        self.assertTrue(all(f["line"] > 0 and f["file"] and f["offset"] is None for f in frames
                            if "file" in f))
        self.assertEqual(folded.returncode, 0, folded.stderr)
        self.assertIn("_[i]", folded.stdout)


if __name__ == "__main__":
    require_root()
    main()
