#!/usr/bin/env python3
"""Checks LBR call stacks of programs whose call chain is known (run-lbr; its LBR is emulated).

    check_lbr_chains.py out.jsonl [--oracle perf.txt]  # lbrctl record (or report) --format jsonl
    check_lbr_chains.py --perf-script perf.txt         # perf script

Looked at are samples whose leaf is a user-mode frame in a_leaf or b_leaf. Their user frames must
be exactly a_leaf, a20 ... a1, main (b_leaf, b12 ... b1, main), then libc's start frames. After
_start, more may follow: what the process was before exec stays at the bottom of its LBR (--strict
forbids it). A process with a_rec in its stacks is the one that recurses deeper than the LBR
reaches: its stacks may be anything but falsely complete.

Exits 0 when, of both programs, at least --percent of at least --least samples are full, and no
more than the rest of --percent is called complete without being full.
"""

import argparse
import collections
import json
import re
import sys

CHAINS = {
    "a": ["a_leaf"] + [f"a{i}" for i in range(20, 0, -1)] + ["main"],
    "b": ["b_leaf"] + [f"b{i}" for i in range(12, 0, -1)] + ["main"],
}
LIBC_START = re.compile(r"^(__libc_start_call_main|__libc_start_main\w*|_start)$")
# How a stack can fail, in the order of the table's columns.
KINDS = ["leaf only", "cut", "wrong frame", "foreign at end", "not by LBR"]
RECURSION = "recursion"

# symbols: the user frames' names, leaf first ("" where unknown). by_lbr and complete: None where
# the input cannot say.
Sample = collections.namedtuple("Sample", "pid symbols by_lbr complete")


def plain_symbol(text):
    """Without offset, symbol version and inline mark."""
    return re.sub(r"(\+0x[0-9a-f]+)?( \(inlined\))?$", "", text or "").split("@")[0]


def jsonl_samples(path):
    """Samples that were taken in user mode."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                sample = json.loads(line)
            except ValueError as error:
                sys.exit(f"{path}:{number}: not JSON: {error}")
            stack = sample.get("stack")
            if not stack or stack[0]["source"] == "kernel":
                continue
            yield Sample(
                sample["pid"],
                [plain_symbol(frame["symbol"]) for frame in stack if frame["source"] != "kernel"],
                any(frame["source"] == "lbr" for frame in stack),
                sample["verdict"]["state"] == "complete",
            )


def perf_script_samples(path):
    """The same, from perf script's default output."""
    head = re.compile(r"^(?P<comm>\S.*?)\s+(?P<pid>\d+)(/\d+)?\s+(\[\d+\]\s+)?[\d.]+:")
    frame = re.compile(r"^\s+(?P<ip>[0-9a-f]+) (?P<symbol>.*) \((?P<dso>[^()]*)\)$")
    comm, pid, frames = "", None, []

    def sample():
        # Kernel addresses are the upper half.
        user = [(dso, plain_symbol(symbol)) for ip, symbol, dso in frames if int(ip, 16) < 1 << 63]
        if not user or int(frames[0][0], 16) >= 1 << 63:
            return
        # perf leaves out the sampled IP; for an empty window it prints one frame that is nothing.
        if len(user) == 1 and user[0][0] == "[unknown]" and comm in ("chaina", "chainb"):
            yield Sample(pid, [f"{comm[-1]}_leaf"], None, None)
        else:
            yield Sample(pid, [symbol for _, symbol in user], None, None)

    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if match := frame.match(line):
                frames.append((match["ip"], match["symbol"], match["dso"]))
            elif match := head.match(line):
                yield from sample()
                comm, pid, frames = match["comm"], int(match["pid"]), []
    yield from sample()


def judge(sample, chain, strict):
    """The kind of failure, or None when the chain is full."""
    symbols = sample.symbols
    if symbols[: len(chain)] != chain:
        if len(symbols) == 1:
            return "leaf only"
        return "cut" if symbols == chain[: len(symbols)] else "wrong frame"
    below_main = symbols[len(chain) :]
    starts = 0
    while starts < len(below_main) and LIBC_START.match(below_main[starts]):
        starts += 1
    if starts < len(below_main) and (strict or starts == 0 or below_main[starts - 1] != "_start"):
        return "foreign at end"
    if sample.by_lbr is False:
        return "not by LBR"
    return None


class Tally:
    def __init__(self):
        self.samples = 0
        self.full = 0
        self.said_complete = 0  # of the full ones
        self.falsely_complete = 0
        self.kinds = collections.Counter()
        self.examples = {}

    def add(self, sample, kind):
        self.samples += 1
        if kind is None:
            self.full += 1
            self.said_complete += sample.complete is True
            return
        self.kinds[kind] += 1
        self.falsely_complete += sample.complete is True
        self.examples.setdefault(kind, sample.symbols)

    def percent(self):
        return 100 * self.full / self.samples if self.samples else 0.0


def tally(samples, options):
    samples = [s for s in samples if s.symbols and s.symbols[0] in ("a_leaf", "b_leaf")]
    recursing = {s.pid for s in samples if "a_rec" in s.symbols}
    recursion = ["a_leaf"] + ["a_rec"] * (options.recursion + 1) + ["main"]
    tallies = {"a": Tally(), "b": Tally(), RECURSION: Tally()}
    for sample in samples:
        program = RECURSION if sample.pid in recursing else sample.symbols[0][0]
        chain = recursion if program == RECURSION else CHAINS[program]
        tallies[program].add(sample, judge(sample, chain, options.strict))
    return tallies


def print_header():
    kinds = "".join(f"{kind:>16}" for kind in KINDS)
    complete = f"{'said complete':>15}{kinds}{'falsely complete':>18}"
    print(f"{'by':12}{'program':12}{'samples':>8}{'full':>8}{'%':>8}{complete}")


def print_row(by, program, t):
    kinds = "".join(f"{t.kinds[kind]:>16}" for kind in KINDS)
    complete = f"{t.said_complete:>15}{kinds}{t.falsely_complete:>18}"
    print(f"{by:12}{program:12}{t.samples:>8}{t.full:>8}{t.percent():>8.2f}{complete}")


def failures(program, t, options):
    """What is wrong with a program's samples, in words."""
    if t.samples and 100 * t.falsely_complete / t.samples > 100 - options.percent:
        yield f"{t.falsely_complete} of {t.samples} were called complete and are not"
    # The recursion is deeper than the LBR: nobody has to have all of it.
    if program == RECURSION:
        return
    if t.samples < options.least:
        yield f"{t.samples} samples, at least {options.least} are wanted"
    right = t.full + (t.kinds["cut"] + t.kinds["leaf only"] if options.allow_cut else 0)
    if t.samples and 100 * right / t.samples < options.percent:
        yield f"{100 * right / t.samples:.2f} % are right, at least {options.percent:g} % are wanted"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument(
        "--perf-script", action="store_true", help="FILE is the text of perf script"
    )
    parser.add_argument(
        "--oracle", metavar="TEXT", help="text of perf script, shown beside FILE; decides nothing"
    )
    parser.add_argument("--strict", action="store_true", help="nothing may follow after _start")
    parser.add_argument(
        "--allow-cut",
        action="store_true",
        help="stacks may end early, but not be called complete (kernels that clear the LBR)",
    )
    parser.add_argument(
        "--recursion", type=int, default=60, metavar="DEPTH", help="of a_rec (default 60)"
    )
    parser.add_argument(
        "--percent", type=float, default=99.0, help="of full chains wanted (default 99)"
    )
    parser.add_argument(
        "--least", type=int, default=100, help="samples wanted of each program (default 100)"
    )
    parser.add_argument("--title", default="emulated LBR", help="printed above the table")
    options = parser.parse_args()

    read = perf_script_samples if options.perf_script else jsonl_samples
    ours = tally(read(options.file), options)
    rows = [("stock perf" if options.perf_script else "lbrd", ours)]
    if options.oracle:
        rows.append(("stock perf", tally(perf_script_samples(options.oracle), options)))

    print(options.title)
    print_header()
    for by, tallies in rows:
        for program, t in tallies.items():
            if t.samples or program != RECURSION:
                print_row(by, program, t)
    for program, t in ours.items():
        for kind, symbols in t.examples.items():
            if program != RECURSION or kind != "cut":
                print(f"example of {program}, {kind}: {' < '.join(s or '?' for s in symbols)}")
    wrong = [
        f"{program}: {what}"
        for program, t in ours.items()
        for what in failures(program, t, options)
    ]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
