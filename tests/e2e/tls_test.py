#!/usr/bin/env python3
"""Other machines: mutual TLS, roles by certificate, and every way not to be let in."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from lbrd_fixture import (LBRCTL, LBRD, Daemon, Demo, engine_of, main, require_root, run, skip,
                          wait_for)

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*words, folder, text=None):
    done = subprocess.run(["openssl", *words], cwd=folder, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)


def authority(folder, name):
    openssl("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out",
            f"{name}.pem", folder=folder)


def certificate(folder, name, issuer="ca", alternative=True):
    openssl("req", *KEY, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", folder=folder)
    names = f"subjectAltName=DNS:{name}" if alternative else "basicConstraints=CA:FALSE"
    (folder / "names").write_text(names)
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem", folder=folder)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OtherMachines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        authority(cls.folder, "ca")
        authority(cls.folder, "other-ca")
        for name in ("localhost", "ops", "alice", "stranger"):
            certificate(cls.folder, name)
        certificate(cls.folder, "old-style", alternative=False)
        certificate(cls.folder, "forged", issuer="other-ca")
        # Its alternative name counts, not the common one.
        (cls.folder / "names").write_text("subjectAltName=DNS:nobody")
        openssl("req", *KEY, "-subj", "/CN=ops", "-keyout", "false-ops.key", "-out", "false-ops.csr",
                folder=cls.folder)
        openssl("x509", "-req", "-in", "false-ops.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                "-extfile", "names", "-out", "false-ops.pem", folder=cls.folder)
        cls.port = free_port()
        cls.daemon = Daemon(args=cls.settings())
        cls.daemon.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__(None, None, None)
        cls.scratch.cleanup()

    @classmethod
    def settings(cls, **changed):
        settings = {"tls-listen": f"127.0.0.1:{cls.port}", "tls-cert": f"{cls.folder}/localhost.pem",
                    "tls-key": f"{cls.folder}/localhost.key", "tls-ca": f"{cls.folder}/ca.pem",
                    "tls-admins": "ops, old-style, forged", "tls-users": "alice=1500"} | changed
        return [f"--{name}={value}" for name, value in settings.items() if value]

    def lbrctl(self, who, *words, host="localhost", port=None, ca="ca", **options):
        return run(LBRCTL, "--host", f"{host}:{port or self.port}", "--tls-ca", self.folder / f"{ca}.pem",
                   "--tls-cert", self.folder / f"{who}.pem", "--tls-key", self.folder / f"{who}.key",
                   *words, **options)

    def test_an_admin_may_do_everything(self):
        for who in ("ops", "old-style"):
            with Demo():
                output = self.folder / "x.jsonl"
                done = self.lbrctl(who, "record", "-a", "-F", "199", "-d", "2s", "-o", output)
            self.assertEqual(done.returncode, 0, done.stderr)
            samples = [json.loads(line) for line in output.read_text().splitlines()]
            self.assertGreater(len(samples), 20)
        log = self.daemon.log_text()
        self.assertRegex(log, 'audit: uid=0 certificate="ops" action=start .*target="all CPUs".*result=ok')

    def test_streams_and_queries_work_too(self):
        with Demo():
            done = self.lbrctl("ops", "start", "remote", "-a", "-F", "99")
            self.assertEqual(done.returncode, 0, done.stderr)
            stream = subprocess.Popen(
                [str(LBRCTL), "--host", f"localhost:{self.port}", "--tls-ca", str(self.folder / "ca.pem"),
                 "--tls-cert", str(self.folder / "ops.pem"), "--tls-key", str(self.folder / "ops.key"),
                 "stream", "remote"], stdout=subprocess.PIPE, text=True)
            try:
                for _ in range(20):
                    json.loads(stream.stdout.readline())
            finally:
                stream.kill()
                stream.communicate()
            self.assertIn("remote", self.lbrctl("ops", "list").stdout)
            self.assertEqual(self.lbrctl("ops", "stop", "remote").returncode, 0)

    def test_the_next_engine_knows_whose_session_it_was(self):
        self.assertEqual(self.lbrctl("ops", "start", "longer", "-a", "-F", "19").returncode, 0)
        os.kill(engine_of(self.daemon.process), signal.SIGKILL)
        wait_for(lambda: self.lbrctl("ops", "stop", "longer").returncode == 0)
        log = self.daemon.log_text()
        for action in ("start session", "go-on what", "end session"):
            self.assertRegex(log, f'audit: uid=0 certificate="ops" action={action}="longer".*result=ok')

    def test_a_user_is_that_user(self):
        done = self.lbrctl("alice", "record", "-a", "-d", "1s")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no-machine", done.stderr)
        self.assertEqual(self.daemon.lbrctl("start", "hidden", "-a").returncode, 0)
        listed = self.lbrctl("alice", "list")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertNotIn("hidden", listed.stdout)
        self.daemon.lbrctl("stop", "hidden")
        # Their own processes they may profile.
        sleeper = subprocess.Popen(["python3", "-c", "while True: pass"], user=1500, group=1500)
        try:
            done = self.lbrctl("alice", "record", "-p", sleeper.pid, "-F", "199", "-d", "1s")
            self.assertEqual(done.returncode, 0, done.stderr)
            done = self.lbrctl("alice", "record", "-p", os.getpid(), "-d", "1s")
            self.assertEqual(done.returncode, 1)
            self.assertIn("own-processes", done.stderr)
        finally:
            sleeper.kill()
            sleeper.wait()

    def test_a_certificate_without_a_role_is_told_so(self):
        for who, name in (("stranger", "stranger"), ("false-ops", "nobody")):
            done = self.lbrctl(who, "list")
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"no role to this certificate ({name})", done.stderr)
            self.assertIn("certificates", done.stderr)

    def test_nobody_else_is_let_in(self):
        # Issued by somebody else; the daemon's by somebody else; another machine's name.
        for who, options in (("forged", {}), ("ops", {"ca": "other-ca"}), ("ops", {"host": "127.0.0.1"})):
            done = self.lbrctl(who, "list", **options)
            self.assertEqual(done.returncode, 1, (who, options))
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertRegex(done.stderr, "(?i)certificate|handshake|ssl")
        # Without TLS at all.
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            plain.settimeout(60)
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            self.assertEqual(plain.recv(1 << 16)[:3] in (b"", b"\x15\x03\x01", b"\x15\x03\x03"), True)
        self.assertEqual(self.lbrctl("ops", "list").returncode, 0)

    def test_who_says_nothing_does_not_keep_others_out_for_good(self):
        silent = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(64)]
        try:
            # This machine's are not touched.
            self.assertEqual(self.daemon.lbrctl("list").returncode, 0)
            # Their time for the handshake is over after 10 s.
            wait_for(lambda: self.lbrctl("ops", "list").returncode == 0)
        finally:
            for connection in silent:
                connection.close()

    def test_the_command_line_says_what_is_missing(self):
        cases = (
            (["--host", f"localhost:{self.port}"], 2, "--tls-ca"),
            (["--host", "localhost", "--tls-ca", "x"], 2, "HOST:PORT"),
            (["--host", f"localhost:{self.port}", "--tls-ca", self.folder / "none.pem"], 1, "none.pem"),
        )
        for words, code, text in cases:
            done = run(LBRCTL, *words, "list")
            self.assertEqual(done.returncode, code, (words, done.stderr))
            self.assertIn(text, done.stderr)
        for options, text in (({"host": "no-such-host.invalid"}, "cannot find"),
                              ({"port": free_port()}, "no daemon answers")):
            done = self.lbrctl("ops", "list", **options)
            self.assertEqual(done.returncode, 1)
            self.assertIn(text, done.stderr)
        done = self.lbrctl("ops", "record", "--", "true")
        self.assertEqual(done.returncode, 2)
        self.assertIn("on this machine", done.stderr)

    def test_a_daemon_does_not_start_with_files_that_are_no_good(self):
        garbage = self.folder / "garbage.pem"
        garbage.write_text("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n")
        cases = (
            ({"tls-key": f"{self.folder}/ops.key"}, "tls-key: is not the key of the certificate"),
            ({"tls-key": f"{self.folder}/none.key"}, "tls-key: cannot be read"),
            ({"tls-cert": f"{self.folder}/localhost.key"}, "tls-cert: no certificate"),
            ({"tls-ca": f"{garbage}"}, "tls-ca: no certificate"),
            ({"tls-ca": ""}, "tls-cert, tls-key and tls-ca"),
            ({"tls-admins": "", "tls-users": ""}, "no certificate has a role"),
            ({"tls-admins": "alice"}, "named twice"),
            ({"tls-listen": "203.0.113.1:7431"}, "cannot listen on 203.0.113.1"),
        )
        for changed, text in cases:
            with tempfile.TemporaryDirectory() as folder:
                done = run(LBRD, "--socket", f"{folder}/s", "--no-history", *self.settings(
                    **{"tls-listen": f"127.0.0.1:{free_port()}"} | changed), timeout=60)
            self.assertNotEqual(done.returncode, 0, changed)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    require_root()
    if shutil.which("openssl") is None:
        skip("certificates are made by openssl")
    main()
