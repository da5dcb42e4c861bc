"""What a user opens afterwards: pprof by an independent reader, the flame graph as XML."""

import gzip
import json
import pathlib
import re
import shutil
import subprocess
import unittest
import xml.etree.ElementTree

from lbrd_fixture import Daemon, Demo, Session, main, require_root, run


class Outputs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.daemon.__enter__()
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.files = {ending: cls.daemon.folder / f"out{ending}"
                     for ending in (".pb.gz", ".svg", ".folded", ".json", ".jsonl", ".txt")}
        with Demo():
            outputs = [word for path in cls.files.values() for word in ("-o", path)]
            done = cls.daemon.lbrctl("record", "-a", "-d", "3s", *outputs)
        assert done.returncode == 0, done.stderr
        cls.session = Session(json.loads(cls.files[".json"].read_text()))

    def test_pprof_opens_in_an_independent_reader(self):
        if not shutil.which("go"):
            self.skipTest("go, whose pprof is the independent reader, is not installed (golang-go)")
        top = run("go", "tool", "pprof", "-top", "-sample_index=samples", self.files[".pb.gz"])
        self.assertEqual(top.returncode, 0, top.stderr)
        self.assertIn("demo::SearchLeaf", top.stdout)
        total = re.search(r"of (\d+) total", top.stdout)
        self.assertEqual(int(total[1]), self.session.stat("samples_delivered"), top.stdout[:500])

    def test_flame_graph_is_well_formed_and_has_hover_text_and_search(self):
        text = self.files[".svg"].read_text()
        root = xml.etree.ElementTree.fromstring(text)
        self.assertTrue(root.tag.endswith("svg"))
        titles = [e.text for e in root.iter() if e.tag.endswith("title")]
        self.assertTrue(any("demo::Tokenize" in (t or "") for t in titles))
        self.assertIn("search", text.lower())

    def test_folded_and_table_and_lines_agree_with_the_account(self):
        delivered = self.session.stat("samples_delivered")
        self.assertEqual(len(self.files[".jsonl"].read_text().splitlines()), delivered)
        weights = sum(int(line.rsplit(" ", 1)[1])
                      for line in self.files[".folded"].read_text().splitlines())
        from_lines = sum(json.loads(line)["weight"]
                         for line in self.files[".jsonl"].read_text().splitlines())
        self.assertEqual(weights, from_lines)
        table = self.files[".txt"].read_text()
        self.assertTrue(all(len(line) <= 80 for line in table.splitlines()), table)
        self.assertIn("demo::Tokenize", table)


if __name__ == "__main__":
    require_root()
    main()
