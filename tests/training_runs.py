"""What the tests of the training share: slices and settings on disk as steps 1 and 2 leave them, a run's history."""

import csv
from pathlib import Path

from conftest import make_row

from lungct.code_hash import SLICE_CODE
from lungct.settings import TABLE, write_conf
from lungct.slice_files import write_scan
from lungct.slices import write_manifest


def save_patients(root: Path, patients: dict[str, tuple], pixels_mm: dict[str, float] | None = None) -> list:
    """Write (ct_hu, lung) stacks as step 2 does, with square pixels of a size if given; returns the manifest's rows."""
    rows = []
    for name, (ct_hu, lung) in patients.items():
        spacing = {"row_mm": pixels_mm[name], "col_mm": pixels_mm[name]} if pixels_mm else {}
        scan = [make_row(name, z, lung_px=int(lung[z].sum()), **spacing) for z in range(len(ct_hu))]
        rows += write_scan(scan, ct_hu, lung, root / "ct", root / "lung", SLICE_CODE)
    write_manifest(root / "manifest.csv", rows)
    return rows


def write_settings(root: Path, **changes) -> None:
    """Write lung.conf for a small and short training on the slices below `root`."""
    values = {setting.attribute: setting.default for setting in TABLE}
    values.update(lung_ct_path=str(root / "ct"), lung_image_path=str(root / "lung"), width=4, depth=3, device="cpu")
    values.update(amp="off", epochs=3, batch_size=5, **changes)
    write_conf(root / "lung.conf", values)


def read_history(run: Path) -> list[dict]:
    """The rows of history.csv without the seconds that they took."""
    with (run / "history.csv").open() as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]
