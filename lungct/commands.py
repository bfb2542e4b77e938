"""Commands that a message advises, as a terminal takes them."""

from pathlib import Path

from lungct.settings import CONF_NAME


def quoted(path: Path) -> str:
    """A path as a command line takes it on every system."""
    return f'"{path}"' if " " in str(path) else str(path)


def with_conf(command: str, conf: Path | str) -> str:
    """A command with the settings file of this one, where that is not the one that it reads by itself."""
    return command if Path(conf) == Path(CONF_NAME) else f"{command} --conf {quoted(Path(conf))}"
