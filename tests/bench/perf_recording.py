"""A recording of the mixed load, made by perf."""

import subprocess

from lbrd_fixture import skip
from mixed_load import MixedLoad


def record(folder, seconds, *options):
    """Of the whole machine; `options`: how to sample."""
    data = folder / "perf.data"
    with MixedLoad(folder):
        done = subprocess.run(["perf", "record", "-q", "-a", "-m", "32M", "-o", str(data),
                               *map(str, options), "--", "sleep", str(seconds)],
                              capture_output=True, text=True)
    if done.returncode != 0 or not data.exists():
        skip("perf cannot record here: " + done.stderr.strip())
    return data
