"""Sessions, streams and the history when the engine is killed: they go on, and say what is missing.

    survival_test.py --kills 200    kills the engine so often at random moments, under load, with writers and
                                    readers, and prints a table
"""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from authorization_test import ANN, BOB, Busy, SharedDaemon, as_user
from lbrd_fixture import (LBRCTL, PATIENCE, Daemon, Demo, Session, children, engine_of, main,
                          require_root, run, wait_for)

KILLS = 10
DIED = "the daemon's engine died (signal SIGKILL)"


def kill_engine(daemon):
    """Kills it; gives the pid of the next one, which may not serve yet."""
    before = engine_of(daemon.process)
    os.kill(before, signal.SIGKILL)

    def next_one():
        now = children(daemon.process.pid)
        return now and now[0] != before and now[0]
    return wait_for(next_one)


def listed(done):
    """The rows of lbrctl list: name -> (state, owner)."""
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return {row[0]: (row[1], row[-1]) for row in rows}



class Sessions(unittest.TestCase):
    def test_of_two_users_are_back_with_their_owners(self):
        with SharedDaemon() as daemon, Busy(ANN) as ann, Busy(BOB) as bob:
            self.assertEqual(daemon.lbrctl("start", "all", "-a", "-F", "99").returncode, 0)
            self.assertEqual(daemon.lbrctl("start", "some", "-a", "-F", "49", "--comm", "sh").returncode, 0)
            for uid, busy in ((ANN, ann), (BOB, bob)):
                started = daemon.lbrctl_as(uid, "start", "web", "-p", busy.pid, "-F", "99")
                self.assertEqual(started.returncode, 0, started.stderr)
            wanted = {"all": ("running", "root"), "some": ("running", "root"),
                      f"{ANN}/web": ("running", str(ANN)), f"{BOB}/web": ("running", str(BOB))}
            for deaths in (1, 2, 3):
                time.sleep(1.5)  # two rounds of rings that nobody streams from, and one of the journal
                kill_engine(daemon)
                # The first answer of the next engine has them all: it makes them before it serves.
                self.assertEqual(listed(daemon.lbrctl("list")), wanted)
                self.assertEqual(list(listed(daemon.lbrctl_as(ANN, "list"))), ["web"])
            account = daemon.folder / "all.json"
            for name, what in (("all", "-a"), (f"{BOB}/web", bob.pid)):
                time.sleep(0.5)
                stopped = daemon.lbrctl("stop", name, "-o", account)
                self.assertEqual(stopped.returncode, 0, stopped.stderr)
                self.assertIn("The daemon's engine died (signal SIGKILL), the last of 3 times",
                              re.sub(r"\s+", " ", stopped.stdout + stopped.stderr))
                session = Session(json.loads(account.read_text()))
                self.assertEqual(session["state"], "SESSION_STATE_STOPPED")
                self.assertEqual(session["stats"]["engine_deaths"], deaths)
                gaps = [gap for gap in session["stats"]["gaps"] if gap["why"]]
                self.assertEqual({gap["why"] for gap in gaps}, {DIED})
                self.assertEqual(len(gaps), deaths)
                edges = [int(gap[edge]) for gap in gaps for edge in ("from_ns", "to_ns")]
                self.assertEqual(edges, sorted(edges))
                self.assert_adds_up(session)
                self.assertGreater(session.dropped().get("engine_died", 0), 0)
                self.assertGreater(session.stat("samples_delivered"), 0)
            # What was deleted stays deleted, with its account.
            kill_engine(daemon)
            self.assertEqual(set(listed(daemon.lbrctl("list"))), {"some", f"{ANN}/web"})

    def assert_adds_up(self, session):
        self.assertEqual(session.stat("samples_generated"),
                         session.stat("samples_seen") + session.stat("samples_lost"))
        self.assertEqual(session.stat("samples_seen"),
                         session.stat("samples_delivered") + sum(session.dropped().values()))

    def test_one_whose_time_was_over_meanwhile_has_ended(self):
        with Daemon() as daemon:
            self.assertEqual(daemon.lbrctl("start", "short", "-a", "-F", "99", "-d", "1s").returncode, 0)
            engine = engine_of(daemon.process)
            os.kill(engine, signal.SIGSTOP)
            time.sleep(1.5)
            os.kill(engine, signal.SIGKILL)
            wait_for(lambda: children(daemon.process.pid) not in ([], [engine]))
            self.assertEqual(listed(daemon.lbrctl("list"))["short"][0], "stopped")
            account = daemon.folder / "short.json"
            self.assertEqual(daemon.lbrctl("stop", "short", "-o", account).returncode, 0)
            session = json.loads(account.read_text())
            self.assertEqual(session["running_time"], "1s")
            self.assertEqual(session["stats"]["gaps"][0]["why"], DIED)

    def test_one_whose_process_is_gone_says_so(self):
        with Daemon() as daemon, Busy(0) as busy, Busy(0) as other:
            for name, pid in (("gone", busy.pid), ("there", other.pid)):
                self.assertEqual(daemon.lbrctl("start", name, "-p", pid, "-F", "99").returncode, 0)
            engine = engine_of(daemon.process)
            os.kill(engine, signal.SIGSTOP)
            busy.process.kill()
            busy.process.wait()
            os.kill(engine, signal.SIGKILL)
            wait_for(lambda: children(daemon.process.pid) not in ([], [engine]))
            now = listed(daemon.lbrctl("list"))
            self.assertEqual((now["gone"][0], now["there"][0]), ("failed", "running"))
            stopped = daemon.lbrctl("stop", "gone")
            self.assertEqual(stopped.returncode, 1)
            self.assertIn(f"process {busy.pid} ended while {DIED}",
                          re.sub(r"\s+", " ", stopped.stdout + stopped.stderr))

    def test_a_bound_one_lives_while_its_holder_does(self):
        with Daemon() as daemon:
            self.assertEqual(daemon.lbrctl("start", "held", "-a", "-F", "99", "--bound").returncode, 0)
            holder = daemon.start_lbrctl("watch", "held", "--hold", stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE)
            self.assertIn("held: running", holder.stdout.readline())
            kill_engine(daemon)
            # What it is told when the connection is there again.
            self.assertIn(DIED, holder.stdout.readline())
            time.sleep(11)  # longer than it lives without a holder
            self.assertEqual(listed(daemon.lbrctl("list"))["held"][0], "running")
            self.assertEqual(daemon.lbrctl("stop", "held").returncode, 0)
            _, errors = holder.communicate(timeout=PATIENCE)
            self.assertEqual(holder.returncode, 0, errors)
            self.assertIn("the connection broke and is there again", errors)

    def test_an_engine_that_crashes_again_and_again_begins_none(self):
        with Daemon() as daemon:
            self.assertEqual(daemon.lbrctl("start", "all", "-a", "-F", "99").returncode, 0)
            for _ in range(3):
                before = engine_of(daemon.process)
                wait_for(lambda: daemon.lbrctl("list").returncode == 0)
                os.kill(before, signal.SIGSEGV)
                wait_for(lambda: children(daemon.process.pid) not in ([], [before]))
            self.assertEqual(listed(daemon.lbrctl("list"))["all"][0], "failed")
            stopped = daemon.lbrctl("stop", "all")
            self.assertIn("in case one of them is the cause", re.sub(r"\s+", " ", stopped.stdout + stopped.stderr))


class Clients(unittest.TestCase):
    def test_a_record_goes_on(self):
        with Daemon() as daemon, Demo():
            lines, account = daemon.folder / "x.jsonl", daemon.folder / "x.json"
            client = daemon.start_lbrctl("record", "-a", "-F", "199", "-o", lines, "-o", account,
                                         "-o", daemon.folder / "x.pb.gz",
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            wait_for(lambda: lines.exists() and lines.stat().st_size)
            time.sleep(1)
            kill_engine(daemon)
            daemon.lbrctl("list")
            size = lines.stat().st_size
            wait_for(lambda: lines.stat().st_size > size + 100_000)
            client.send_signal(signal.SIGINT)
            out, errors = client.communicate(timeout=PATIENCE)
            self.assertEqual(client.returncode, 0, errors)
            told = [line for line in errors.splitlines() if line.startswith("lbrctl:")]
            self.assertEqual(len(told), 1, errors)
            self.assertIn(f"{DIED}; another one goes on: nothing was sampled for", told[0])
            self.assertIn("The daemon's engine died (signal SIGKILL), and another one went on",
                          re.sub(r"\s+", " ", out + errors))
            session = Session(json.loads(account.read_text()))
            self.assertEqual(session["stats"]["engine_deaths"], 1)
            self.assertGreater(session.dropped()["engine_died"], 0)
            objects = [json.loads(line) for line in lines.read_text().splitlines()]
            gaps = [one["gap"] for one in objects if "gap" in one]
            self.assertEqual([gap["why"] for gap in gaps], [DIED])
            at = next(i for i, one in enumerate(objects) if "gap" in one)
            self.assertGreater(at, 10)
            self.assertGreater(len(objects) - at, 10)
            # It has all of before: what it has of that time is what ends there.
            self.assertEqual(max(one["time"] for one in objects[:at]), gaps[0]["from"])
            # No sample came twice.
            seen = [(one["time"], one["cpu"], one["tid"]) for one in objects if "gap" not in one]
            self.assertEqual(len(seen), len(set(seen)))
            # What was sampled since is in both.
            self.assertLessEqual(len(objects) - at - 1, session.stat("samples_delivered"))

    def test_a_command_goes_on_to_its_end(self):
        with Daemon() as daemon:
            account = daemon.folder / "x.json"
            go_on = daemon.folder / "go-on"
            client = daemon.start_lbrctl(
                "record", "-F", "999", "-o", account, "--", "sh", "-c",
                f"while [ ! -e {go_on} ]; do :; done; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            wait_for(lambda: listed(daemon.lbrctl("list")).get("session-1", [""])[0] == "running")
            time.sleep(0.5)
            kill_engine(daemon)
            self.assertEqual(listed(daemon.lbrctl("list"))["session-1"][0], "running")
            go_on.touch()
            _, errors = client.communicate(timeout=PATIENCE)
            self.assertEqual(client.returncode, 0, errors)
            session = Session(json.loads(account.read_text()))
            self.assertGreater(session.stat("samples_delivered"), 50)
            self.assertTrue(any("forked before" in note for note in session["notes"]))

    def test_stream_watch_and_list_go_on(self):
        with Daemon() as daemon, Demo():
            self.assertEqual(daemon.lbrctl("start", "live", "-a", "-F", "199").returncode, 0)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            stream = daemon.start_lbrctl("stream", "live", **pipes)
            watch = daemon.start_lbrctl("watch", "live", **pipes)
            self.assertTrue(stream.stdout.readline().startswith("{"))
            self.assertIn("live: running", watch.stdout.readline())
            samples = []
            reader = threading.Thread(target=lambda: samples.extend(stream.stdout))
            reader.start()
            # A client that asks all the time is never told that nobody is there.
            ends = []
            end = threading.Event()

            def ask():
                while not end.is_set():
                    ends.append(daemon.lbrctl("list"))
            asker = threading.Thread(target=ask)
            asker.start()
            try:
                for _ in range(2):
                    time.sleep(0.7)
                    kill_engine(daemon)
                    daemon.lbrctl("list")
                    count = len(samples)
                    wait_for(lambda: len(samples) > count + 50)
            finally:
                end.set()
                asker.join()
            self.assertEqual({(done.returncode, done.stderr) for done in ends}, {(0, "")})
            self.assertTrue(all("live" in done.stdout for done in ends))
            self.assertEqual(daemon.lbrctl("stop", "live").returncode, 0)
            reader.join()
            stream.stdout.close()
            errors = stream.stderr.read()
            stream.stderr.close()
            self.assertEqual(stream.wait(timeout=PATIENCE), 0, errors)
            self.assertEqual(errors.count(DIED), 2, errors)
            self.assertEqual(sum(line.startswith('{"gap":') for line in samples), 2)
            out, errors = watch.communicate(timeout=PATIENCE)
            self.assertEqual(watch.returncode, 0, errors)
            self.assertIn("live: stopped", out)


class Table:
    """What was seen of one kill after the other."""

    def __init__(self):
        self.back, self.serves = [], []
        self.lost_buckets = self.acknowledged = self.gaps_missing = self.gaps = 0
        self.wrong = []

    def __str__(self):
        def row(name, times):
            ordered = sorted(times)
            at = lambda part: ordered[min(len(ordered) - 1, int(part * len(ordered)))]
            return f"{name:<42}{at(.5):8.2f}{at(.99):8.2f}{ordered[-1]:8.2f}"
        return "\n".join([
            f"{len(self.back)} kills of the engine, seconds{'p50':>20}{'p99':>8}{'max':>8}",
            row("another engine serves", self.serves),
            row("all sessions run again", self.back),
            f"acknowledged buckets lost: {self.lost_buckets} of {self.acknowledged}",
            f"gaps stated by streams: {self.gaps}; not stated: {self.gaps_missing}",
            f"answers that were wrong: {len(self.wrong)}"])


class Storm:
    """A daemon under load, whose engine is killed at random moments."""

    SESSIONS = {"all": ["-a", "-F", "199"], "kept": ["-a", "-F", "49", "--retain"],
                "root": ["--uid", "root", "-F", "99"]}

    def __init__(self, kills, seed):
        self.kills, self.random, self.table = kills, random.Random(seed), Table()
        self.killed = []  # CLOCK_MONOTONIC, as samples' times

    def run(self):
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)
            self.database = folder / "history/history.db"
            self.daemon = stack.enter_context(SharedDaemon(
                history=True, args=["--history", self.database, "--history-bucket", "1s"]))
            stack.enter_context(Demo())
            # Of the load enough is left for whoever asks when the next engine serves.
            often = ("bash", "-c", "exec 3<> <(:); while :; do read -t 0.002 -u 3 x; done")
            own = {uid: stack.enter_context(Busy(uid, often)) for uid in (ANN, BOB)}
            self.wanted = set(self.SESSIONS) | {f"{uid}/web" for uid in own} | {"continuous"}
            for name, args in self.SESSIONS.items():
                self.check(self.daemon.lbrctl("start", name, *args))
            for uid, busy in own.items():
                self.check(self.daemon.lbrctl_as(uid, "start", "web", "-p", busy.pid, "-F", "99"))
            self.end = threading.Event()
            self.acknowledged = 0
            lines = stack.enter_context(open(folder / "stream.jsonl", "w+"))
            stream = self.daemon.start_lbrctl("stream", "all", stdout=lines, stderr=subprocess.PIPE)
            readers = [threading.Thread(target=work) for work in (self.query, self.poll)]
            for reader in readers:
                reader.start()
            wait_for(lambda: os.fstat(lines.fileno()).st_size)
            for number in range(self.kills):
                self.kill_once(number)
            # Both have something to say once all is quiet.
            time.sleep(2)
            self.end.set()
            for reader in readers:
                reader.join()
            self.check(self.daemon.lbrctl("stop", "all"))
            errors = stream.communicate(timeout=PATIENCE)[1]
            if stream.returncode != 0:
                self.table.wrong.append(f"stream: {errors}")
            self.check_stream(lines)
            self.check_history()
        return self.table

    def check(self, done):
        if done.returncode != 0:
            self.table.wrong.append(f"{done.args}: {done.stdout} {done.stderr}")
        return done

    def query(self):
        """A reader of the history, which makes what there is be stored."""
        while not self.end.is_set():
            self.check(self.daemon.lbrctl("query", "--since", "10s", timeout=PATIENCE))
            time.sleep(0.2)

    def poll(self):
        """Who hears what is acknowledged."""
        while not self.end.is_set():
            done = self.check(self.daemon.lbrctl("status", "--json", timeout=PATIENCE))
            if done.returncode == 0:
                history = json.loads(done.stdout).get("history", {})
                self.acknowledged = max(self.acknowledged, int(history.get("last_bucket", 0)))
            time.sleep(0.1)

    def kill_once(self, number):
        time.sleep(self.random.uniform(0, 3))
        engine = engine_of(self.daemon.process)
        begin = time.time()
        self.killed.append(time.monotonic_ns())
        os.kill(engine, signal.SIGKILL)
        serves = None
        while True:
            done = self.daemon.lbrctl("list", timeout=PATIENCE)
            another = children(self.daemon.process.pid) not in ([], [engine])
            now = listed(done) if done.returncode == 0 and another else {}
            if now and serves is None:
                serves = time.time() - begin
            missing = {name for name in self.wanted if now.get(name, [""])[0] != "running"}
            if not missing:
                break
            # Only the daemon's own begins a moment later, by itself.
            if now and missing != {"continuous"}:
                self.table.wrong.append(f"kill {number}: without {missing}")
            time.sleep(0.02)
            if time.time() - begin > PATIENCE:
                raise TimeoutError(f"kill {number}: {missing} are not back")
        self.table.serves.append(serves)
        self.table.back.append(time.time() - begin)

    def check_stream(self, lines):
        lines.seek(0)
        objects = [json.loads(line) for line in lines]
        seen = [(one["time"], one["cpu"], one["tid"]) for one in objects if "gap" not in one]
        if len(seen) != len(set(seen)):
            self.table.wrong.append("samples came twice")
        gaps = [one["gap"] for one in objects if "gap" in one]
        self.table.gaps = len(gaps)
        # Whoever was killed took something along: each time lies in a gap.
        self.table.gaps_missing = sum(not any(gap["from"] <= when <= gap["to"] for gap in gaps)
                                      for when in self.killed)

    def check_history(self):
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            stored = {row[0] for row in database.execute("SELECT id FROM buckets")}
        self.table.acknowledged = self.acknowledged
        self.table.lost_buckets = sum(number not in stored for number in range(1, self.acknowledged + 1))


class Killed(unittest.TestCase):
    def test_again_and_again_at_any_moment(self):
        table = Storm(KILLS, seed=6).run()
        print(table, file=sys.stderr)
        self.assertEqual(table.wrong, [])
        self.assertEqual(table.lost_buckets, 0)
        self.assertGreater(table.acknowledged, 0)
        self.assertEqual(table.gaps_missing, 0)
        self.assertGreater(table.gaps, 0)
        self.assertLessEqual(table.gaps, KILLS)


if __name__ == "__main__":
    require_root()
    if "--kills" in sys.argv:
        at = sys.argv.index("--kills")
        KILLS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
        sys.argv += ["Killed"]
    main()
