"""Names and files that only a debuginfod server has, in recordings; servers that do no good."""

import gzip
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
import threading
import time
import unittest

from lbrd_fixture import LBRCTL, Daemon, children, main, require_root, run, skip, wait_for

PROGRAM = textwrap.dedent("""
    #include <time.h>
    static volatile unsigned long sum;
    __attribute__((noinline)) static void hidden_work(unsigned long n) {
      for (unsigned long i = 0; i < n; ++i) sum += i * i;
    }
    int main() {
      while (clock() < CLOCKS_PER_SEC) hidden_work(100000);
    }
""")


class Server:
    """Serves /buildid/ID/KIND from a dict, from `with` to its end; keeps what it was asked for.

    `mode`: "serve"; "hang": takes requests and never answers; "garbage": answers with nonsense.
    """

    def __init__(self, files, mode="serve"):
        self.files, self.mode, self.asked = files, mode, []
        self.ending = threading.Event()

    def __enter__(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                match = re.fullmatch(r"/buildid/([0-9a-f]+)/(debuginfo|executable)", self.path)
                outer.asked.append(match.groups() if match else self.path)
                if outer.mode == "hang":
                    outer.ending.wait()
                    return
                body = outer.files.get(match and match.groups())
                if outer.mode == "garbage":
                    body = os.urandom(10_000)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()


class Debuginfod(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        compiler = shutil.which("gcc") or shutil.which("clang-14")
        if compiler is None:
            raise unittest.SkipTest("there is no compiler for the program")
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-debuginfod-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.program = cls.folder / "bin" / "stripped"
        cls.program.parent.mkdir()
        source = cls.folder / "hidden.c"
        source.write_text(PROGRAM)
        debug = cls.folder / "debug"
        for command in ([compiler, "-O1", "-g", "-Wl,--build-id", "-o", cls.program, source],
                        ["objcopy", "--only-keep-debug", cls.program, debug],
                        ["strip", "--strip-all", cls.program]):
            done = run(*command)
            assert done.returncode == 0, done.stderr
        notes = run("readelf", "-n", cls.program).stdout
        cls.build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)[1]
        cls.files = {(cls.build_id, "debuginfo"): debug.read_bytes(),
                     (cls.build_id, "executable"): cls.program.read_bytes()}
        cls.recording = cls.folder / "perf.data"
        # -N: no copy of the program where it would be found. Perf 6.1 now and then crashes when it
        # has recorded ("assertion failed at util/build-id.c").
        for _ in range(5):
            done = run("perf", "record", "-N", "-e", "cpu-clock:u", "-F", "499", "-g", "-o",
                       cls.recording, cls.program, cwd=cls.folder)
            if done.returncode == 0:
                break
        else:
            raise unittest.SkipTest("perf cannot record here: " + done.stderr)
        cls.home = cls.folder / "home"
        cls.home.mkdir()

    def setUp(self):
        self.cache = pathlib.Path(tempfile.mkdtemp(dir=self.folder))

    def environment(self, server, **more):
        env = {**os.environ, "HOME": str(self.home), "DEBUGINFOD_CACHE_PATH": str(self.cache),
               "DEBUGINFOD_TIMEOUT": "1", "DEBUGINFOD_RETRY_LIMIT": "1", "no_proxy": "*", **more}
        if server is not None:
            env["DEBUGINFOD_URLS"] = server.url
        return env

    def report(self, server, *args, quiet=False, **more):
        """Gives (the symbols and lines in the program, by how many samples; standard error)."""
        done = run(LBRCTL, *(["-q"] if quiet else []), "report", "-i", self.recording, "--format",
                   "jsonl", *args, env=self.environment(server, **more))
        self.assertEqual(done.returncode, 0, done.stderr)
        found = {}
        for line in done.stdout.splitlines():
            for frame in json.loads(line)["stack"]:
                if frame["dso"] == str(self.program):
                    key = (frame["symbol"], frame.get("line"))
                    found[key] = found.get(key, 0) + 1
        self.assertTrue(found, "the program is in no stack")
        return found, done.stderr

    def symbols(self, found):
        return {symbol for symbol, _ in found}

    def own(self, server):
        """What it was asked for about the program."""
        return [kind for build_id, kind in server.asked if build_id == self.build_id]

    def without_program(self):
        """Away with the program itself, until the test ends."""
        away = self.folder / "away"
        self.program.rename(away)
        self.addCleanup(away.rename, self.program)

    def test_nobody_is_asked_unless_a_server_is_named(self):
        with Server(self.files) as server:
            found, said = self.report(None)
            self.assertNotIn("hidden_work", self.symbols(found))
            self.report(None, DEBUGINFOD_URLS="")
            self.assertEqual(server.asked, [])
        self.assertNotIn("fetching", said)
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_debug_information_is_fetched_once(self):
        with Server(self.files) as server:
            found, said = self.report(server, "--lines")
            self.assertIn("hidden_work", self.symbols(found))
            lines = {line for symbol, line in found if symbol == "hidden_work"}
            self.assertTrue(lines <= {4, 5, 6} and lines, found)
            self.assertEqual(self.own(server), ["debuginfo"])
            self.assertEqual(said.count(f"fetching debug information of {self.program} "), 1, said)
            # Each that there was none of too.
            self.assertEqual(len(server.asked), len(set(server.asked)), server.asked)
            # From the cache, which needs no server.
            server.asked.clear()
            again, said = self.report(server, "--lines")
            self.assertEqual(again, found)
            self.assertEqual(self.own(server), [])
            self.assertNotIn(f"{self.program}", said)

    def test_quiet(self):
        with Server(self.files) as server:
            found, said = self.report(server, quiet=True)
        self.assertIn("hidden_work", self.symbols(found))
        self.assertEqual(said, "")

    def test_a_program_that_is_not_here_is_fetched(self):
        self.without_program()
        with Server(self.files) as server:
            found, _ = self.report(None)
            self.assertEqual(self.symbols(found), {None})
            found, said = self.report(server)
            self.assertIn("hidden_work", self.symbols(found))
            self.assertEqual(self.own(server), ["executable", "debuginfo"])
            self.assertIn(f"fetching {self.program} ", said)

    def test_a_server_without_the_files(self):
        with Server({}) as server:
            found, said = self.report(server)
            self.assertNotIn("hidden_work", self.symbols(found))
            self.assertEqual(self.own(server), ["debuginfo"])
            self.assertIn("fetching", said)
            self.assertNotIn("could not", said)

    def test_no_server_at_all(self):
        with Server({}) as server:
            pass
        found, said = self.report(server)
        self.assertNotIn("hidden_work", self.symbols(found))
        self.assertEqual(said.count("debuginfod could not be asked: "), 1, said)

    def test_a_server_that_hangs(self):
        with Server(self.files, "hang") as server:
            found, said = self.report(server)
            self.assertNotIn("hidden_work", self.symbols(found))
            self.assertIn("debuginfo", self.own(server))
            self.assertIn("debuginfod could not be asked: ", said)

    def test_nothing_is_left_of_a_report_that_is_interrupted(self):
        with Server(self.files, "hang") as server:
            report = subprocess.Popen([str(LBRCTL), "report", "-i", str(self.recording)],
                                      env=self.environment(server, DEBUGINFOD_TIMEOUT="100"),
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: server.asked)
            daemon = children(report.pid)[0]
            threads = pathlib.Path(f"/proc/{daemon}/task").iterdir()
            finders = [child for thread in threads
                       for child in (thread / "children").read_text().split()]
            self.assertEqual(len(finders), 1)
            began = time.monotonic()
            report.send_signal(signal.SIGINT)
            report.wait(timeout=60)
            wait_for(lambda: not any(self.runs(pid) for pid in (daemon, *finders)))
            self.assertLess(time.monotonic() - began, 30)

    def runs(self, pid):
        try:
            return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False

    def test_a_server_that_sends_garbage(self):
        self.without_program()
        with Server(self.files, "garbage") as server:
            found, said = self.report(server)
            self.assertEqual(self.symbols(found), {None})
            self.assertEqual(self.own(server), ["executable"])
            self.assertIn("debuginfod gave another file", said)

    def test_the_program_that_fetches_may_be_missing(self):
        with Server(self.files) as server:
            found, said = self.report(server, PATH="/nowhere")
            self.assertNotIn("hidden_work", self.symbols(found))
            self.assertEqual(said.count("debuginfod-find is not installed"), 1, said)
            self.assertEqual(server.asked, [])


    # What a service resolved: lbrctl names it, with the user's servers.

    def ask(self, daemon, server, *args, **more):
        done = run(LBRCTL, "--socket", daemon.socket, *args, env=self.environment(server, **more))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_a_command_that_is_recorded_by_the_service(self):
        require_root()
        with Server(self.files) as server, Daemon() as daemon:
            record = ("record", "--format", "folded", "--", self.program)
            self.assertNotIn("hidden_work", self.ask(daemon, None, *record).stdout)
            self.assertEqual(server.asked, [])
            done = self.ask(daemon, server, *record)
            self.assertRegex(done.stdout, r"stripped;.*main;hidden_work \d+")
            self.assertIn(f"debug information of {self.program}", done.stderr)
            self.assertEqual(self.own(server), ["debuginfo"])
            # The rest is as the service says it.
            self.assertRegex(done.stdout, r"__libc_start_main|_start")

    def test_lines_of_what_the_service_resolved(self):
        require_root()
        with Server(self.files) as server, Daemon() as daemon:
            profile = self.cache / "profile.pb.gz"
            record = ("record", "--lines", "-o", profile, "--", self.program)
            self.ask(daemon, None, *record)
            self.assertNotIn(b"hidden.c", gzip.decompress(profile.read_bytes()))
            self.ask(daemon, server, *record)
            self.assertIn(b"hidden_work", gzip.decompress(profile.read_bytes()))
            self.assertIn(b"hidden.c", gzip.decompress(profile.read_bytes()))

    def test_the_history(self):
        require_root()
        with Server(self.files) as server, tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # the engine is another user
            history = pathlib.Path(folder) / "history/history.db"
            args = ["--history", history, "--history-bucket", "1s", "--no-continuous"]
            with Daemon(history=True, args=args) as daemon:
                self.ask(daemon, None, "record", "--retain", "--", self.program)
                query = ("query", "--since", "1h", "--format", "folded")
                self.assertNotIn("hidden_work", self.ask(daemon, None, *query).stdout)
                self.assertIn("hidden_work", self.ask(daemon, server, *query).stdout)

    def test_a_service_whose_user_has_no_debuginfod(self):
        require_root()
        with Server(self.files) as server, Daemon() as daemon:
            done = self.ask(daemon, server, "record", "--format", "folded", "--", self.program,
                            PATH="/nowhere")
            self.assertNotIn("hidden_work", done.stdout)
            self.assertIn("debuginfod-find is not installed", done.stderr)


if __name__ == "__main__":
    for program, package in (("debuginfod-find", "debuginfod"), ("perf", "linux-perf"),
                             ("objcopy", "binutils")):
        if not shutil.which(program):
            skip(f"{program} is not installed (package {package})")
    main()
