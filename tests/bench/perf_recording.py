"""A recording of the mixed load, made by perf."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile

from lbrd_fixture import require_root, skip
from mixed_load import MixedLoad


def require_perf():
    if shutil.which("perf") is None:
        skip("there is no perf (Debian: linux-perf)")


@contextlib.contextmanager
def recording(made_before, seconds, *options):
    """The file `made_before`; None: a new one of the whole machine, gone in the end.

    `options`: how to sample.
    """
    if made_before:
        yield pathlib.Path(made_before)
        return
    require_root()
    require_perf()
    with tempfile.TemporaryDirectory(prefix="lbrd-bench-") as folder:
        yield record(pathlib.Path(folder), seconds, *options)


def record(folder, seconds, *options):
    data = folder / "perf.data"
    with MixedLoad(folder):
        done = subprocess.run(["perf", "record", "-q", "-a", "-m", "32M", "-o", str(data),
                               *map(str, options), "--", "sleep", str(seconds)],
                              capture_output=True, text=True)
    if done.returncode != 0 or not data.exists():
        skip("perf cannot record here: " + done.stderr.strip())
    return data
