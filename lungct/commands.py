"""Commands that a message advises, as a terminal takes them."""

from pathlib import Path

from lungct.settings import CONF_NAME, load, resolve_path


def quoted(path: Path) -> str:
    """A path as a command line takes it on every system."""
    return f'"{path}"' if " " in str(path) else str(path)


def with_conf(command: str, conf: Path | str) -> str:
    """A command with the settings file of this one, where that is not the one that it reads by itself."""
    return command if Path(conf) == Path(CONF_NAME) else f"{command} --conf {quoted(Path(conf))}"


def after_training(weights: Path, conf: Path | str) -> str:
    """What comes after a training: steps 4 and 5; with its weights where step 5 would take others by lung.conf."""
    prepare = with_conf("python prepare_lung_image.py --test", conf)
    of_conf = resolve_path(load(Path(conf))["weights_path"], Path(conf).parent)
    if of_conf.resolve() == weights.resolve():
        return prepare
    predict = with_conf(f"python model_test.py --weights-path {quoted(weights)}", conf)
    return f"{prepare}, then, since weights_path is {of_conf}: {predict}"
