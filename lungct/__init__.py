"""The nouns that more than one step needs; steps import them, they never import a step.

Steps import this before anything else, so that a missing package ends them in one line: the standard library alone.
"""

import os
import re
import signal
import sys
from pathlib import Path

__version__ = "0.4.0"
REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
OLDEST_PYTHON = (3, 10)


class LungError(Exception):
    """One sentence for the user: what is wrong, with which file, and what to run next."""


def missing_packages(requirements: Path) -> "list[str]":
    """The packages of a requirements.txt that are not installed, in any version."""
    from importlib import metadata  # here: it takes a while to import

    missing = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        name = re.split(r"[^\w.-]", line)[0]
        try:
            metadata.version(name or "pip")
        except metadata.PackageNotFoundError:
            missing += [name] if name else []
    return missing


def report_import_error(kind: type, error: BaseException, trace: object) -> None:
    """What Python calls for an error that ends a step: one line where a package is missing, else its traceback."""
    package = (getattr(error, "name", None) or "").split(".")[0]
    if not isinstance(error, ImportError) or package in {"", __name__, *sys.stdlib_module_names}:
        sys.__excepthook__(kind, error, trace)
        return
    missing = missing_packages(REQUIREMENTS)
    listed = f"; missing: {', '.join(missing)}" if missing else ""
    install = "pip install -r requirements.txt"
    if sys.prefix == sys.base_prefix and (REQUIREMENTS.parent / ".venv").is_dir():  # which the README has made
        activate = r".venv\Scripts\activate" if sys.platform == "win32" else "source .venv/bin/activate"
        install += f" (in a new terminal first: {activate})"
    print(f"{Path(sys.argv[0]).name}: {error}{listed}; run: {install}", file=sys.stderr)


def stop_import(*_signal: object) -> None:
    """Ctrl-C while a step imports what it needs: ends it in a word. Later, the step itself sees it.

    As an exception, some packages would take it for one of theirs that cannot be imported.
    """
    script = sys.modules["__main__"]
    if hasattr(script, "main"):  # which stands below the imports
        raise KeyboardInterrupt
    if script.__name__ == "__main__":  # a process of a pool says nothing
        os.write(2, b"\nstopped\n")
    os._exit(130)


if Path(sys.argv[0]).absolute().parent == REQUIREMENTS.parent.absolute():  # a step, and not a program of others
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"{Path(sys.argv[0]).name}: this is Python {sys.version.split()[0]}; install 3.10 or later")
    sys.excepthook = report_import_error
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop_import)
