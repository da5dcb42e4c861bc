#!/usr/bin/env python3
"""Checks that a session outlived CPUs going off and on.

    check_hotplug.py FOLDER    # hotplug.json, hotplug.txt, hotplug-toggles.txt, fork-storm.txt

The session must have ended by itself, as it was to; its account must balance; CPUs must really have
gone off and on, and processes forked; and the session must tell of its gaps.
"""

import argparse
import json
import pathlib
import re
import sys

from check_deferred import unbalanced


def problems(session, text, toggles, forks):
    if "hung" in text:
        yield "the session hung"
    codes = re.findall(r"^exit code (\d+)$", text, re.M)
    if codes != ["0"]:
        yield f"lbrctl ended with {codes}"
    if session["state"] != "SESSION_STATE_STOPPED":
        yield f"the session is {session['state']}: {session.get('error')}"
    wrong = unbalanced(session["stats"])
    if wrong:
        yield f"the account: {wrong}: {json.dumps(session['stats'])}"
    if int(session["stats"]["samples_delivered"]) == 0:
        yield "no sample was delivered"
    if min(toggles) < 20:
        yield f"CPUs went off {toggles[0]} and on {toggles[1]} times: too few to tell"
    if forks < 1000:
        yield f"only {forks} forks: too few to tell"
    told = any(value for key, value in {**session, **session["stats"]}.items() if "gap" in key)
    if not told and not any("offline" in note for note in session.get("notes", [])):
        yield "the session does not tell of its gaps"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    session = json.loads((options.folder / "hotplug.json").read_text())
    text = (options.folder / "hotplug.txt").read_text()
    toggles = [int(n) for n in (options.folder / "hotplug-toggles.txt").read_text().split()]
    forks = int((options.folder / "fork-storm.txt").read_text())
    print(f"hotplug, {options.title}")
    print(f"  CPUs went off {toggles[0]} and on {toggles[1]} times; {forks} forks;",
          json.dumps(session["stats"]))
    wrong = list(problems(session, text, toggles, forks))
    for line in wrong:
        print("  WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
