"""lung.conf and pylidc.conf: what is written is what is read, by us and by pylidc."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from lungct import LungError
from lungct.evaluation.figures import WINDOWS_HU
from lungct.scans import lidc
from lungct.settings import (
    BY_ATTRIBUTE,
    TABLE,
    load,
    parse_step,
    read_conf,
    run_step,
    write_conf,
)
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
    lidc.write_conf(tmp_path / "pylidc.conf", path)
    assert lidc.read_dicom_path(tmp_path / "pylidc.conf") == path


def test_every_setting_is_written_below_its_meaning_and_read_back_typed(tmp_path):
    write_conf(tmp_path / "lung.conf", DEFAULTS)
    assert read_conf(tmp_path / "lung.conf") == DEFAULTS
    lines = (tmp_path / "lung.conf").read_text(encoding="utf-8").splitlines()
    for setting in TABLE:
        place = next(n for n, line in enumerate(lines) if line.startswith(f"{setting.key} ="))
        assert lines[place - 1] == f"# {setting.meaning}"


@pytest.mark.parametrize(
    ("text", "value"),
    [("nifti", "nifti"), ("sides, npy,sides", "sides,npy"), ("nifti-sides", "sides"), ("npy,nifti-sides", "npy,sides")],
)
def test_a_list_holds_each_word_once_and_those_of_earlier_versions_by_their_present_names(text, value, tmp_path):
    (tmp_path / "lung.conf").write_text(f"[model_test]\nsave = {text}\n")
    assert load(tmp_path / "lung.conf")["save"] == value


@pytest.mark.parametrize("text", ["stl", "npy,stl", "", "npy,,nifti"])
def test_a_list_of_other_words_is_refused_with_those_that_there_are(text):
    with pytest.raises(ValueError, match="choose one or more of npy, nifti, sides"):
        BY_ATTRIBUTE["save"].parse(text)


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


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('"./my scans"', "./my scans"),
        ("'./my scans'   # on the NAS", "./my scans"),
        ("./scans   ; old", "./scans"),
        ("./scans#2", "./scans#2"),
        ('"./scans #2"', "./scans #2"),
    ],
)
def test_quotes_and_comments_around_a_value_are_not_part_of_it(tmp_path, line, path):
    (tmp_path / "lung.conf").write_text(f"[prepare_dataset]\nLIDC_DICOM_PATH = {line}\n")
    assert read_conf(tmp_path / "lung.conf")["lidc_dicom_path"] == path


def test_a_path_that_looks_like_a_comment_is_written_so_that_it_is_read_back(tmp_path):
    write_conf(tmp_path / "lung.conf", {**DEFAULTS, "run_path": "runs #3"})
    assert read_conf(tmp_path / "lung.conf")["run_path"] == "runs #3"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "cp1252"])
def test_a_file_that_a_windows_editor_saved_is_read(tmp_path, encoding):
    text = "[prepare_dataset]\r\nLIDC_DICOM_PATH = H:/Universität\r\n[training]\r\nepochs = 7\r\n"
    (tmp_path / "lung.conf").write_bytes(text.encode(encoding))
    values = read_conf(tmp_path / "lung.conf")
    assert (values["lidc_dicom_path"], values["epochs"]) == ("H:/Universität", 7)


def test_paths_of_a_conf_start_from_its_folder_and_those_of_flags_from_here(tmp_path, monkeypatch):
    monkeypatch.setenv("SCANS", str(tmp_path / "nas"))
    conf = tmp_path / "study" / "lung.conf"
    conf.parent.mkdir()
    paths = {"lung_ct_path": "ct", "lung_image_path": "$SCANS/lung", "run_path": "~/runs"}
    write_conf(conf, {**DEFAULTS, **paths})
    settings, _ = parse_step("", TrainSettings, ["--conf", str(conf)])
    assert settings.lung_ct_path == tmp_path / "study" / "ct"
    assert settings.lung_image_path == tmp_path / "nas" / "lung"
    assert settings.run_path == Path.home() / "runs"
    settings, _ = parse_step("", TrainSettings, ["--conf", str(conf), "--run-path", "mine"])
    assert settings.run_path == Path("mine")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "0"),
        ("batch_size", "-2"),
        ("learning_rate", "nan"),
        ("learning_rate", "-1"),
        ("validation_share", "1.5"),
        ("seed", "-1"),
        ("amp", "perhaps"),
    ],
)
def test_values_out_of_range_are_refused_in_the_file_and_as_flags(tmp_path, key, value):
    conf = tmp_path / "lung.conf"
    conf.write_text(f"[training]\n{key} = {value}\n")
    with pytest.raises(LungError, match=rf"{key} = {value}: .*(must be from|choose)"):
        load(conf)
    conf.write_text("")
    with pytest.raises(LungError, match=rf"--{key.replace('_', '-')} {value}: (must be from|choose)"):
        parse_step("", TrainSettings, ["--conf", str(conf), f"--{key.replace('_', '-')}={value}"])


def test_a_window_without_width_is_refused(tmp_path):
    write_conf(tmp_path / "lung.conf", DEFAULTS)
    with pytest.raises(LungError, match="window_low_hu = 600, window_high_hu = 600"):
        parse_step("", TrainSettings, ["--conf", str(tmp_path / "lung.conf"), "--window-low-hu", "600"])


def test_a_letter_that_the_console_lacks_is_replaced(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    run_step(lambda: print("病 done", flush=True))
    assert console.buffer.getvalue() == b"? done" + os.linesep.encode()


def test_file_that_may_not_be_opened_ends_a_step_in_one_line(monkeypatch):
    def open_table() -> None:
        raise PermissionError(13, "Permission denied", "scores.csv")

    monkeypatch.setattr(sys, "argv", ["model_test.py"])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit, match=r"model_test.py: scores.csv: .* open in another program .*; close it there"):
        run_step(open_table)


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise")
def test_output_that_nobody_reads_ends_a_step_without_a_traceback(lines):
    code = f"from lungct.settings import run_step; run_step(lambda: [print('a line') for _ in range({lines})])"
    read, write = os.pipe()
    os.close(read)  # as `| head -0` does
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
