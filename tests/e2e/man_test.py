"""The manual pages say what the programs do: every option and setting is in them, and no other."""

import re
import shutil
import tempfile
import unittest

from lbrd_fixture import LBRCTL, LBRD, SOURCE, main, run

MAN = SOURCE / "docs/man"


def options(program, *command):
    """The long options that --help tells of, and the subcommands."""
    text = run(program, *command, "--help").stdout
    head, _, subcommands = text.partition("\nSubcommands:\n")
    longs = set(re.findall(r"^ {2}(?:-\w,)?(--[a-z][\w-]*)", head, re.M))
    return longs, re.findall(r"^ {2}(\w+)", subcommands, re.M)


def page(name):
    return (MAN / name).read_text()


def documented(text):
    """`.Fl -name` is --name in mdoc(7)."""
    return {"-" + name for name in re.findall(r"Fl (-[a-z][\w-]*)", text)}


class Man(unittest.TestCase):
    def test_every_option_of_lbrd(self):
        longs, _ = options(LBRD)
        self.assertIn("--socket", longs)
        self.assertEqual(documented(page("lbrd.8")), longs)

    def test_every_command_and_option_of_lbrctl(self):
        text = page("lbrctl.1")
        longs, commands = options(LBRCTL)
        self.assertIn("record", commands)
        for command in commands:
            self.assertRegex(text, rf"(?m)^\.It Ic {command}\b")
            longs |= options(LBRCTL, command)[0]
        self.assertEqual(documented(text), longs)

    def test_every_setting_has_its_key_in_the_manual_and_in_the_file(self):
        shown = run(LBRD, "--config", "/dev/null", "--check-config")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        settings = {line.split()[0] for line in shown.stdout.splitlines()}
        self.assertGreater(len(settings), 3)
        self.assertEqual(set(re.findall(r"^\.It Cm ([\w-]+) No =", page("lbrd.toml.5"), re.M)),
                         settings)
        file = (SOURCE / "systemd/lbrd.toml").read_text()
        self.assertEqual(set(re.findall(r"^#([\w-]+) = ", file, re.M)), settings)

    def test_the_default_file_says_the_defaults(self):
        # Each setting of the file, switched on, is what it is without the file.
        on = re.sub(r"(?m)^#([\w-]+ = )", r"\1", (SOURCE / "systemd/lbrd.toml").read_text())
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(on)
            file.flush()
            switched_on = run(LBRD, "--config", file.name, "--check-config")
        self.assertEqual(switched_on.returncode, 0, switched_on.stderr)
        self.assertEqual(switched_on.stdout,
                         run(LBRD, "--config", "/dev/null", "--check-config").stdout)

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is not installed")
    def test_they_are_well_formed(self):
        pages = sorted(MAN.iterdir())
        self.assertEqual(len(pages), 3)
        lint = run("mandoc", "-T", "lint", "-W", "warning", *pages)
        self.assertEqual(lint.stdout + lint.stderr, "")


if __name__ == "__main__":
    main()
