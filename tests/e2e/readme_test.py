"""Every command of the README does what it says."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from lbrd_fixture import BUILD, Daemon, Demo, LBRCTL, SOURCE, main, require_root, run


def commands():
    """The README's commands, without sudo, comments and the two long ones."""
    text = (SOURCE / "README.md").read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            command = line.split(" #")[0].strip().removeprefix("sudo ")
            if command:
                yield command


class Readme(unittest.TestCase):
    def test_commands(self):
        known = list(commands())
        # These are this test's and CI's own way in; the daemon is started by the fixture; the package
        # is tests/systemd's, which installs and starts it in a container.
        for own in ("scripts/quickstart", "scripts/test", "build/release/daemon/lbrd", "scripts/package",
                    "apt install ./build/release/lbrd_0.1.0-1_amd64.deb",
                    "systemctl enable --now lbrd.socket"):
            self.assertIn(own, known)
            known.remove(own)
        # Not tempfile's, which is closed to the engine's user.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        with (Daemon(args=["--history", f"{folder}/history/history.db", "--history-bucket", "1s"],
                     history=True) as daemon,
              Demo() as demo):
            environment = dict(os.environ, LBRD_SOCKET=str(daemon.socket))
            program = pathlib.Path(folder) / "program"
            program.write_text("#!/bin/sh\ni=0; while [ $i -lt 100000 ]; do i=$((i+1)); done\n")
            program.chmod(0o755)
            if shutil.which("perf"):
                run("perf", "record", "-g", "-o", f"{folder}/perf.data", program)
            for command in known:
                words = command.replace("build/release", str(BUILD)).replace("PID", str(demo.pid))
                words = words.replace("10s", "2s").split()
                if "perf.data" in words and not shutil.which("perf"):
                    print("skipped (no perf to make a recording):", command)
                    continue
                with self.subTest(command=command):
                    if "stream" in words:
                        client = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE,
                                                  text=True)
                        self.assertTrue(client.stdout.readline().startswith("{"))
                        client.kill()
                        client.stdout.close()
                        client.wait()
                        continue
                    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True,
                                          text=True, timeout=120)
                    # doctor has a code for machines that are not perfect.
                    allowed = (0, 1) if "doctor" in words else (0,)
                    self.assertIn(done.returncode, allowed, done.stderr)
                    if "-o" in words:
                        written = pathlib.Path(folder) / words[words.index("-o") + 1]
                        self.assertGreater(written.stat().st_size, 1000)

    def test_links_lead_somewhere(self):
        for page in [SOURCE / "README.md", *SOURCE.glob("docs/**/*.md"), *SOURCE.glob("*.md")]:
            for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
                if "://" not in link:
                    self.assertTrue((page.parent / link).exists(), f"{page}: {link}")


if __name__ == "__main__":
    require_root()
    main()
