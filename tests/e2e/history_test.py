"""lbrctl query: what the machine did, and what becomes of it when the daemon or the disk fails."""

import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import unittest

from lbrd_fixture import Daemon, Demo, LBRCTL, PATIENCE, main, require_root, run

KILLS = int(os.environ.get("LBRD_KILLS", "20"))


class HistoryDaemon(Daemon):
    """A daemon with a history in `folder`, which outlives it."""

    def __init__(self, folder, *options):
        super().__init__(history=True, args=("--history", str(pathlib.Path(folder) / "history.db"),
                                  "--history-bucket", "1s", *options))

    def status(self):
        done = self.lbrctl("status", "--json")
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)["history"]

    def wait_for(self, what):
        end = time.time() + PATIENCE
        while not what(status := self.status()):
            if time.time() > end:
                raise RuntimeError(f"waited in vain; at last {status}: {self.log_text()}")
            time.sleep(0.1)
        return status

    def rows(self, *args):
        done = self.lbrctl("-q", "query", "--format", "jsonl", *args)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]


class History(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-history-"))
        os.chmod(self.folder, 0o755)  # the engine is another user
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_the_past_can_be_asked_about(self):
        with HistoryDaemon(self.folder) as daemon, Demo() as demo:
            daemon.wait_for(lambda now: int(now["buckets_stored"]) >= 5)
            table = daemon.lbrctl("query", "--since", "1m")
            self.assertEqual(table.returncode, 0, table.stderr)
            self.assertRegex(table.stdout, r"SELF% +SAMPLES +TOTAL% +FUNCTION")
            self.assertIn("in steps of", table.stdout)
            for line in table.stdout.splitlines():
                self.assertLessEqual(len(line), 80, line)

            by_process = daemon.rows("--since", "1m", "--by", "process,pid,uid,exe")
            mine = [row for row in by_process if row["pid"] == demo.pid]
            self.assertTrue(mine, by_process)
            self.assertEqual(mine[0]["process"], "demo")
            self.assertEqual(mine[0]["uid"], 0)
            self.assertTrue(mine[0]["exe"].endswith("/demo"), mine)
            only = daemon.rows("--since", "1m", "--pid", str(demo.pid), "--by", "pid")
            self.assertEqual([row["pid"] for row in only], [demo.pid])

            stacks = daemon.rows("--since", "1m", "--pid", str(demo.pid))
            names = {frame["symbol"] for row in stacks for frame in row["stack"]}
            self.assertTrue(any(name.startswith("demo::") for name in names), names)

            for name, start in (("f.svg", b"<"), ("p.pb.gz", b"\x1f\x8b"), ("s.folded", b"")):
                out = self.folder / name
                done = daemon.lbrctl("query", "--since", "1m", "-o", out)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(out.read_bytes().startswith(start))
                self.assertGreater(out.stat().st_size, 100)

            listed = daemon.lbrctl("list").stdout
            self.assertRegex(listed, r"(?m)^continuous +running")
            self.assertRegex(daemon.lbrctl("status").stdout, r"(?m)^history +\S+ \S+ of")

        # The next daemon knows it too, and says that there was one in between.
        with HistoryDaemon(self.folder, "--no-continuous") as daemon:
            again = daemon.rows("--since", "2m", "--pid", str(demo.pid), "--by", "pid")
            self.assertGreaterEqual(again[0]["samples"], only[0]["samples"])
            told = daemon.lbrctl("query", "--since", "2m", "--pid", demo.pid)
            self.assertIn("Gap from", told.stdout)
            # A session that asks for it is kept as well.
            with Demo() as other:
                kept = daemon.lbrctl("record", "-p", other.pid, "-F", "199", "-d", "3s", "--retain")
                self.assertEqual(kept.returncode, 0, kept.stderr)
            rows = daemon.rows("--since", "1m", "--pid", str(other.pid), "--by", "session,event")
            self.assertGreater(sum(row["samples"] for row in rows), 20)

    def test_mistakes_are_told(self):
        with Daemon() as daemon:
            none = daemon.lbrctl("query")
            self.assertEqual(none.returncode, 1)
            self.assertIn("--no-history", none.stderr)
        with HistoryDaemon(self.folder, "--no-continuous") as daemon:
            for args, word in ((("--since", "yesterday"), "10m"), (("--by", "colour"), "function"),
                               (("--since", "1m", "--until", "2m"), "later"),
                               (("--by", "pid", "-o", "x.svg"), "jsonl")):
                wrong = daemon.lbrctl("query", *args)
                self.assertEqual(wrong.returncode, 2, wrong.stderr)
                self.assertIn(word, wrong.stderr)
            nothing = daemon.lbrctl("query", "--since", "1m")
            self.assertEqual(nothing.returncode, 1)
            self.assertEqual(nothing.stdout, "")
        text = run(LBRCTL, "query", "--help").stdout
        self.assertIn("--by process,function", text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_killed_again_and_again_it_keeps_what_it_acknowledged(self):
        acknowledged = 0
        with Demo():
            for number in range(KILLS):
                daemon = HistoryDaemon(self.folder)
                daemon.__enter__()
                reader = daemon.start_lbrctl("-q", "query", "--since", "1h", "--by", "process",
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                end = time.time() + PATIENCE
                first = int(daemon.status()["last_bucket"])
                self.assertGreaterEqual(first, acknowledged, "an acknowledged bucket is gone")
                # Its buckets come once a second: some runs end before the first, some after.
                until = time.time() + random.uniform(0.2, 3)
                while time.time() < until or (number % 2 == 1 and acknowledged <= first):
                    acknowledged = max(acknowledged, int(daemon.status()["last_bucket"]))
                    self.assertLess(time.time(), end)
                daemon.process.send_signal(signal.SIGKILL)
                daemon.process.wait()
                reader.wait()
                daemon.log.close()
                shutil.rmtree(daemon.folder)
        self.assertGreaterEqual(acknowledged, KILLS // 2)
        with sqlite3.connect(f"file:{self.folder / 'history.db'}?mode=ro", uri=True) as database:
            ids = [row[0] for row in database.execute("SELECT id FROM buckets ORDER BY id")]
            self.assertEqual(ids[:acknowledged], list(range(1, acknowledged + 1)))
            lacking = database.execute(
                "SELECT count(*) FROM counts WHERE thread NOT IN (SELECT id FROM threads) "
                "OR stack NOT IN (SELECT id FROM stacks)").fetchone()[0]
            self.assertEqual(lacking, 0)
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchone()[0], "ok")
        with HistoryDaemon(self.folder, "--no-continuous") as daemon:
            told = daemon.lbrctl("query", "--since", "1h")
            self.assertEqual(told.returncode, 0, told.stderr)
            self.assertIn("lbrd was killed and started again", told.stdout.replace("\n", " "))

    def test_a_full_disk_is_told_and_survived(self):
        mounted = self.folder / "disk"
        mounted.mkdir()
        if run("mount", "-t", "tmpfs", "-o", "size=8m", "none", mounted).returncode != 0:
            self.skipTest("a tmpfs cannot be mounted here: no disk to fill")
        self.addCleanup(run, "umount", mounted)
        with HistoryDaemon(mounted) as daemon, Demo():
            daemon.wait_for(lambda now: int(now["buckets_stored"]) >= 2)
            full = mounted / "full"
            with open(full, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            now = daemon.wait_for(lambda now: now["error"])
            self.assertGreater(int(now["failures"]), 0)
            self.assertRegex(daemon.lbrctl("status").stdout, r"(?m)^history error +\S")
            asked = daemon.lbrctl("query", "--since", "5m")
            self.assertIn("cannot be written", (asked.stdout + asked.stderr).replace("\n", " "))
            full.unlink()
            stored = int(now["buckets_stored"])
            daemon.wait_for(lambda now: not now["error"] and int(now["buckets_stored"]) > stored)

    def test_a_damaged_file_is_set_aside(self):
        (self.folder / "history.db").write_bytes(b"x" * 9999)
        with HistoryDaemon(self.folder, "--no-continuous") as daemon:
            self.assertIn("damaged", daemon.status()["notice"])
            self.assertIn("damaged", daemon.log_text())
            self.assertTrue((self.folder / "history.db.damaged").exists())


if __name__ == "__main__":
    require_root()
    main()
