"""No line of a lung.conf is passed over, and no path is cut where its `#` may be part of it."""

import pytest

from lungct import LungError
from lungct.conf_file import Line, bare_value, quote, read_lines
from lungct.settings import TABLE, read_conf, write_conf

DEFAULTS = {setting.attribute: setting.default for setting in TABLE}


@pytest.fixture
def conf(tmp_path):
    """Writes a lung.conf and gives its path."""

    def write(text: str):
        path = tmp_path / "lung.conf"
        path.write_text(text)
        return path

    return write


def test_lines_are_settings_of_their_section_however_they_begin(conf):
    path = conf(
        "# notes\n[training]  ; step 3\n  epochs = 5\n\trun_path: a = b\n\n[pylidc]\r\n ; more\r\npadding_size=2\r\n"
    )
    assert read_lines(path) == [
        Line(3, "training", "epochs", "5"),
        Line(4, "training", "run_path", "a = b"),
        Line(8, "pylidc", "padding_size", "2"),
    ]


def test_an_indented_line_below_a_path_is_a_setting_of_its_own(conf):
    assert read_conf(conf("[training]\nrun_path = ./a\n  epochs = 5\n")) == {"run_path": "./a", "epochs": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[DEFAULT]\nepochs = 5\n",
            r"lung\.conf: unknown setting 'epochs' in \[DEFAULT\]; did you mean epochs in \[train",
        ),
        (
            "[training]\nepochs = 5\nEPOCHS = 7\n",
            r"lung\.conf, line 3: EPOCHS is in line 2 already; remove one of them",
        ),
        ("[training]\nseed = 1\n[pylidc]\n[training]\nseed = 1\n", r"line 5: seed is in line 2 already"),
        (
            "[training]\nrun_path = ./a\n  and more\n",
            r"line 3: 'and more' is not a setting; write key = value, all in one",
        ),
        ("[training]\n= 5\n", r"line 2: '= 5' is not a setting"),
        ("epochs = 5\n", r"line 1: 'epochs' stands before the first section; write \[training\]"),
        ("[training] epochs = 5\n", r"line 1: '\[training\] epochs = 5' is not a section; write its name alone"),
        ("[training]\nrun_path =\n", r"run_path = : folder for .*; it is empty; give a value, or remove it"),
        ("[training]\nrun_path = # none\n", r"run_path = # none: .* it is empty"),
        ("[training]\nepochs = # none\n", r"epochs = # none: .* it is empty"),
        ('[training]\nrun_path = "a" b\n', r"run_path = \"a\" b: .* one pair of quotes around the whole value"),
        ('[training]\nrun_path = "a\n', r"one pair of quotes around the whole value"),
        (
            "[training]\nrun_path = /data/my #1 runs\n",
            r"if '#1 runs' is part of the path, quote the path; if not, add a blank after '#'",
        ),
        ("[training]\nrun_path = #1 runs\n", r"if '#1 runs' is part of the path, quote the path"),
    ],
)
def test_what_cannot_be_read_for_certain_is_an_error(conf, text, message):
    with pytest.raises(LungError, match=message):
        read_conf(conf(text))


@pytest.mark.parametrize("name", ["my #1 runs", "my # 1 runs", "a ;b", "#1"])
@pytest.mark.parametrize("below", ["", "/new/out"])
def test_a_path_that_is_there_is_taken_with_the_mark_in_it(conf, tmp_path, name, below):
    (tmp_path / name).mkdir()
    assert read_conf(conf(f"[training]\nrun_path = {name}{below}\n")) == {"run_path": name + below}


@pytest.mark.parametrize("comment", ["# note", "; note", "#", "## see docs/own_data.md", "# " + 300 * "long "])
def test_a_comment_behind_a_path_is_none_of_it(conf, tmp_path, comment):
    (tmp_path / "runs").mkdir()
    assert read_conf(conf(f"[training]\nrun_path = runs   {comment}\n")) == {"run_path": "runs"}
    assert read_conf(conf(f"[training]\nrun_path = new\t{comment}\n")) == {"run_path": "new"}


def test_a_comment_behind_a_number_needs_no_blank(conf):
    assert read_conf(conf("[training]\nepochs = 5 #five\ndevice = cpu ;none\n")) == {"epochs": 5, "device": "cpu"}


@pytest.mark.parametrize("path", ["my #1 runs", "a # b", "#1", "'t is", '"x', "a;b", "x ; y"])
def test_every_path_is_written_so_that_it_is_read_back(tmp_path, path):
    write_conf(tmp_path / "lung.conf", {**DEFAULTS, "run_path": path})
    assert read_conf(tmp_path / "lung.conf")["run_path"] == path
    assert bare_value(quote(path)) == path


def test_both_kinds_of_quotes_cannot_be_written(tmp_path):
    with pytest.raises(LungError, match="run_path: both kinds of quotes"):
        write_conf(tmp_path / "lung.conf", {**DEFAULTS, "run_path": "\"a' #b"})
