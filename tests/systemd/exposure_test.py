"""lbrd.service is closed as far as it can be, and says of each line that is not, why and at what cost."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(os.environ.get("LBRD_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
UNIT = SOURCE / "systemd/lbrd.service"
MOST = 2.5


def analyze(*options):
    return subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", *options, str(UNIT)],
        capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})


class Exposure(unittest.TestCase):
    def test_it_is_low(self):
        done = analyze(f"--threshold={int(MOST * 10)}")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"Overall exposure level for lbrd\.service: \d")

    def test_each_line_in_the_way_of_zero_is_explained(self):
        # "✗ ProtectProc=   Service has full access to …   0.2"
        found = re.findall(r"^✗ (\S+) .*? (\d\.\d)\s*$", analyze().stdout, re.M)
        self.assertGreater(len(found), 5)
        # Comments as running text.
        comments = " ".join(line.lstrip("# ") for line in UNIT.read_text().splitlines()
                            if line.startswith("#"))
        words = {
            "SystemCallFilter=~@debug": "perf_event_open is",
            "SystemCallFilter=~@resources": "sched_setaffinity:",
            "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)": "CAP_DAC_READ_SEARCH ",
            "CapabilityBoundingSet=~CAP_SYS_PTRACE": "CAP_SYS_PTRACE ",
            "CapabilityBoundingSet=~CAP_SYSLOG": "CAP_SYSLOG shows",
            "RestrictAddressFamilies=~AF_UNIX": "takes a UNIX socket",
            "AmbientCapabilities=": "Ambient, since",
            "ProtectHome=": "Programs below /home",
            "PrivateTmp=": "programs in /tmp",
            "RootDirectory=/RootImage=": "Not RootDirectory=",
        }
        for setting, cost in found:
            word = words.get(setting, setting)
            reasons = [match.start() for match in re.finditer(re.escape(word), re.sub(r"  +", " ", comments))]
            self.assertTrue(reasons, f"{setting} costs {cost} and is not explained in {UNIT.name}")
            text = re.sub(r"  +", " ", comments)
            self.assertTrue(
                any(f"exposure {cost}" in text[at:at + 420] for at in reasons),
                f"{setting} costs {cost}; the unit says otherwise")


if __name__ == "__main__":
    if shutil.which("systemd-analyze") is None:
        print("SKIPPED: systemd-analyze is not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
