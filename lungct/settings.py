"""The one table of settings: lung.conf, its comments, every step's flags and the typed values come from it.

Authority: flag, then lung.conf, then the default here. Paths may hold backslashes, blanks, % and any letter.
"""

import argparse
import configparser
import difflib
import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from lungct import LungError
from lungct.files import replace_file
from lungct.slices import HU_WINDOW

CONF_NAME = "lung.conf"
PYLIDC_CONF_NAME = "pylidc.conf"


@dataclass(frozen=True)
class Setting:
    """One row of the table; its type is that of the default."""

    section: str
    key: str
    default: str | int | float | bool
    meaning: str

    @property
    def attribute(self) -> str:
        return self.key.lower()

    @property
    def flag(self) -> str:
        return "--" + self.attribute.replace("_", "-")

    def parse(self, text: str) -> str | int | float | bool:
        """The typed value of what stands in lung.conf; raises ValueError."""
        if isinstance(self.default, bool):
            return parse_bool(text)
        return type(self.default)(text)


def parse_bool(text: str) -> bool:
    """yes, no and their kin; raises ValueError."""
    if text.lower() in ("yes", "true", "on", "1"):
        return True
    if text.lower() in ("no", "false", "off", "0"):
        return False
    raise ValueError(f"'{text}' is neither yes nor no")


PREPARE, PYLIDC, TRAIN, TEST = "prepare_dataset", "pylidc", "training", "model_test"
TABLE = (
    Setting(PREPARE, "LIDC_DICOM_PATH", "./LIDC-IDRI", "folder that holds the LIDC-IDRI-dddd folders to train on"),
    Setting(PREPARE, "LIDC_TEST_DICOM_PATH", "./LIDC-IDRI_test", "folder with the scans to test on (step 4)"),
    Setting(PREPARE, "Lung_CT_PATH", "./mydata/Image/ct", "CT slices to train on: HU, int16 .npy"),
    Setting(
        PREPARE, "Lung_IMAGE_PATH", "./mydata/Image/lung", "lung slices to train on: HU inside the lung, -2048 outside"
    ),
    Setting(PREPARE, "Lung_CT_TEST_PATH", "./mydata/Image_test/ct", "CT slices to test on"),
    Setting(PREPARE, "Mask_Threshold", 8, "nodules of fewer voxels are left out of the nodule audit"),
    Setting(PREPARE, "slices_per_patient", 10, "slices cut from the middle of each training scan"),
    Setting(PREPARE, "workers", 0, "processes that prepare scans side by side; 0: one per processor"),
    Setting(PYLIDC, "confidence_level", 0.5, "a voxel is nodule when this share of the radiologists marked it"),
    Setting(PYLIDC, "padding_size", 0, "voxels by which each nodule's box is widened in the audit"),
    Setting(TRAIN, "run_path", "./runs/lung", "where weights, pictures and curves go"),
    Setting(TRAIN, "epochs", 40, "rounds over the training slices; fewer where early stopping sees no gain"),
    Setting(TRAIN, "patience", 10, "epochs without a better validation Dice before the training stops"),
    Setting(TRAIN, "batch_size", 4, "slices a step"),
    Setting(TRAIN, "learning_rate", 3e-3, "peak of the one-cycle schedule (AdamW)"),
    Setting(TRAIN, "validation_share", 0.2, "share of the patients kept for validation"),
    Setting(TRAIN, "clip_norm", 1.0, "gradients are scaled down to this norm"),
    Setting(TRAIN, "augment", True, "zoom, rotate, mirror, add noise and shift HU on the fly"),
    Setting(TRAIN, "width", 16, "channels of the first level, doubled at each of the next"),
    Setting(TRAIN, "depth", 5, "levels of the U-Net"),
    Setting(TRAIN, "patch", 4, "pixels a side that the stem folds into channels; 1: a plain U-Net"),
    Setting(TRAIN, "window_low_hu", HU_WINDOW[0], "CT at or below this HU becomes -1"),
    Setting(TRAIN, "window_high_hu", HU_WINDOW[1], "CT at or above this HU becomes 1"),
    Setting(TRAIN, "seed", 1, "same seed, same split and same training on the same machine"),
    Setting(TRAIN, "device", "auto", "auto, cpu, cuda or mps"),
    Setting(TRAIN, "amp", "auto", "bfloat16: on, off, or auto (where a trial shows that it is faster)"),
    Setting(TEST, "weights_path", "./runs/lung/unet_model.pth", "weights to predict with"),
    Setting(TEST, "predictions_path", "./predictions", "where masks, pictures and scores go"),
    Setting(
        TEST, "save", "npy", "npy; also a file of the whole scan: nifti, nifti-sides (right 1, left 2) or dicom-seg"
    ),
    Setting(TEST, "png", "all", "overlays to write: all, some (one in ten) or none"),
)
BY_ATTRIBUTE = {setting.attribute: setting for setting in TABLE}
SECTION_NOTES = {
    PREPARE: "Steps 2 and 4, prepare_lung_image.py",
    PYLIDC: "The nodule audit of step 5",
    TRAIN: "Step 3, Lung_segmentation.py",
    TEST: "Step 5, model_test.py",
}


def add_flags(parser: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    """A flag for each setting; one that is not given leaves None."""
    for setting in settings:
        kind = parse_bool if isinstance(setting.default, bool) else type(setting.default)
        text = setting.meaning.replace("%", "%%")
        parser.add_argument(setting.flag, type=kind, metavar=kind_name(setting), help=f"{text} (lung.conf)")


def kind_name(setting: Setting) -> str:
    """What --help shows for a value."""
    if isinstance(setting.default, bool):
        return "yes|no"
    return {str: "TEXT", int: "N", float: "X"}[type(setting.default)]


def in_sections(*sections: str) -> list[Setting]:
    """The rows of some sections."""
    return [setting for setting in TABLE if setting.section in sections]


def parse_step(
    doc: str,
    sections: Iterable[str],
    argv: list[str] | None,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    does_without_conf: Callable[[argparse.Namespace], bool] = lambda flags: False,
) -> tuple[SimpleNamespace, argparse.Namespace]:
    """What a step's `main` starts with: (settings, flags). `more(parser)` adds the step's own flags.

    Raises LungError where lung.conf is wrong, or missing and `does_without_conf(flags)` is not true.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default=CONF_NAME, help="settings file (default: %(default)s)")
    add_flags(parser, in_sections(*sections))
    more(parser)
    flags = parser.parse_args(argv)
    conf = Path(flags.conf)
    if not conf.is_file() and conf == Path(CONF_NAME) and does_without_conf(flags):
        print(f"no {CONF_NAME} here: the defaults hold; python config_file_create.py writes one to change")
        values = {setting.attribute: setting.default for setting in TABLE}
    else:
        values = load(conf)
    for name in BY_ATTRIBUTE:
        if getattr(flags, name, None) is not None:
            values[name] = getattr(flags, name)
    return SimpleNamespace(**values), flags


def make_absolute(*spaces: SimpleNamespace | argparse.Namespace) -> None:
    """Give the paths of settings and flags as processes elsewhere understand them."""
    for space in spaces:
        for name, value in vars(space).items():
            if isinstance(value, Path) or (isinstance(value, str) and name.endswith("_path")):
                setattr(space, name, Path(value).expanduser().absolute())


def load(path: Path) -> dict[str, str | int | float | bool]:
    """Every setting by attribute name, from lung.conf and the defaults. Raises LungError."""
    if not path.is_file():
        raise LungError(f"no {path} here; write it first: python config_file_create.py")
    values = {setting.attribute: setting.default for setting in TABLE}
    values.update(read_conf(path))
    return values


def read_conf(path: Path) -> dict[str, str | int | float | bool]:
    """What stands in a lung.conf, typed. Raises LungError that names an unknown key and the nearest known one."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise LungError(f"{path}: not a settings file ({str(error).splitlines()[0]})") from error
    values = {}
    for section in parser.sections():
        for key, text in parser.items(section):
            setting = BY_ATTRIBUTE.get(key.lower())
            if setting is None or setting.section != section:
                raise LungError(f"{path}: unknown setting '{key}' in [{section}]{nearest(key)}")
            try:
                values[setting.attribute] = setting.parse(text)
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
        for setting in in_sections(section):
            lines += [f"# {setting.meaning}", f"{setting.key} = {as_text(setting, values[setting.attribute])}"]
    replace_file(path, ("\n".join(lines) + "\n").encode())


def as_text(setting: Setting, value: str | int | float | bool) -> str:
    """A value as lung.conf holds it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if "\n" in text or "\r" in text or text != text.strip():
        raise LungError(f"{setting.key}: a line break or a blank at the end cannot be written: {text!r}")
    return text


def write_pylidc_conf(path: Path, dicom_path: str) -> None:
    """Write pylidc.conf so that pylidc's own reader, which expands %, gives the same path."""
    escaped = dicom_path.replace("%", "%%")
    text = f"# Where pylidc finds the LIDC-IDRI-dddd folders.\n[dicom]\npath = {escaped}\nwarn = True\n"
    replace_file(path, text.encode())


def run_step(main: Callable[[], None]) -> None:
    """Run a script: an error for the user becomes one line and exit status 1, Ctrl-C status 130."""
    try:
        main()
    except LungError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    gc.freeze()  # nothing that is left is searched for garbage at the end: a quarter of a second with torch
