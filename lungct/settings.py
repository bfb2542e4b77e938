"""The one table of settings: lung.conf, its comments, every step's flags and typed record come from it.

Authority: flag, then lung.conf, then the default here. Paths may hold backslashes, blanks, % and any letter; those in a
lung.conf start from its folder, and may use ~ and variables of the environment.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from lungct import LungError
from lungct.conf_file import bare_path, bare_value, quote, read_lines
from lungct.files import replace_file
from lungct.slices import HU_WINDOW

CONF_NAME = "lung.conf"
MAX_COUNT = 10**6
RENAMED = {"nifti-sides": "sides"}  # words in lists of earlier versions

Value = str | int | float | bool
Record = TypeVar("Record")


@dataclass(frozen=True)
class Setting:
    """One row of the table; its type is that of the default, and a path where its name ends in _path."""

    section: str
    key: str
    default: Value
    meaning: str
    limits: tuple[float, float] | None = None  # least and most
    choices: tuple[str, ...] = ()
    takes_list: bool = False  # several choices, separated by commas

    @property
    def attribute(self) -> str:
        """Its name in the records and in Python."""
        return self.key.lower()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.attribute.replace("_", "-")

    @property
    def is_path(self) -> bool:
        return self.attribute.endswith("_path")

    def parse(self, text: str) -> Value:
        """The typed value of a text, from lung.conf or a flag. Raises ValueError that says what it may be."""
        if not self.choices and not text.strip():
            raise ValueError("it is empty; give a value, or remove it for the default")
        value = parse_bool(text) if isinstance(self.default, bool) else type(self.default)(text)
        if self.limits and not self.limits[0] <= value <= self.limits[1]:
            raise ValueError(f"must be from {self.limits[0]:g} to {self.limits[1]:g}")
        words = [RENAMED.get(word.strip(), word.strip()) for word in value.split(",")] if self.takes_list else [value]
        if self.choices and not set(words) <= set(self.choices):
            raise ValueError(f"choose {'one or more of ' * self.takes_list}{', '.join(self.choices)}")
        return ",".join(dict.fromkeys(words)) if self.takes_list else value


def parse_bool(text: str) -> bool:
    """yes, no and their kin. Raises ValueError."""
    if text.lower() in ("yes", "true", "on", "1"):
        return True
    if text.lower() in ("no", "false", "off", "0"):
        return False
    raise ValueError("choose yes or no")


PREPARE, PYLIDC, TRAIN, TEST = "prepare_dataset", "pylidc", "training", "model_test"
TABLE = (
    Setting(PREPARE, "LIDC_DICOM_PATH", "./LIDC-IDRI", "folder that holds the LIDC-IDRI-dddd folders to train on"),
    Setting(PREPARE, "LIDC_TEST_DICOM_PATH", "./LIDC-IDRI_test", "folder with the scans to test on (step 4)"),
    Setting(
        PREPARE,
        "test_share",
        0.0,
        "share of LIDC_DICOM_PATH's patients to hold out to test on; with --dicom or --nifti, only the flag counts",
        (0, 0.9),
    ),
    Setting(PREPARE, "test_seed", 1, "decides, with a patient's ID, who is held out by test_share", (0, 2**31)),
    Setting(PREPARE, "Lung_CT_PATH", "./mydata/Image/ct", "CT slices to train on: HU, int16 .npy"),
    Setting(
        PREPARE, "Lung_IMAGE_PATH", "./mydata/Image/lung", "lung slices to train on: HU inside the lung, -2048 outside"
    ),
    Setting(PREPARE, "Lung_CT_TEST_PATH", "./mydata/Image_test/ct", "CT slices to test on"),
    Setting(
        PREPARE, "Mask_Threshold", 8, "nodules of fewer voxels are left out of nodules.csv of step 5", (0, MAX_COUNT)
    ),
    Setting(PREPARE, "slices_per_patient", 10, "slices from the middle of each training scan", (1, MAX_COUNT)),
    Setting(PREPARE, "workers", 0, "processes that prepare scans in parallel; 0: one per processor", (0, 1024)),
    Setting(
        PYLIDC, "confidence_level", 0.5, "a voxel is nodule when this share of the radiologists marked it", (0.01, 1)
    ),
    Setting(
        PYLIDC,
        "padding_size",
        0,
        "voxels by which the box around each nodule is widened; no number in nodules.csv depends on it",
        (0, 512),
    ),
    Setting(TRAIN, "run_path", "./runs/lung", "folder for weights, pictures and curves"),
    Setting(
        TRAIN, "epochs", 40, "passes over the training slices; fewer where early stopping sees no gain", (1, MAX_COUNT)
    ),
    Setting(TRAIN, "patience", 10, "epochs without a better validation Dice before the training stops", (1, MAX_COUNT)),
    Setting(TRAIN, "batch_size", 4, "slices per step", (1, 4096)),
    Setting(TRAIN, "learning_rate", 3e-3, "peak of the one-cycle schedule (AdamW)", (1e-8, 1)),
    Setting(TRAIN, "validation_share", 0.2, "share of the patients kept for validation, without folds", (0.001, 0.9)),
    Setting(TRAIN, "folds", 0, "parts of a cross-validation, split by patient and seed; 0: none", (0, 1000)),
    Setting(TRAIN, "fold", -1, "the part to validate on, 0 to folds - 1; results go to run_path/fold_<n>", (-1, 999)),
    Setting(TRAIN, "train_patients", 0, "training patients, those for validation not counted; 0: all", (0, MAX_COUNT)),
    Setting(TRAIN, "clip_norm", 1.0, "largest norm of the gradient; a larger one is scaled down to it", (1e-6, 1e6)),
    Setting(TRAIN, "augment", True, "vary slices: zoom, turn, mirror, noise, HU, painted disease and gas"),
    Setting(TRAIN, "width", 16, "channels of the first level, doubled at each of the next", (1, 1024)),
    Setting(TRAIN, "depth", 5, "levels of the U-Net", (1, 8)),
    Setting(TRAIN, "patch", 4, "side in pixels of the squares that become channels; 1: a plain U-Net", (1, 32)),
    Setting(TRAIN, "window_low_hu", HU_WINDOW[0], "CT at or below this HU becomes -1", (-32768, 32767)),
    Setting(TRAIN, "window_high_hu", HU_WINDOW[1], "CT at or above this HU becomes 1", (-32768, 32767)),
    Setting(TRAIN, "seed", 1, "same seed, same split and same training on the same machine", (0, 2**31)),
    Setting(TRAIN, "device", "auto", "where to compute: auto, cpu, cuda or mps"),
    Setting(
        TRAIN,
        "amp",
        "auto",
        "bfloat16: on, off, or auto (where the processor has units for it)",
        choices=("auto", "on", "off"),
    ),
    Setting(TEST, "weights_path", "./runs/lung/unet_model.pth", "weights to predict with"),
    Setting(TEST, "predictions_path", "./predictions", "folder for masks, pictures and scores"),
    Setting(
        TEST,
        "save",
        "npy",
        "masks to write, one or more: npy, nifti, sides (NIfTI, right lung 1, left 2), nrrd (.seg.nrrd), dicom-seg, "
        "rtstruct. The slices of step 4 always get npy; with --dicom or --nifti, npy in lung.conf means nifti",
        choices=("npy", "nifti", "sides", "nrrd", "dicom-seg", "rtstruct"),
        takes_list=True,
    ),
    Setting(TEST, "png", "all", "overlays to write: all, some (one in ten) or none", choices=("all", "some", "none")),
)
BY_ATTRIBUTE = {setting.attribute: setting for setting in TABLE}
SECTION_NOTES = {
    PREPARE: "Steps 2 and 4, prepare_lung_image.py",
    PYLIDC: "Nodules in nodules.csv of step 5",
    TRAIN: "Step 3, Lung_segmentation.py",
    TEST: "Step 5, model_test.py",
}


def add_flags(parser: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    """A flag for each setting; one that is not given leaves None."""
    for setting in settings:
        text = f"{setting.meaning} (lung.conf; default: {as_text(setting, setting.default)})".replace("%", "%%")
        parser.add_argument(setting.flag, type=flag_type(setting), metavar=kind_name(setting), help=text)


def flag_type(setting: Setting) -> Callable[[str], Value]:
    """What argparse calls to read a flag; it raises LungError, which becomes one line."""

    def parse(text: str) -> Value:
        try:
            return setting.parse(text)
        except ValueError as error:
            raise LungError(f"{setting.flag} {text}: {error}") from error

    return parse


def kind_name(setting: Setting) -> str:
    """What --help shows for a value."""
    if setting.choices:
        return ("," if setting.takes_list else "|").join(setting.choices)
    if isinstance(setting.default, bool):
        return "yes|no"
    return {str: "TEXT", int: "N", float: "X"}[type(setting.default)]


def parse_step(
    doc: str,
    record: type[Record],
    argv: list[str] | None,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    works_without_conf: Callable[[argparse.Namespace], bool] = lambda flags: False,
) -> tuple[Record, argparse.Namespace]:
    """What a step's `main` starts with: (its settings, its flags). `more(parser)` adds the step's own flags.

    The fields of `record` are the settings that the step uses, and so its flags. Raises LungError where lung.conf is
    wrong, or missing and `works_without_conf(flags)` is not true.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default=CONF_NAME, help="settings file (default: %(default)s)")
    names = [field.name for field in fields(record)]
    add_flags(parser, [BY_ATTRIBUTE[name] for name in names])
    more(parser)
    flags = parser.parse_args(argv)
    conf = Path(flags.conf)
    if not conf.is_file() and conf == Path(CONF_NAME) and works_without_conf(flags):
        print(f"no {CONF_NAME} here: using the defaults; to change them: python config_file_create.py")
        values = default_values()
    else:
        values = load(conf)
    given = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    return make_record(record, values, conf.parent, given), flags


def make_record(record: type[Record], values: dict, folder: Path, given: dict | None = None) -> Record:
    """A step's settings: those of a lung.conf that lies in `folder`, and those that are given instead."""
    chosen = {}
    for name in (field.name for field in fields(record)):
        start, source = (Path(), given) if given and name in given else (folder, values)
        value = source[name]
        chosen[name] = resolve_path(value, start) if BY_ATTRIBUTE[name].is_path else value
    return record(**chosen)


def resolve_path(text: str, folder: Path) -> Path:
    """A path of the settings: ~ and variables filled in, and from `folder` where it is relative."""
    path = Path(os.path.expandvars(text)).expanduser()
    return path if path.is_absolute() or PureWindowsPath(path).is_absolute() else folder / path


def make_absolute(record: Record) -> Record:
    """A record of settings (or flags) whose paths hold for processes that run elsewhere."""
    values = {name: value.absolute() if isinstance(value, Path) else value for name, value in vars(record).items()}
    return type(record)(**values)


def default_values() -> dict[str, Value]:
    """Every setting's default, by attribute name."""
    return {setting.attribute: setting.default for setting in TABLE}


def load(path: Path) -> dict[str, Value]:
    """Every setting by attribute name, from lung.conf and the defaults. Raises LungError."""
    if not path.is_file():
        raise LungError(f"no {path} here; write it first: python config_file_create.py")
    return {**default_values(), **read_conf(path)}


def read_conf(path: Path) -> dict[str, Value]:
    """What stands in a lung.conf, typed. Raises LungError that names an unknown key and the nearest known one."""
    values = {}
    for line in read_lines(path):
        key, section, text = line.key, line.section, line.text
        setting = BY_ATTRIBUTE.get(key.lower())
        if setting is None or setting.section != section:
            raise LungError(f"{path}: unknown setting '{key}' in [{section}]{nearest(key)}")
        try:
            bare = bare_path(text, partial(resolve_path, folder=path.parent)) if setting.is_path else bare_value(text)
            values[setting.attribute] = setting.parse(bare)
        except ValueError as error:
            raise LungError(f"{path}: {key} = {text}: {setting.meaning}; {error}") from error
    return values


def nearest(key: str) -> str:
    """The known setting that a mistyped one is likest to, as the end of a message."""
    hit = difflib.get_close_matches(key.lower(), BY_ATTRIBUTE, n=1, cutoff=0.4)
    return f"; did you mean {BY_ATTRIBUTE[hit[0]].key} in [{BY_ATTRIBUTE[hit[0]].section}]?" if hit else ""


def write_conf(path: Path, values: dict) -> None:
    """Write lung.conf: every setting below its meaning. Raises LungError for a value that no line can hold."""
    lines = ["# Settings of the lung segmentation scripts. A flag of the same name wins over a line here."]
    for section, note in SECTION_NOTES.items():
        lines += ["", f"# {note}", f"[{section}]"]
        for setting in (row for row in TABLE if row.section == section):
            lines += [f"# {setting.meaning}", f"{setting.key} = {as_text(setting, values[setting.attribute])}"]
    replace_file(path, ("\n".join(lines) + "\n").encode())


def as_text(setting: Setting, value: str | int | float | bool) -> str:
    """A value as lung.conf holds it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if "\n" in text or "\r" in text or text != text.strip():
        raise LungError(f"{setting.key}: a line break or a blank at the end cannot be written: {text!r}")
    try:
        return quote(text)
    except ValueError as error:
        raise LungError(f"{setting.key}: {error}") from error


def run_step(main: Callable[[], None]) -> None:
    """Run a script: an error for the user becomes one line and exit status 1, Ctrl-C status 130, `| head` 141."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a letter that it cannot hold is printed as a question mark
    try:
        main()
        sys.stdout.flush()
    except LungError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except BrokenPipeError:  # nobody reads what is printed any more
        os._exit(141)  # as the shell calls it; Python's own end would print a traceback
    except PermissionError as error:
        reason = "no permission, or open in another program (Excel, a viewer?); close it there, then run this again"
        sys.exit(f"{Path(sys.argv[0]).name}: {error.filename}: {reason}")
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
