"""What lbrd asks of the kernel for LBR call stacks is what perf asks for, but for what is listed here.

Stock perf prints the perf_event_attr that it tries (`perf record -vv`), also where the kernel then
refuses it. Ours is printed by print_attr, which opens a session on a kernel that refuses nothing.
The two are compared field by field; each intended difference stands in a table below with its
reason, and any other one fails the test.
"""

import re
import shutil
import subprocess
import tempfile
import unittest

from lbrd_fixture import BUILD, main, run, skip

# The names that perf prints, as bits: enum perf_event_sample_format, perf_event_read_format and
# perf_branch_sample_type of <linux/perf_event.h>.
SAMPLE = {name: 1 << bit for bit, name in enumerate(
    "IP TID TIME ADDR READ CALLCHAIN ID CPU PERIOD STREAM_ID RAW BRANCH_STACK REGS_USER STACK_USER "
    "WEIGHT DATA_SRC IDENTIFIER TRANSACTION REGS_INTR PHYS_ADDR AUX CGROUP DATA_PAGE_SIZE "
    "CODE_PAGE_SIZE WEIGHT_STRUCT".split())}
READ = {name: 1 << bit for bit, name in enumerate(
    "TOTAL_TIME_ENABLED TOTAL_TIME_RUNNING ID GROUP LOST".split())}
BRANCH = {name: 1 << bit for bit, name in enumerate(
    "USER KERNEL HV ANY ANY_CALL ANY_RETURN IND_CALL ABORT_TX IN_TX NO_TX COND CALL_STACK IND_JUMP "
    "CALL NO_FLAGS NO_CYCLES TYPE_SAVE HW_INDEX PRIV_SAVE COUNTERS".split())}
BITS = {"sample_type": SAMPLE, "read_format": READ, "branch_sample_type": BRANCH}

# field: (perf's value, ours, why). None: not set. Of bit fields, only the bits that differ.
EVERYWHERE = {
    "sample_type +REGS_USER": "IP, SP and BP: where user mode was, for a sample taken in the kernel, "
                              "since its user chain is left out",
    "sample_regs_user": (None, 0x1c0, "BP, SP and IP, in perf's register numbers: see above"),
    "exclude_callchain_user": (None, 1, "the kernel would walk user frame pointers at each sample, "
                                        "and perf throws that away"),
    "sample_max_stack": (None, 127, "not to depend on a sysctl; from 6.15 on it caps LBR too"),
    "exclude_hv": (None, 1, "a hypervisor's addresses mean nothing here"),
    "use_clockid": (None, 1, "record times are compared with a clock that lbrd can read"),
    "clockid": (None, 1, "CLOCK_MONOTONIC: see use_clockid"),
    "precise_ip": (None, 3, "the most exact IP that the hardware gives; weaker ones are tried next"),
    "read_format +TOTAL_TIME_ENABLED": "to tell when the kernel time-shares the hardware",
    "read_format +TOTAL_TIME_RUNNING": "see TOTAL_TIME_ENABLED",
    "watermark": (None, 1, "wake the reader by the ring's fill, not at every record"),
    "wakeup_watermark": (None, 2 << 20, "2 MiB, or a quarter of a smaller ring: see watermark"),
}
# What must be known of processes: perf puts it on the first event, except for whole machines (there
# it has a dummy event for it, too). Ours is always a dummy that shares the ring of the sampling event,
# so that what each one loses is counted apart.
SIDE_BAND = ["mmap", "mmap2", "comm", "comm_exec", "task", "ksymbol"]
DIFFERENCES = {
    # A command: perf makes per-task events on each CPU, and so does lbrd.
    "command": {
        **EVERYWHERE,
        "sample_type +CPU": "told in every sample, whatever the target",
        "sample_type +IDENTIFIER": "records of both our events stand in one ring; this tells whose "
                                   "they are (perf has one event here)",
        "bpf_event": (1, None, "names of BPF programs come with ksymbol; their tags are not shown"),
        **{field: (1, None, "on the side-band event") for field in SIDE_BAND},
    },
    "all-cpus": {
        **EVERYWHERE,
        "inherit": (1, None, "events of a CPU see all tasks already; perf sets it all the same"),
    },
}


def number(text, field):
    if field in BITS:
        return sum(BITS[field][name] for name in text.split("|"))
    return int(text, 0)


def perf_attr(text):
    """The first attr that perf tried, as field -> value. Fields that are 0 are not printed."""
    block = re.search(r"^perf_event_attr:\n(.*?)^-{20,}", text, re.S | re.M)
    if block is None:
        raise ValueError(f"perf printed no attr: {text}")
    attr = {}
    for line in block.group(1).splitlines():
        field, value = re.fullmatch(r"  (\{.*\}|\S+)\s+(\S+)", line).groups()
        field = "sample_period" if field.startswith("{") else field
        attr[field] = number(value.strip("{}"), field)
    return attr


def our_attr(text, kind):
    """Of print_attr's lines the one of that kind, in the same form."""
    line = re.search(rf"^{kind} (.*)$", text, re.M).group(1)
    attr = {}
    for word in line.split():
        field, value = word.split("=")
        if field == "sample_freq":
            attr["freq"], field = 1, "sample_period"
        attr[field] = int(value, 0)
    return {field: value for field, value in attr.items() if value != 0}


def differences(theirs, ours):
    """field -> (perf's, ours); of bit fields, each bit by itself, as "field +BIT" or "field -BIT"."""
    found = {}
    for field in sorted(set(theirs) | set(ours)):
        a, b = theirs.get(field), ours.get(field)
        if a == b or field == "size":  # size is that of the headers each was compiled with
            continue
        if field not in BITS:
            found[field] = (a, b)
            continue
        for name, bit in BITS[field].items():
            if ((a or 0) ^ (b or 0)) & bit:
                found[f"{field} {'+' if (b or 0) & bit else '-'}{name}"] = None
    return found


class LbrAttr(unittest.TestCase):
    def compare(self, target, *perf_arguments):
        with tempfile.TemporaryDirectory() as folder:
            # In C, and with the event named: perf would else add its own modifiers.
            done = subprocess.run(
                ["perf", "record", "-vv", "--call-graph", "lbr", "-e", "cycles", "-o",
                 f"{folder}/perf.data", *perf_arguments, "--", "true"],
                capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
        theirs = perf_attr(done.stderr + done.stdout)
        printed = run(BUILD / "tests/print_attr", target)
        self.assertEqual(printed.returncode, 0, printed.stderr)
        ours = our_attr(printed.stdout, "sampling")
        side_band = our_attr(printed.stdout, "side-band")
        intended = DIFFERENCES[target]
        found = differences(theirs, ours)
        print(f"\n{target}: perf's attr and ours differ in")
        for field in intended:
            reason = intended[field]
            values = "" if isinstance(reason, str) else f" ({reason[0]} -> {reason[1]})"
            print(f"  {field}{values}: {reason if isinstance(reason, str) else reason[2]}")
        self.assertEqual(set(found) - set(intended), set(), "differences that nobody intended")
        self.assertEqual(set(intended) - set(found), set(), "differences that are none any more")
        for field, values in found.items():
            if values is not None:
                self.assertEqual(values, intended[field][:2], field)
        for field in SIDE_BAND:
            self.assertEqual(side_band.get(field), 1, f"side-band event: {field}")
        # The heart of it, in so many words.
        self.assertEqual(ours["branch_sample_type"], theirs["branch_sample_type"])
        self.assertEqual(ours["branch_sample_type"], 0x2c801)

    def test_command(self):
        self.compare("command")

    def test_all_cpus(self):
        self.compare("all-cpus", "-a")

    def test_that_differences_are_seen(self):
        theirs = {"sample_type": 7, "freq": 1, "sample_period": 4000, "mmap": 1}
        self.assertEqual(differences(theirs, dict(theirs)), {})
        self.assertEqual(differences(theirs, {"sample_type": 5, "freq": 1, "sample_period": 4000}),
                         {"sample_type -TID": None, "mmap": (1, None)})
        self.assertEqual(differences({}, {"sample_type": 1}), {"sample_type +IP": None})


if __name__ == "__main__":
    if shutil.which("perf") is None:
        skip("no perf to compare with (Debian's linux-perf)")
    main()
