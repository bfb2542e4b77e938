"""Thousands of damaged files and dozens of kills; writes their sections of benchmarks/RELIABILITY.md.

Run     make soak
"""

import argparse
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from fuzz import READERS, survives
from killing import STEPS, kill_and_go_on, make_home, undisturbed
from tqdm import tqdm

from benchmarks.reliability import PAGE
from benchmarks.report import table, write_section


def fuzz(inputs: int, folder: Path) -> list[tuple]:
    """(reader, inputs, read, refused, other errors) for each reader."""
    rows = []
    for name in READERS:
        counts: Counter[str] = Counter()
        for seed in tqdm(range(inputs), desc=name, unit="input"):
            place = folder / name
            shutil.rmtree(place, ignore_errors=True)
            try:
                counts["read" if survives(name, place, seed) else "refused"] += 1
            except Exception:  # what must not happen is counted and shown, and the soak goes on
                counts["other"] += 1
                print(f"{name}, seed {seed}\n{traceback.format_exc()}")
        rows.append((name, inputs, counts["read"], counts["refused"], counts["other"]))
    return rows


def kill(trials: int, folder: Path) -> list[tuple]:
    """(step, kills, ended like an undisturbed run) for each step."""
    home, before = folder / "home", folder / "before"
    make_home(home)
    rng = np.random.default_rng(1)
    rows = []
    for script in STEPS:
        shutil.copytree(home, before)
        expected, seconds = undisturbed(home, script)
        good = 0
        for _ in tqdm(range(trials), desc=script, unit="kill"):
            good += kill_and_go_on(before, folder / "killed", script, rng.uniform(0, seconds)) == expected
        shutil.rmtree(before)
        rows.append((f"`{script}`", trials, good))
    return rows


def main() -> None:
    """Damage, kill, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1700, help="damaged files for each reader (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=17, help="kills of each step (default: %(default)s)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed = kill(flags.kills, Path(folder))
        fuzzed = fuzz(flags.inputs, Path(folder))
    what = "step, killed by `kill -9` at a random moment, then run again"
    lines = table((what, "kills", "results identical to an uninterrupted run, byte for byte"), killed)
    lines += ["", "The times in `history.csv` and `unet_model.json` are not compared."]
    write_section("Interrupted runs", ["`make soak`", "", *lines], PAGE)
    lines = ["`make soak`: for each reader, files with random damage. Each must either be read or be refused with a"]
    lines += ["message for the user; any other error is a fault.", ""]
    lines += table(("damaged files for", "files", "read", "refused with a message", "any other error"), fuzzed)
    write_section("Damaged files", lines, PAGE)


if __name__ == "__main__":
    main()
