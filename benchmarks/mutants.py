"""Break the code on purpose, one place at a time, and count how often the tests notice.

Each mutant is one change by cosmic-ray: another operator, a number more or less by one, a condition turned around.
It is killed if a test of its module (`tests/<folder>/test_<module>.py`) fails or runs for too long. Tests that start a
script are left out: they take half a minute each.

Run     make mutants            a sample, the same each time
        make mutants SHARE=100  all of them (hours)
Writes  benchmarks/RELIABILITY.md, section "Mutation testing"
        benchmarks/scratch/survivors.txt: the changes that no test noticed, as diffs
"""

import argparse
import ast
import compileall
import contextlib
import difflib
import hashlib
import importlib
import json
import math
import os
import pickle
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from tqdm import tqdm

from benchmarks.report import ROOT, WORK, table, write_section
from lungct.files import replace_file

FOLDERS = ("scans", "masks", "segmentation", "evaluation")
SEED = 15
MIN_LIMIT_S = 60  # and four times what the tests of the module take on the right code
LEFT_OUT = (".git", ".venv", "__pycache__", "demo", "mydata", "runs", "predictions", "scratch", ".pytest_cache")
ARITHMETIC = "(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)"
BITS = "(RShift|LShift|BitOr|BitAnd|BitXor)"
# A shift in place of a sum is an error at once, and `is` in place of `==` is often no change: neither tells anything.
IDLE = f"BinaryOperator_{ARITHMETIC}_{BITS}|BinaryOperator_{BITS}_{ARITHMETIC}|(Eq|NotEq|Lt|LtE|Gt|GtE)_Is(Not)?$"
IDLE += "|Is(Not)?_(Eq|NotEq|Lt|LtE|Gt|GtE)$"


class QuickFirst:
    """A pytest plugin: leaves out tests that call `conftest.run`; those that were quick in the first run go first.

    folder: keeps for the runs of the mutants what the run of the right code took, loaded and made: seconds, packages
            and phantoms
    """

    def __init__(self, folder: Path, module: str):
        self.folder = folder
        self.file = folder / f"{module.replace('/', '_')}.json"
        self.before = json.loads(self.file.read_text())["seconds"] if self.file.is_file() else {}
        self.now: Counter = Counter()

    def pytest_configure(self) -> None:
        conftest = sys.modules["conftest"]
        make = conftest.make_patient

        def make_once(*args, **kwargs):
            path = self.folder / hashlib.sha256(repr((args, kwargs)).encode()).hexdigest()
            if not path.is_file():
                replace_file(path, pickle.dumps(make(*args, **kwargs)))
            return pickle.loads(path.read_bytes())

        conftest.make_patient = make_once

    def pytest_collection_modifyitems(self, items: list) -> None:
        run = sys.modules["conftest"].run
        for item in list(items):
            if any(vars(item.module).get(name) is run for name in item.function.__code__.co_names):
                items.remove(item)
        items.sort(key=lambda item: self.before.get(item.nodeid, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.now[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        if not self.before:
            others = [n for n, m in sys.modules.items() if "site-packages" in (getattr(m, "__file__", None) or "")]
            packages = [name for name in others if not name.startswith("pylidc")]  # lidc.py changes that one
            self.file.write_text(json.dumps({"seconds": self.now, "packages": packages}))


def annotations(source: str) -> list[tuple]:
    """(first, last) position of each type annotation; a position is (line, column)."""
    nodes = []
    for node in ast.walk(ast.parse(source)):
        nodes += [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]


def find_mutants(source: str) -> list[tuple[str, int]]:
    """(operator, occurrence) of all changes to a module, those within type annotations left out."""
    nodes = list(ast_nodes(get_ast(source)))
    no_code = annotations(source)
    found = []
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments() or re.search(IDLE, name):
            continue
        places = [place for node in nodes for place in operator().mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            if not any(first <= start < last for first, last in no_code):
                found.append((name, occurrence))
    return found


def copy_project(folder: Path) -> None:
    """A copy to break, compiled such that a change is seen even within the same second."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    compileall.compile_dir(folder / "lungct", quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def run_tests(project: Path, module: str, limit_s: float) -> int | None:
    """The exit status of pytest in a process of its own; None if it took longer than the limit."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(pytest_status(project, module))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def pytest_status(project: Path, module: str) -> int:
    """Run the tests of a module of the copy in this process, on which nothing of the project is loaded."""
    os.chdir(project)
    log = os.open(project / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in [name for name in sys.modules if name.split(".")[0] in ("lungct", "benchmarks")]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    plugin = QuickFirst(project.parent, module)
    if plugin.before:  # what is compiled of the right code stays
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    flags = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={project / 'tmp'}"]
    try:
        return int(pytest.main([*flags, test_file(module)], plugins=[plugin]))
    except BaseException:  # a mutant may raise anything; it must not go on as a second parent
        return 1


def test_file(module: str) -> str:
    folder, name = module.removesuffix(".py").split("/")[-2:]
    return f"tests/{folder}/test_{name}.py"


def load_packages(project: Path, module: str) -> None:
    """Load here what the tests of a module load, so that the process of each mutant need not."""
    for name in json.loads(QuickFirst(project.parent, module).file.read_text())["packages"]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def try_mutants(project: Path, module: str, chosen: list[tuple[str, int]]) -> list[tuple[str, str]]:
    """(result, diff) of mutants of one module: "killed", "too long" or "survived"."""
    path = project / module
    source = path.read_text(encoding="utf-8")
    start = time.monotonic()
    if run_tests(project, module, 3600) != 0:
        raise SystemExit(
            f"{test_file(module)} fails on the right code:\n{(project / 'pytest.log').read_text()[-2000:]}"
        )
    limit_s = max(MIN_LIMIT_S, 4 * (time.monotonic() - start))
    load_packages(project, module)
    results = []
    for name, occurrence in chosen:
        try:
            mutant = mutate_code(source, get_operator(name)(), occurrence)
        except AttributeError:  # cosmic-ray cannot replace exceptions with a dot or a star in their name
            continue
        path.write_text(mutant, encoding="utf-8")
        status = run_tests(project, module, limit_s)
        result = {0: "survived", None: "too long"}.get(status, "killed")
        diff = difflib.unified_diff(source.splitlines(), mutant.splitlines(), module, name, lineterm="", n=1)
        results.append((result, "\n".join(diff)))
    path.write_text(source, encoding="utf-8")
    return results


def try_module(module: str, share: float, seed: int, folder: Path) -> tuple[str, list[tuple[str, str]]]:
    """Try a random share of a module's mutants, the same ones each time, in a copy of the project in a folder."""
    mutants = find_mutants((ROOT / module).read_text(encoding="utf-8"))
    chosen = random.Random(f"{seed} {module}").sample(mutants, math.ceil(share / 100 * len(mutants)))
    project = folder / module.replace("/", "_").removesuffix(".py")
    copy_project(project)
    return module, try_mutants(project, module, chosen)


def rows_of(results: dict[str, list[tuple[str, str]]]) -> list[tuple]:
    """(module, tried, killed, of these by time, survived, killed %), with a row for each folder and for all."""
    counts = {module: Counter(result for result, _ in found) for module, found in sorted(results.items())}
    rows = []
    for folder in (*FOLDERS, ""):
        inside = {module: count for module, count in counts.items() if module.startswith(f"lungct/{folder}")}
        if folder:
            rows += [row(f"`{module}`", count) for module, count in inside.items()]
        if inside:
            rows.append(row(f"**{folder or 'all'}**", sum(inside.values(), Counter())))
    return rows


def row(name: str, count: Counter) -> tuple:
    tried, survived = count.total(), count["survived"]
    killed = f"{100 * (tried - survived) / tried:.0f}" if tried else "-"
    return name, tried, tried - survived, count["too long"], survived, killed


def main() -> None:
    """Try the mutants of all modules, or of the ones named; only all of them go into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="modules to break, such as lungct/scans/hu.py (default: all)")
    parser.add_argument("--share", type=float, default=10, help="per cent of the mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="draws another sample (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="modules at a time (default: %(default)s)")
    flags = parser.parse_args()
    every = [path for folder in FOLDERS for path in (ROOT / "lungct" / folder).glob("[!_]*.py")]
    every.sort(key=lambda path: -path.stat().st_size)  # the longest first, so that no process waits long for another
    modules = flags.modules or [str(path.relative_to(ROOT)) for path in every]
    WORK.mkdir(exist_ok=True)
    results = {}
    pool = ProcessPoolExecutor(flags.jobs, mp_context=get_context("fork"))
    survivors_file = (WORK / "survivors.txt").open("w", encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, pool, survivors_file as survivors:
        jobs = pool.map(try_module, modules, repeat(flags.share), repeat(flags.seed), repeat(Path(folder)))
        for module, found in tqdm(jobs, total=len(modules)):
            results[module] = found
            survivors.writelines(diff + "\n\n" for result, diff in found if result == "survived")
            survivors.flush()
    head = ("module", "mutants", "killed", "of these by the time limit", "survived", "killed, %")
    lines = table(head, rows_of(results))
    if flags.modules:
        print("\n".join(lines))
        return
    sample = f"a random {flags.share:g} % of each module's" if flags.share < 100 else "all"
    what = [f"`make mutants SHARE={flags.share:g}`: {sample} mutants (seed {flags.seed}), each of them one place of"]
    what += ["the code changed by cosmic-ray. It is killed where a test of its module fails or takes far too long.", ""]
    write_section("Mutation testing", [*what, *lines], ROOT / "benchmarks" / "RELIABILITY.md")


if __name__ == "__main__":
    main()
