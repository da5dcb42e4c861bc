"""lbrd as a service: its configuration, what it tells systemd, sockets that it is given, its privileges."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from lbrd_fixture import Daemon, LBRCTL, LBRD, PATIENCE, main, require_root, run, wait_for

CAPABILITIES = ("perfmon", "sys_ptrace", "dac_read_search", "syslog")


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lbrd-service-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.config = self.folder / "lbrd.toml"

    def write(self, text):
        self.config.write_text(text)


class Configuration(Folder):
    def test_check_config_says_what_is_wrong_and_where(self):
        self.write("# mine\nmax-sessions = 0\nsokcet = '/x'\n")
        done = run(LBRD, "--config", self.config, "--check-config")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 2, done.stderr)
        self.assertIn(f"{self.config}:2: max-sessions: must be", lines[0])
        self.assertIn(f"{self.config}:3: sokcet: is not a setting", lines[1])
        self.assertEqual(run(LBRD, "--config", self.config).returncode, 2)

    def test_flags_win_over_the_file(self):
        self.write("max-sessions = 7\nlog-level = 'error'\n")
        done = run(LBRD, "--config", self.config, "--max-sessions", 9, "--check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^max-sessions +9$")
        self.assertRegex(done.stdout, r"(?m)^log-level +error$")

    def test_a_wrong_flag_and_a_missing_file_are_told(self):
        done = run(LBRD, "--max-sessions", "many")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--max-sessions: must be a whole number", done.stderr)
        done = run(LBRD, "--config", "/nonexistent/lbrd.toml")
        self.assertEqual(done.returncode, 2)
        self.assertIn("/nonexistent/lbrd.toml", done.stderr)

    def test_reload(self):
        self.write("max-sessions = 2\n")
        with Daemon(args=["--config", self.config]) as daemon:
            self.assertEqual(daemon.lbrctl("start", "one", "-a", "-F", "19").returncode, 0)
            self.write("max-sessions = 1\nmax-contexts = 2048\n")
            daemon.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "max-sessions: from '2' to '1'" in daemon.log_text())
            self.assertIn("max-contexts: from '1048576' to '2048' needs a restart",
                          wait_for(lambda: daemon.log_text().count("restart")
                                   and daemon.log_text()))
            refused = daemon.lbrctl("start", "two", "-a", "-F", "19")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("max-sessions is 1", refused.stderr)

            self.write("\n\nmax-sessions = 'x'\n")
            daemon.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "not reloaded" in daemon.log_text())
            self.assertIn(f"{self.config}:3: max-sessions", daemon.log_text())
            # The session has gone on, and so has the limit.
            self.assertIn("one", daemon.lbrctl("list").stdout)
            self.assertEqual(daemon.lbrctl("start", "two", "-a").returncode, 1)


class Notifications(Folder):
    """What systemd would hear."""

    def setUp(self):
        super().setUp()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(str(self.folder / "notify"))
        self.notify.settimeout(PATIENCE)
        self.write("")

    def daemon(self, **env):
        return Daemon(args=["--config", self.config],
                      env={"NOTIFY_SOCKET": str(self.folder / "notify"), **env})

    def hear(self, wanted):
        """Messages up to one that has `wanted`."""
        heard = []
        while not heard or wanted not in heard[-1]:
            heard.append(self.notify.recv(4096).decode())
        return heard

    def test_ready_status_reload_stop(self):
        with self.daemon() as daemon:
            self.assertEqual(self.hear("READY=1"), ["READY=1"])
            self.hear("STATUS=no sessions")
            daemon.lbrctl("start", "one", "-a", "-F", "99")
            self.hear("STATUS=1 session")
            self.assertIn(" samples/s", self.hear("samples/s")[-1])
            daemon.process.send_signal(signal.SIGHUP)
            self.assertEqual(self.hear("RELOADING=1")[-1], "RELOADING=1")
            self.assertEqual(self.hear("READY=1")[-1], "READY=1")
            daemon.process.send_signal(signal.SIGTERM)
            self.hear("STOPPING=1")

    def test_the_watchdog_hears_from_a_daemon_that_lives_only(self):
        with self.daemon(WATCHDOG_USEC="600000") as daemon:
            for _ in range(4):
                self.hear("WATCHDOG=1")
            daemon.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: "State:\tT" in pathlib.Path(
                f"/proc/{daemon.process.pid}/status").read_text())
            self.notify.setblocking(False)
            try:
                while True:
                    self.notify.recv(4096)
            except BlockingIOError:
                pass
            self.notify.settimeout(1)
            self.assertRaises(TimeoutError, self.notify.recv, 4096)
            daemon.process.send_signal(signal.SIGCONT)
            self.notify.settimeout(PATIENCE)
            self.hear("WATCHDOG=1")


class GivenSockets(Folder):
    def start(self, *args):
        """lbrd, started by the first connection to sockets that it did not make."""
        self.socket = self.folder / "lbrd.sock"
        self.log = open(self.folder / "log", "w")
        self.addCleanup(self.log.close)
        process = subprocess.Popen(
            ["systemd-socket-activate", "-l", str(self.socket), "-l", f"{self.socket}.fd",
             str(LBRD), "--no-history", "--config", str(self.config), *map(str, args)],
            stderr=self.log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for(lambda: (self.folder / "lbrd.sock.fd").exists())
        return process

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate here")
    def test_the_first_request_starts_it_and_it_leaves_the_sockets(self):
        self.write("")
        process = self.start()
        done = run(LBRCTL, "--socket", self.socket, "list")
        self.assertEqual(done.returncode, 0, done.stderr)
        # All of the way of a sample, over connections that lbrd accepted itself.
        account = self.folder / "x.json"
        done = run(LBRCTL, "--socket", self.socket, "-q", "record", "-a", "-d", "1s", "-o", account)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(account.stat().st_size, 100)
        # The other socket hands out descriptors, and says so in its own words.
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(f"{self.socket}.fd")
            client.sendall(b"nobody 0\n")
            self.assertTrue(client.recv(200).startswith(b"error "))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertTrue(self.socket.is_socket())
        self.assertTrue((self.folder / "lbrd.sock.fd").is_socket())

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate here")
    def test_it_ends_when_idle_but_not_with_a_session(self):
        self.write("exit-idle = '1s'\n")
        process = self.start()
        run(LBRCTL, "--socket", self.socket, "start", "one", "-a", "-F", "19")
        time.sleep(3)
        self.assertIsNone(process.poll())
        done = run(LBRCTL, "--socket", self.socket, "-q", "stop", "one")
        self.assertEqual(done.returncode, 0, done.stderr)
        # Its profile can still be had until it is deleted: this one is not idle either.
        if "one" not in run(LBRCTL, "--socket", self.socket, "list").stdout:
            self.assertEqual(process.wait(PATIENCE), 0)
            self.assertTrue(self.socket.is_socket())

    def test_without_given_sockets_it_does_not_end(self):
        self.write("exit-idle = '1s'\n")
        with Daemon(args=["--config", self.config]) as daemon:
            time.sleep(3)
            self.assertIsNone(daemon.process.poll())


class Metrics(Folder):
    def test_the_same_figures_as_status(self):
        path = self.folder / "metrics.sock"
        with Daemon(args=["--metrics", path]) as daemon:
            daemon.lbrctl("start", "one", "-a", "-F", "19")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(path))
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
            self.assertTrue(text.startswith("HTTP/1.0 200 OK\r\n"), text)
            self.assertIn('\nlbrd_sessions{state="running"} 1\n', text)
            self.assertRegex(text, r"\nlbrd_resident_bytes [1-9]\d{6,}\n")
        self.assertFalse(path.exists())


class Privileges(Folder):
    """Its four capabilities suffice, and each is missed."""

    def start(self, *capabilities):
        """lbrd as nobody with these capabilities, or its errors."""
        os.chmod(self.folder, 0o777)
        self.socket = self.folder / "lbrd.sock"
        given = "-all" + "".join(f",+{name}" for name in capabilities)
        ready, write = os.pipe()
        self.addCleanup(os.close, ready)
        process = subprocess.Popen(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={given}",
             f"--ambient-caps={given}", f"--bounding-set={given}", str(LBRD), "--no-history", "--config",
             "/dev/null", "--socket", str(self.socket), "--ready-fd", str(write)],
            pass_fds=[write], stderr=subprocess.PIPE, text=True)
        os.close(write)
        if os.read(ready, 1) != b"\n":
            return process.communicate(timeout=PATIENCE)[1]
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        return process

    def test_the_four_suffice(self):
        process = self.start(*CAPABILITIES)
        if isinstance(process, str):
            self.skipTest("cannot be tried here: " + process)
        out = self.folder / "all.jsonl"
        # Root's own busy program, in a folder that is closed to nobody.
        with tempfile.TemporaryDirectory() as closed:
            shutil.copy("/bin/bash", f"{closed}/burn")
            burn = subprocess.Popen([f"{closed}/burn", "-c", "while :; do :; done"])
            try:
                done = run(LBRCTL, "--socket", self.socket, "-q", "record", "-p", burn.pid, "-F",
                           "499", "-d", "2s", "--ring", "64K", "-o", out)  # without LimitMEMLOCK=
            finally:
                burn.kill()
                burn.wait()
            self.assertEqual(done.returncode, 0, done.stderr)
            samples = out.read_text().splitlines()
            self.assertGreater(len(samples), 50)
            complete = sum('"state":"complete"' in line for line in samples)
            self.assertGreater(complete, 0.9 * len(samples), samples[0])

    def test_each_is_missed(self):
        for missing in CAPABILITIES[:3]:
            with self.subTest(missing):
                errors = self.start(*(name for name in CAPABILITIES if name != missing))
                self.assertIsInstance(errors, str)
                self.assertIn(f"lacks CAP_{missing.upper()} (to ", errors)
                self.assertEqual(errors.count("CAP_"), 1, errors)

    def test_without_syslog_it_warns(self):
        process = self.start(*CAPABILITIES[:3])
        if isinstance(process, str):
            self.fail(process)
        self.assertIn("lacks CAP_SYSLOG", process.stderr.readline())


if __name__ == "__main__":
    require_root()
    main()
