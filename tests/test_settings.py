"""lung.conf and pylidc.conf: what is written is what is read, by us and by pylidc."""

import argparse

import pytest

from lungct import LungError
from lungct.evaluation.figures import WINDOWS_HU
from lungct.scans import lidc
from lungct.settings import BY_ATTRIBUTE, TABLE, load, parse_step, read_conf, write_conf, write_pylidc_conf
from lungct.slices import HU_WINDOW
from lungct.training.trainer import TrainSettings

DEFAULTS = {setting.attribute: setting.default for setting in TABLE}
PATHS = [
    r"H:\LIDC-IDRI\new",
    "H:/LIDC-IDRI",
    "/data/50% of %(all)s/ü ß 肺",
    "~/my scans",
    r"\\server\share#1;x",
    "a = b: c",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_read_back_by_us_and_by_pylidc(tmp_path, path):
    write_conf(tmp_path / "lung.conf", {**DEFAULTS, "lidc_dicom_path": path})
    assert load(tmp_path / "lung.conf")["lidc_dicom_path"] == path
    write_pylidc_conf(tmp_path / "pylidc.conf", path)
    assert lidc.read_dicom_path(tmp_path / "pylidc.conf") == path


def test_every_setting_is_written_below_its_meaning_and_read_back_typed(tmp_path):
    write_conf(tmp_path / "lung.conf", DEFAULTS)
    assert read_conf(tmp_path / "lung.conf") == DEFAULTS
    lines = (tmp_path / "lung.conf").read_text(encoding="utf-8").splitlines()
    for setting in TABLE:
        place = next(n for n, line in enumerate(lines) if line.startswith(f"{setting.key} ="))
        assert lines[place - 1] == f"# {setting.meaning}"


def test_window_of_the_network_is_one_fact():
    assert (BY_ATTRIBUTE["window_low_hu"].default, BY_ATTRIBUTE["window_high_hu"].default) == HU_WINDOW
    assert WINDOWS_HU["wide"] == HU_WINDOW


def test_flag_wins_over_file_and_file_over_default(tmp_path):
    conf = tmp_path / "lung.conf"
    conf.write_text("[training]\nepochs = 7\nseed = 3\n")
    settings, _ = parse_step("", TrainSettings, ["--conf", str(conf), "--epochs", "2"])
    assert (settings.epochs, settings.seed, settings.batch_size) == (2, 3, DEFAULTS["batch_size"])


def test_unknown_key_is_named_with_the_nearest(tmp_path):
    (tmp_path / "lung.conf").write_text("[training]\nepoch = 7\n")
    with pytest.raises(LungError, match=r"unknown setting 'epoch' in \[training\]; did you mean epochs"):
        load(tmp_path / "lung.conf")


def test_key_in_a_wrong_section_is_told(tmp_path):
    (tmp_path / "lung.conf").write_text("[pylidc]\nepochs = 7\n")
    with pytest.raises(LungError, match=r"did you mean epochs in \[training\]"):
        load(tmp_path / "lung.conf")


@pytest.mark.parametrize("text", ["[training]\nepochs = many\n", "[training]\naugment = perhaps\n"])
def test_value_of_a_wrong_kind_is_told(tmp_path, text):
    (tmp_path / "lung.conf").write_text(text)
    with pytest.raises(LungError, match=r"lung\.conf: (epochs|augment) = "):
        load(tmp_path / "lung.conf")


def test_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(LungError, match=r"python config_file_create\.py"):
        load(tmp_path / "lung.conf")


def test_line_break_in_a_value_is_refused(tmp_path):
    with pytest.raises(LungError, match="line break"):
        write_conf(tmp_path / "lung.conf", {**DEFAULTS, "run_path": "a\n[evil]"})


def test_own_flags_of_a_step_are_parsed(tmp_path):
    write_conf(tmp_path / "lung.conf", DEFAULTS)

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--fresh", action="store_true")

    _, flags = parse_step("", TrainSettings, ["--conf", str(tmp_path / "lung.conf"), "--fresh"], more)
    assert flags.fresh
