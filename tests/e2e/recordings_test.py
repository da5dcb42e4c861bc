"""Recordings made by others on real hardware, and by perf here: read whole, or refused with a reason."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from lbrd_fixture import LBRCTL, RECORDINGS, SOURCE, Session, main, run, skip

# The number of samples that perf finds in each (its own figures; see recordings/README.md).
SAMPLES = {
    "dwarf-regs-stack-kbl-8.data": 8,
    "hybrid-rpl-7.data": 7,
    "lbr-any-amd-zen4-8.data": 8,
    "lbr-any-fp-systemwide-snb-1856.data": 1856,
    "lbr-any-hsw-145.data": 145,
    "lbr-any-skl-13.data": 13,
    "lbr-callstack-tgl-596.data": 596,
    "zstd-pipe-arm64-8.data": 8,
    "zstd2-pipe-dwarf-fibo.data": 547,
}


def report(path, folder):
    lines, account = folder / "samples.jsonl", folder / "session.json"
    done = run(LBRCTL, "-q", "report", "--input", path, "-o", lines, "-o", account)
    if done.returncode != 0:
        return done, [], None
    with open(lines) as file:
        samples = [json.loads(line) for line in file]
    return done, samples, Session(json.loads(account.read_text()))


def perf_dump(path):
    """What perf report -D says of each sample: (time, tid, user IP, LBR chain's `from` addresses)."""
    text = run("perf", "report", "-D", "-i", path).stdout
    samples, chain, section = [], None, None
    head = re.compile(r"^\d+ (\d+) 0x[0-9a-f]+ \[0x[0-9a-f]+\]: PERF_RECORD_SAMPLE"
                      r"\(IP, 0x([0-9a-f]+)\): (\d+)/(\d+): 0x([0-9a-f]+)")
    head_no_cpu = re.compile(r"^(\d+) 0x[0-9a-f]+ \[0x[0-9a-f]+\]: PERF_RECORD_SAMPLE"
                             r"\(IP, 0x([0-9a-f]+)\): (\d+)/(\d+): 0x([0-9a-f]+)")
    for line in text.splitlines():
        match = head.match(line) or head_no_cpu.match(line)
        if match:
            samples.append({"time": int(match[1]), "misc": int(match[2], 16), "tid": int(match[4]),
                            "ip": int(match[5], 16), "lbr chain": [], "FP chain": [],
                            "branch callstack": []})
            section = None
        elif line.startswith("... LBR call chain"):
            section = "lbr chain"
        elif line.startswith("... FP chain"):
            section = "FP chain"
        elif line.startswith("... branch callstack"):
            section = "branch callstack"
        elif line.startswith("....."):
            found = re.match(r"^\.+ +\d+: ([0-9a-f]{16})\s*$", line)
            if found and section:
                samples[-1][section].append(int(found[1], 16))
        else:
            section = None
    return samples


def is_part(part, whole):
    """Whether `part` is left when some elements of `whole` are taken away."""
    rest = iter(whole)
    return all(element in rest for element in part)


USER_CONTEXT = 0xfffffffffffffe00


class Recordings(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def test_every_file_is_read_or_refused_with_a_reason(self):
        files = sorted(RECORDINGS.glob("**/*.data"))
        self.assertGreater(len(files), 10)
        for path in files:
            done, samples, session = report(path, self.folder)
            if done.returncode != 0:
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, path)
                self.assertNotIn(path.name, SAMPLES, done.stderr)
                continue
            self.assertEqual(len(samples), session.stat("samples_delivered"), path)
            self.assertEqual(session.stat("samples_generated"),
                             session.stat("samples_seen") + session.stat("samples_lost"), path)
            self.assertEqual(session.stat("samples_seen"), len(samples), path)
            if path.name in SAMPLES:
                self.assertEqual(len(samples), SAMPLES[path.name], path)

    def test_branches_of_a_history_equal_perfs(self):
        for name in ("lbr-any-skl-13.data", "lbr-any-amd-zen4-8.data"):
            path = RECORDINGS / name
            _, ours, _ = report(path, self.folder)
            text = run("perf", "script", "-F", "brstack", "-i", path).stdout
            # Each is FROM/TO/PREDICTED/TRANSACTION/ABORT/CYCLES, and more with newer ones.
            # Where the hardware had fewer, it gives entries from 0 to 0: no branches.
            theirs = [[entry.split("/") for entry in line.split()
                       if not entry.startswith("0x0/0x0/")] for line in text.splitlines()]
            theirs = [entries for entries in theirs if entries]
            self.assertGreater(len(theirs), 0, path)

            def as_perf(branch):
                predicted = {True: "M", False: "P", None: "-"}[branch["mispredicted"]]
                return [f"{branch['from']['ip']:#x}", f"{branch['to']['ip']:#x}", predicted,
                        str(branch["cycles"] or 0)]

            mine = sorted([as_perf(branch) for branch in sample["branches"]] for sample in ours
                          if sample.get("branches"))
            self.assertEqual(mine, sorted([[*entry[:3], entry[5]] for entry in entries]
                                          for entries in theirs), path)

    def test_lbr_frames_equal_perfs(self):
        real = RECORDINGS / "lbr-callstack-tgl-596.data"
        for path in [real, *sorted(RECORDINGS.glob("emulated/*.data"))]:
            _, ours, _ = report(path, self.folder)
            theirs = perf_dump(path)
            self.assertEqual(len(ours), len(theirs), path)
            # Samples of one time and task are told apart by their place: both sides keep file order.
            key = lambda s: (s["time"], s["tid"])
            ours.sort(key=key)
            theirs.sort(key=key)
            windows = 0
            for mine, perfs in zip(ours, theirs):
                self.assertEqual(key(mine), key(perfs), path)
                chain = perfs["lbr chain"]
                lbr = [f["ip"] for f in mine["stack"] if f["source"] == "lbr"]
                # Both of perf's lists: the youngest entry's `to`, then every `from`.
                froms = [perfs["branch callstack"][1:]]
                if USER_CONTEXT in chain:
                    froms.append(chain[chain.index(USER_CONTEXT) + 2:])
                for expected in froms:
                    if path == real:
                        self.assertEqual(lbr, expected)
                    else:
                        # Frames of other processes that the kernel handed out are left out: ours
                        # is a part of perf's, in its order.
                        self.assertTrue(is_part(lbr, expected), path)
                windows += bool(lbr)
                sampled = [f["ip"] for f in mine["stack"] if f["source"] == "sampled_ip"]
                if perfs["misc"] & 7 == 2:
                    self.assertEqual(sampled, [perfs["ip"]])
                elif USER_CONTEXT in perfs["FP chain"]:
                    walked = perfs["FP chain"]
                    self.assertEqual(sampled, [walked[walked.index(USER_CONTEXT) + 1]])
                if not lbr and all(f["source"] in ("kernel", "sampled_ip") for f in mine["stack"]):
                    self.assertIn(mine["verdict"]["reason"],
                                  ("lbr_empty", "lbr_foreign", "calls_do_not_chain"))
            self.assertGreater(windows, 0, path)
            if path == real:
                empty = [s for s in ours if s["verdict"]["reason"] == "lbr_empty"]
                self.assertEqual((windows, len(empty)), (531, 65))

    def test_emulated_chains_are_whole(self):
        report(RECORDINGS / "emulated/arch-sys-6.19.data", self.folder)
        checked = run(sys.executable, SOURCE / "tests/vm/check_lbr_chains.py",
                      self.folder / "samples.jsonl")
        print(checked.stdout)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_no_process_is_shown_anothers_frames(self):
        for name in ("arch-sys-6.19.data", "arch-sys-6.12.data", "arch-sys-two-users-7.2.data"):
            _, samples, _ = report(RECORDINGS / "emulated" / name, self.folder)
            for mine in samples:
                if mine["comm"] not in ("chaina", "chainb"):
                    continue
                others = {"chaina": "b", "chainb": "a"}[mine["comm"]]
                own = [f["symbol"] for f in mine["stack"] if f["source"] in ("lbr", "stitched")]
                foreign = [s for s in own if re.fullmatch(others + r"(_leaf|_rec|\d+)", s or "")]
                self.assertEqual(foreign, [], (name, mine["time"]))

    def test_recursion_is_never_sure_beyond_the_window(self):
        for name in ("arch-deep60-6.19.data", "legacy-deep60-6.19.data"):
            _, samples, _ = report(RECORDINGS / "emulated" / name, self.folder)
            for mine in samples:
                calls = [f for f in mine["stack"] if f["source"] in ("lbr", "stitched")]
                if len(calls) >= 32 and mine["verdict"]["state"] in ("complete", "stitched"):
                    self.assertNotEqual(mine["verdict"].get("reason", ""), "", (name, mine["time"]))

    def test_damaged_recordings_end_with_a_reason(self):
        whole = (RECORDINGS / "lbr-callstack-tgl-596.data").read_bytes()
        path = self.folder / "damaged.data"
        for cut in range(0, len(whole), len(whole) // 17):
            path.write_bytes(whole[:cut])
            done, _, _ = report(path, self.folder)
            self.assertIn(done.returncode, (0, 1, 2))
            self.assertLessEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertNotIn("Socket closed", done.stderr)


class OwnRecordings(unittest.TestCase):
    """perf record on this machine, in its modes: the same samples, and the same stacks' depth."""

    def test_perf_records(self):
        with tempfile.TemporaryDirectory(prefix="lbrd-test-") as folder:
            folder = pathlib.Path(folder)
            loop = ["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]
            for options in (["-g"], ["--call-graph", "dwarf"], ["-z", "--call-graph", "dwarf,4096"],
                            ["-b"], ["-d"], ["--no-buildid-cache"], ["-e", "page-faults", "-c", "1"]):
                path = folder / "perf.data"
                recorded = run("perf", "record", "-F", "4999", "-o", path, *options, "--", *loop) \
                    if "-c" not in options else run("perf", "record", "-o", path, *options, "--", *loop)
                if recorded.returncode != 0:
                    print("perf record", *options, "is not possible here:",
                          recorded.stderr.strip().splitlines()[-1])
                    continue
                theirs = run("perf", "script", "--no-inline", "-F", "time", "-G", "-i", path).stdout
                _, ours, session = report(path, folder)
                self.assertIsNotNone(session, options)
                self.assertEqual(len(ours), len(theirs.split()), options)
            piped = folder / "piped.data"
            with open(piped, "wb") as out:
                subprocess.run(["perf", "record", "-F", "999", "-g", "-o", "-", "--", *loop], stdout=out,
                               stderr=subprocess.DEVNULL, check=True)
            done, ours, _ = report(piped, folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(len(ours), 10)


if __name__ == "__main__":
    if not RECORDINGS.is_dir():
        skip(f"no recordings at {RECORDINGS}; name their folder with LBRD_RECORDINGS")
    if not shutil.which("perf"):
        skip("perf, the oracle, is not installed (package linux-perf)")
    main()
