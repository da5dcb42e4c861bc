#!/usr/bin/python3
"""LBR stacks deeper than a window, or cut by switches: lbrctl against perf script --stitch-lbr, on the same recordings.

    tests/bench/stitch_bench.py [RECORDING...]

Without arguments: the recordings of ../shared/recordings/emulated (or $LBRD_RECORDINGS/emulated), made by stock
kernels in a guest with an emulated LBR. Their programs' chains are known: chaina is main, a1 … a20, a_leaf, or with
recursion main, 61 × a_rec, a_leaf; chainb is main, b1 … b12, b_leaf.

Every sample of these programs is judged by its user frames, whatever was called in the leaf left away:

    whole    all of the chain down to main, and nothing else in it
    false    contradicts the chain: a frame that is not there, or main reached with frames missing
    cut      right as far as it goes
    -        no frame of the program, or one of which the truth is not known: a recursion before its leaf

perf shows every stack as it is. lbrctl says which it is sure of: a false stack is *sure* unless its verdict says
otherwise (stitched with low confidence, ambiguous, calls_do_not_chain).
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lbrd_fixture import LBRCTL, RECORDINGS, skip

RECURSIONS = 61
CHAINS = {
    "chaina": ["a_leaf"] + [f"a{i}" for i in range(20, 0, -1)] + ["main"],
    "chainb": ["b_leaf"] + [f"b{i}" for i in range(12, 0, -1)] + ["main"],
}
RECURSION = ["a_leaf"] + ["a_rec"] * RECURSIONS + ["main"]
OF_PROGRAMS = set(sum(CHAINS.values(), [])) | {"a_rec"}
Stack = collections.namedtuple("Stack", "tid time comm symbols state reason confidence")


def plain(symbol):
    return re.sub(r"\+0x[0-9a-f]+$", "", symbol or "").split("@")[0]


def by_lbrctl(recording):
    done = subprocess.run([str(LBRCTL), "-q", "report", "-i", str(recording), "--format", "jsonl"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    for line in done.stdout.splitlines():
        sample = json.loads(line)
        verdict = sample["verdict"]
        yield Stack(sample["tid"], sample["time"], sample["comm"],
                    [plain(f["symbol"]) for f in sample["stack"] if f["source"] != "kernel"],
                    verdict["state"], verdict.get("reason"), verdict.get("confidence"))


def by_perf(recording):
    with tempfile.TemporaryDirectory() as folder:
        # perf looks for the programs where they were; they stand beside the recording.
        os.makedirs(f"{folder}/bin")
        for program in recording.parent.iterdir():
            if program.suffix == "" and os.access(program, os.X_OK) and program.is_file():
                shutil.copy(program, f"{folder}/bin")
        done = subprocess.run(["perf", "script", "--stitch-lbr", "--no-inline", "--symfs", folder, "-i",
                               str(recording), "-F", "comm,tid,time,ip,sym", "--ns"],
                              capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    head = re.compile(r"^(\S.*?)\s+(\d+)\s+(\d+)\.(\d+):")
    for block in done.stdout.split("\n\n"):
        lines = block.strip("\n").splitlines()
        match = head.match(lines[0]) if lines else None
        if match is None:
            continue
        frames = [line.split(None, 1) for line in lines[1:]]
        user = [plain(name) for ip, name in frames if int(ip, 16) < 1 << 63]
        yield Stack(int(match[2]), int(match[3]) * 10**9 + int(match[4]), match[1].strip(), user, None,
                    None, None)


def judge(symbols, chain):
    own = [i for i, name in enumerate(symbols) if name in OF_PROGRAMS]
    if not own:
        return "-"
    symbols = symbols[own[0]:]
    end = symbols.index("main") + 1 if "main" in symbols else len(symbols)
    stack = symbols[:end]
    if stack[-1] != "main" and stack[-1] not in OF_PROGRAMS and any(n in OF_PROGRAMS for n in stack):
        # Frames that are not the program's below its own.
        return "false"
    if stack[0] == "a_rec" and chain is RECURSION:
        return "-" if set(stack) <= {"a_rec", "main"} else "false"
    if stack[0] not in chain:
        return "false"
    truth = chain[chain.index(stack[0]):]
    if stack == truth:
        return "whole"
    return "cut" if stack == truth[:len(stack)] else "false"


def sure(stack):
    if stack.state is None:
        return True
    if stack.reason in ("ambiguous", "callers_vary", "calls_do_not_chain"):
        return False
    return stack.confidence in (None, "high", "CONFIDENCE_HIGH")


def rows(recording):
    ours, theirs = list(by_lbrctl(recording)), list(by_perf(recording))
    # Some, of a thread that does not recurse, have another thread's frames.
    all_of = collections.Counter(s.tid for s in ours)
    with_recursion = collections.Counter(s.tid for s in ours if "a_rec" in s.symbols)
    recursing = {tid for tid in all_of if 2 * with_recursion[tid] > all_of[tid]}
    for who, stacks in (("lbrctl", ours), ("perf --stitch-lbr", theirs)):
        programs = collections.defaultdict(collections.Counter)
        for stack in stacks:
            if stack.comm not in CHAINS:
                continue
            name = stack.comm + (" recursing" if stack.tid in recursing else "")
            count = programs[name]
            kind = judge(stack.symbols, RECURSION if stack.tid in recursing else CHAINS[stack.comm])
            count["samples"] += 1
            count[kind] += 1
            if kind == "whole" and stack.state == "stitched":
                count["stitched sure" if sure(stack) else "stitched unsure"] += 1
            if kind == "false" and sure(stack):
                count["false sure"] += 1
            if stack.reason == "ambiguous":
                count["ambiguous"] += 1
        for name in sorted(programs):
            yield name, who, programs[name]


def main():
    if shutil.which("perf") is None:
        skip("there is no perf (Debian: linux-perf)")
    recordings = [pathlib.Path(name) for name in sys.argv[1:]]
    if not recordings:
        recordings = sorted((RECORDINGS / "emulated").glob("*.data"))
    if not recordings:
        skip(f"there are no recordings in {RECORDINGS}/emulated")
    columns = ["whole", "stitched sure", "stitched unsure", "cut", "false", "false sure", "ambiguous", "-"]
    print("Shares of a program's samples, %\n")
    print(f"{'recording':22} {'program':16} {'by':17} {'samples':>7}" +
          "".join(f"{c:>{max(6, len(c) + 2)}}" for c in columns))
    for recording in recordings:
        for name, who, count in sorted(rows(recording), key=lambda row: row[:2]):
            part = "".join(f"{100 * count[c] / count['samples']:>{max(6, len(c) + 2)}.1f}" for c in columns)
            print(f"{recording.stem:22} {name:16} {who:17} {count['samples']:>7}{part}", flush=True)


main()
