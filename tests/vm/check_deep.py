#!/usr/bin/env python3
"""Checks LBR stacks of a program twice as deep as the LBR (guest/deep_chain.c; its LBR is emulated).

    check_deep.py FOLDER    # deep.jsonl, deep-copy.jsonl, and deep.txt of stock perf if it is there

Looked at are samples whose leaf is one of d1 ... d60. Their user frames must be exactly that function,
those below it down to d1, and main; libc's start frames may follow. Of the LBR's stacks, completed by
stitching alone, 95 % must be whole, and with a copy of the stack beside the LBR 99 %; and none may be
wrong and not say so. perf says nothing of how sure it is; its row (--stitch-lbr) decides nothing.
"""

import argparse
import collections
import json
import pathlib
import re
import sys

from check_lbr_chains import LIBC_START, perf_script_samples, plain_symbol

DEPTH = 60
LEAST = 500  # samples, for a share of them to mean something

# deepest: the number of the leaf's function. sure: None where the input cannot say.
Sample = collections.namedtuple("Sample", "symbols sure")


def jsonl_samples(path):
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sample = json.loads(line)
            stack = sample.get("stack")
            if not stack or stack[0]["source"] == "kernel":
                continue
            verdict = sample["verdict"]
            sure = verdict["state"] == "complete" or (
                verdict["state"] == "stitched" and not verdict["reason"])
            yield Sample([plain_symbol(f["symbol"]) for f in stack if f["source"] != "kernel"], sure)


def judge(symbols):
    """'whole', 'cut' or 'wrong'; None: not a sample of the program."""
    match = re.fullmatch(r"d(\d+)", symbols[0]) if symbols else None
    if match is None:
        return None
    chain = [f"d{i}" for i in range(int(match[1]), 0, -1)] + ["main"]
    if symbols[: len(chain)] == chain:
        rest = symbols[len(chain):]
        return "whole" if all(LIBC_START.match(symbol) for symbol in rest) else "wrong"
    return "cut" if symbols == chain[: len(symbols)] else "wrong"


class Tally:
    def __init__(self, samples):
        self.kinds = collections.Counter()
        self.deep = collections.Counter()  # of samples deeper than the LBR's 32
        self.whole_and_sure = 0
        self.wrong_and_sure = 0
        self.example = None
        for sample in samples:
            kind = judge(sample.symbols)
            if kind is None:
                continue
            self.kinds[kind] += 1
            if int(sample.symbols[0][1:]) > 31:
                self.deep[kind] += 1
            self.whole_and_sure += kind == "whole" and sample.sure is True
            if kind != "whole" and sample.sure:
                self.wrong_and_sure += 1
                self.example = self.example or sample.symbols
        self.samples = sum(self.kinds.values())

    def percent(self, count, kinds=None):
        total = sum((kinds or self.kinds).values())
        return 100 * count / total if total else 0.0


def row(name, t):
    sure = f"{t.percent(t.whole_and_sure):>15.2f}{t.wrong_and_sure:>14}"
    print(f"{name:32}{t.samples:>8}{t.percent(t.kinds['whole']):>9.2f}{t.kinds['cut']:>7}"
          f"{t.kinds['wrong']:>7}{t.percent(t.deep['whole'], t.deep):>14.2f}{sure}")


def problems(name, t, percent):
    if t.samples < LEAST:
        yield f"{name}: {t.samples} samples, at least {LEAST} are wanted"
    if t.percent(t.kinds["whole"]) < percent:
        yield f"{name}: {t.percent(t.kinds['whole']):.2f} % are whole, {percent} % are wanted"
    if t.wrong_and_sure:
        yield f"{name}: {t.wrong_and_sure} are not whole and do not say so: {t.example}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--title", default="emulated LBR", help="printed above the table")
    options = parser.parse_args()
    print(options.title)
    print(f"{'by':32}{'samples':>8}{'whole %':>9}{'cut':>7}{'wrong':>7}{'whole % > 31':>14}"
          f"{'whole, sure %':>15}{'not, but sure':>14}")
    wrong = []
    for name, file, percent in (("lbrd, stitched", "deep.jsonl", 95.0),
                                ("lbrd, with a copy of the stack", "deep-copy.jsonl", 99.0)):
        if not (options.folder / file).exists():
            continue
        t = Tally(jsonl_samples(options.folder / file))
        row(name, t)
        wrong += problems(name, t, percent)
    perf = options.folder / "deep-perf.txt"
    if perf.exists():
        row("stock perf --stitch-lbr", Tally(Sample(s.symbols, None) for s in perf_script_samples(perf)))
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
