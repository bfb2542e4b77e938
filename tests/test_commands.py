"""Commands that a message advises: what a terminal would take."""

from pathlib import Path

from lungct.commands import after_training, quoted, with_conf
from lungct.settings import default_values, write_conf


def test_paths_with_blanks_are_quoted():
    assert quoted(Path("my scans/a")) == f'"{Path("my scans/a")}"'
    assert quoted(Path("scans")) == "scans"


def test_another_settings_file_goes_with_the_command():
    assert with_conf("python a.py", "lung.conf") == "python a.py"
    assert with_conf("python a.py", Path("demo/lung.conf")) == f"python a.py --conf {Path('demo/lung.conf')}"
    assert with_conf("python a.py", "my demo/lung.conf") == f'python a.py --conf "{Path("my demo/lung.conf")}"'


def test_the_command_for_step_5_names_weights_that_it_would_not_take_by_itself(tmp_path):
    conf = tmp_path / "lung.conf"
    prepare = f"python prepare_lung_image.py --test --conf {conf}"
    write_conf(conf, {**default_values(), "weights_path": "runs/lung/unet_model.pth"})
    assert after_training(tmp_path / "runs/lung/unet_model.pth", str(conf)) == prepare
    assert after_training(tmp_path / "runs/other/unet_model.pth", str(conf)) == (
        f"{prepare}, then, since weights_path is {tmp_path / 'runs/lung/unet_model.pth'}: "
        f"python model_test.py --weights-path {tmp_path / 'runs/other/unet_model.pth'} --conf {conf}"
    )
