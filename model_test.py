"""Step 5. Predict the lungs on the test slices, and score them where there is a reference.

Reads   lung.conf if there is one, the weights, mydata/Image_test/manifest.csv and the slices that it lists
Writes  predictions/patient_<id>/<slice>.npy (uint8, 1 = lung) and .png, predictions/scores.csv, nodules.csv,
        predictions/report.html, which shows all scans in a browser, and its pictures (view/);
        with --save: predictions/patient_<id>/<scan>.nii.gz or .seg.dcm
Run     python model_test.py                predicts what has not been predicted yet
        python model_test.py --png none     masks without pictures
        python model_test.py --save nifti   also a .nii.gz for 3D Slicer or ITK-SNAP; nifti-sides: right lung 1, left 2
        python model_test.py --save dicom-seg --dicom DIR   also a DICOM segmentation that refers to the scan in DIR
"""

import argparse
import csv
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from lungct import LungError
from lungct.evaluation.figures import GREEN, RED, jpeg_bytes, outline_png, overlay, overlay_png, to_grey
from lungct.evaluation.metrics import compare, litres
from lungct.evaluation.nodules import NODULE_COLUMNS, audit_nodules
from lungct.evaluation.quality import find_flags
from lungct.evaluation.report import STORED_WINDOW, THUMBNAIL, VIEW, report_bytes, report_row
from lungct.files import csv_bytes, exclusive_lock, npy_bytes, periodic_save, replace_file, replace_folder
from lungct.parallel import add_scheduler_flag, run_parallel
from lungct.predict import Predictor, cached_predictor, segment
from lungct.scans.geometry import frame_mm
from lungct.scans.nifti import nifti_bytes
from lungct.segmentation.left_right import split_left_right
from lungct.segmentation.morphology import slice_pixels
from lungct.settings import PYLIDC, TEST, make_absolute, parse_step, run_step
from lungct.slices import by_scan, is_lung, lung_root, manifest_path, read_manifest, read_stack, safe_name, spacing_mm
from lungct.weights import SHIPPED, checksum

SCORES = ("dice", "iou", "hd95_mm", "surface_dice_1mm", "surface_dice_2mm", "worst_slice", "worst_slice_dice")
COLUMNS = ("scan", "patient_id", "slices", "litres", *SCORES, "flags", "seen_in_training", "weights", "png", "save")
PNG_EVERY = {"all": 1, "some": 10, "none": None}
SAVE = ("npy", "nifti", "nifti-sides", "dicom-seg")
THUMBNAIL_PX = 128


def choose_weights(path: Path) -> Path:
    """The user's weights, or the shipped ones where the user has trained none."""
    if path.is_file() or not SHIPPED.is_file():
        return path
    print(f"no {path} yet: predicting with the shipped weights/{SHIPPED.name}; see weights/MODEL_CARD.md")
    return SHIPPED


def seen_in_training(card: dict, patient_id: str) -> str:
    """Whether the network knows a patient: no, train or val."""
    return next((part for part, names in card.get("patients", {}).items() if patient_id in names), "no")


def short_checksum(predictor: Predictor) -> str:
    """By which the tables tell which weights made a row."""
    return predictor.card["sha256"][:12]


def result_files(
    rows: list[dict], ct_hu: np.ndarray, lung: np.ndarray, truth: np.ndarray | None, png: str
) -> dict[str, bytes]:
    """A patient's files by name: a mask for each slice, an overlay for as many as expected."""

    def encode(z: int) -> dict[str, bytes]:
        name = safe_name(rows[z]["slice_name"])
        files = {f"{name}.npy": npy_bytes(lung[z].astype(np.uint8))}
        if PNG_EVERY[png] and z % PNG_EVERY[png] == 0:
            masks, colours = ([lung[z]], (RED,)) if truth is None else ([truth[z], lung[z]], (GREEN, RED))
            files[f"{name}.png"] = overlay_png(ct_hu[z], *masks, colours=colours)
            files[f"{VIEW}/{name}.jpg"] = jpeg_bytes(to_grey(ct_hu[z], STORED_WINDOW))
            files[f"{VIEW}/{name}.png"] = outline_png(*masks, colours=colours)
        return files

    with ThreadPoolExecutor() as pool:
        return {name: content for files in pool.map(encode, range(len(rows))) for name, content in files.items()}


def thumbnail(ct_hu: np.ndarray, lung: np.ndarray) -> bytes:
    """The slice with most lung, small, with its outline."""
    z = slice_pixels(lung).argmax()
    step = -(-max(lung.shape[1:]) // THUMBNAIL_PX)
    return jpeg_bytes(overlay(ct_hu[z, ::step, ::step], lung[z, ::step, ::step]))


def get_predictor(settings: SimpleNamespace) -> Predictor:
    """The network of the settings, loaded once in a process."""
    return cached_predictor(settings.weights_path, settings.weights_sha256, settings.device, settings.amp)


def predict_scan(rows: list[dict], ct_root: Path, out: Path, settings: SimpleNamespace) -> tuple[dict, list[dict]]:
    """Predict and write one scan; returns its row of scores.csv and its rows of nodules.csv. Raises LungError."""
    predictor = get_predictor(settings)
    ct_hu = read_stack(ct_root, rows)
    lung = segment(ct_hu, spacing_mm(rows[0]), predictor)
    truth = None
    score = dict.fromkeys(SCORES, "")
    if rows[0]["lung_px"] >= 0:
        truth = is_lung(read_stack(lung_root(ct_root), rows))
        if truth.shape != lung.shape:
            raise LungError(f"{lung_root(ct_root) / rows[0]['scan']}: shape {truth.shape}, but the CT has {lung.shape}")
        score = compare(lung, truth, spacing_mm(rows[0]))
        score["worst_slice"] = rows[score["worst_slice"]]["slice_name"]
    files = result_files(rows, ct_hu, lung, truth, settings.png)
    files[f"{VIEW}/{THUMBNAIL}"] = thumbnail(ct_hu, lung)
    if settings.save != "npy":
        files.update(whole_file(rows, lung, predictor, settings))
    replace_folder(folder_of(out, rows[0]["scan"]), files)
    row = {
        "scan": rows[0]["scan"],
        "patient_id": rows[0]["patient_id"],
        "slices": len(rows),
        "litres": round(litres(lung, spacing_mm(rows[0])), 3),
        **{name: round(v, 4) if isinstance(v, float) else v for name, v in score.items()},
        "flags": "; ".join(find_flags(ct_hu, lung, spacing_mm(rows[0]))),
        "seen_in_training": seen_in_training(predictor.card, rows[0]["patient_id"]),
        "weights": short_checksum(predictor),
        "png": settings.png,
        "save": settings.save,
    }
    return row, audit_nodules(rows, lung, settings)


def whole_file(rows: list[dict], lung: np.ndarray, predictor: Predictor, settings: SimpleNamespace) -> dict[str, bytes]:
    """The file that holds a scan's whole mask, by name. Raises LungError where a format cannot say the scan."""
    name, spacing = safe_name(rows[0]["scan"]), spacing_mm(rows[0])
    if settings.save == "nifti":
        return {f"{name}.nii.gz": nifti_bytes(lung, *frame_mm(rows), spacing)}
    sides = split_left_right(lung, spacing)
    if settings.save == "nifti-sides":
        return {f"{name}.nii.gz": nifti_bytes(sides, *frame_mm(rows), spacing)}

    from lungct.masks import write_dicom  # two seconds to import; few ask for it

    scan = write_dicom.find_scan(Path(settings.dicom_path).expanduser(), rows[0]["series_uid"])
    return {f"{name}.seg.dcm": write_dicom.encode(sides, scan, short_checksum(predictor))}


def folder_of(out: Path, scan: str) -> Path:
    """Where a scan's masks go."""
    return out / f"patient_{safe_name(scan)}"


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """A table that an earlier run of this step wrote; empty where there is none or it is of another version."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader) if reader.fieldnames == list(columns) else []


def is_done(row: dict, rows: list[dict], out: Path, predictor: Predictor, settings: SimpleNamespace) -> bool:
    """Whether a scan was predicted with these weights, pictures and formats, and is all there."""
    masks = folder_of(out, rows[0]["scan"]).glob("*.npy")
    expected = (short_checksum(predictor), settings.png, settings.save, str(len(rows)))
    same = (row["weights"], row["png"], row["save"], row["slices"]) == expected
    same_truth = (row["dice"] != "") == (rows[0]["lung_px"] >= 0)
    return same and same_truth and {p.stem for p in masks} == {safe_name(r["slice_name"]) for r in rows}


def print_summary(scores: list[dict], nodules: list[dict]) -> None:
    """A line for each scan, then the means."""
    heads = ("slices", "litres", "Dice", "HD95 mm", "surf 1mm", "surf 2mm")
    print(f"{'scan':24s}" + "".join(f"{head:>9s}" for head in heads) + "  worst slice")
    for row in scores:
        names = ("slices", "litres", "dice", "hd95_mm", "surface_dice_1mm", "surface_dice_2mm")
        worst = f"{row['worst_slice']} ({float(row['worst_slice_dice']):.3f})" if row["worst_slice"] else "-"
        known = row["seen_in_training"]
        note = f"  {row['flags']}" if row["flags"] else ""
        note += "" if known == "no" else f"  in the training ({known}): no fair test"
        values = ["-" if row[name] == "" else str(row[name]) for name in names]
        print(f"{row['scan']:24s}" + "".join(f"{value:>9s}" for value in values) + f"  {worst}{note}")
    scored = [float(row["dice"]) for row in scores if row["dice"] != ""]
    if scored:
        print(f"mean Dice {np.mean(scored):.4f} over {len(scored)} scans, worst {min(scored):.4f}")
    if nodules:
        shares = [float(row["coverage"]) for row in nodules]
        print(f"nodule coverage {np.mean(shares):.4f} on average over {len(shares)} nodules, worst {min(shares):.4f}")


def save_report(out: Path, scans: dict[str, list[dict]], scores: list[dict], nodules: list[dict]) -> Path:
    """The page that shows every prediction."""
    pages = []
    for score in scores:
        shares = [float(row["coverage"]) for row in nodules if row["scan"] == score["scan"]]
        names = [safe_name(row["slice_name"]) for row in scans[score["scan"]]]
        coverage = float(np.mean(shares)) if shares else None
        pages.append(report_row(score, coverage, folder_of(out, score["scan"]), names))
    path = out / "report.html"
    replace_file(path, report_bytes(pages))
    return path


def validate_options(settings: SimpleNamespace) -> None:
    """Raises LungError for pictures or formats that there are not."""
    for name, choices in (("png", tuple(PNG_EVERY)), ("save", SAVE)):
        if getattr(settings, name) not in choices:
            raise LungError(f"{name} = {getattr(settings, name)}: choose {', '.join(choices)}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This step's own flags; device and precision are the training's settings."""
    parser.add_argument("--dicom", metavar="DIR", help="where the scans lie, for dicom-seg (LIDC_TEST_DICOM_PATH)")
    parser.add_argument("--device", help="auto, cpu, cuda or mps (lung.conf)")
    parser.add_argument("--amp", help="bfloat16: on, off or auto (lung.conf)")
    add_scheduler_flag(parser)


def predict_all(
    scans: dict[str, list[dict]], ct_root: Path, out: Path, settings: SimpleNamespace, scheduler: str
) -> tuple[list[dict], list[dict], dict[str, str]]:
    """Predict what is not done yet and keep both tables: (scores, nodules, why scans failed)."""
    predictor = get_predictor(settings)
    scores = {row["scan"]: row for row in read_table(out / "scores.csv", COLUMNS) if row["scan"] in scans}
    scores = {name: row for name, row in scores.items() if is_done(row, scans[name], out, predictor, settings)}
    audits: dict[str, list[dict]] = {name: [] for name in scans}
    for row in read_table(out / "nodules.csv", NODULE_COLUMNS):
        if row["scan"] in scores:
            audits[row["scan"]].append(row)
    precision = "bfloat16" if predictor.amp else "float32"
    where = f"the cluster at {scheduler}" if scheduler else predictor.device
    print(f"{len(scans)} scans, {len(scores)} done already; on {where}, {precision}")
    failed = {}

    def tables() -> tuple[list[dict], list[dict]]:
        return [scores[name] for name in scans if name in scores], [row for audit in audits.values() for row in audit]

    def save() -> None:
        for name, rows, columns in zip(("scores.csv", "nodules.csv"), tables(), (COLUMNS, NODULE_COLUMNS), strict=True):
            replace_file(out / name, csv_bytes(rows, columns))

    todo = [rows for name, rows in scans.items() if name not in scores]
    with periodic_save(save) as save_if_due:
        results = run_parallel(partial(predict_scan, ct_root=ct_root, out=out, settings=settings), todo, 1, scheduler)
        for rows, result in tqdm(results, total=len(todo), desc="scans", unit="scan"):
            name = rows[0]["scan"]
            if isinstance(result, LungError):
                failed[name] = str(result)
                continue
            scores[name], audits[name] = result
            save_if_due()
    return *tables(), failed


def main(argv: list[str] | None = None) -> None:
    """Load the network; for each scan predict, clean, write, score; print the table and where the result is."""
    settings, flags = parse_step(__doc__, [PYLIDC, TEST], argv, add_flags, lambda flags: True)
    settings.dicom_path = flags.dicom or settings.lidc_test_dicom_path
    if flags.scheduler:
        make_absolute(settings)
    validate_options(settings)
    settings.weights_path = choose_weights(Path(settings.weights_path).expanduser())
    settings.weights_sha256 = checksum(settings.weights_path)
    if flags.scheduler:  # one precision for all machines, that of this one
        settings.amp = "on" if get_predictor(settings).amp else "off"
    ct_root, out = Path(settings.lung_ct_test_path).expanduser(), Path(settings.predictions_path).expanduser()
    scans = by_scan(read_manifest(manifest_path(ct_root), "python prepare_lung_image.py --test"))
    with exclusive_lock(out):
        scores, nodules, failed = predict_all(scans, ct_root, out, settings, flags.scheduler)
        report = save_report(out, scans, scores, nodules)
    print_summary(scores, nodules)
    for name, reason in failed.items():
        print(f"skipped {name}: {reason}")
    print(f"wrote {out}/patient_<id>/, {out / 'scores.csv'} and {out / 'nodules.csv'}; look at {report}")
    if failed:
        raise LungError(f"{len(failed)} of {len(scans)} scans were skipped; see above")


if __name__ == "__main__":
    run_step(main)
