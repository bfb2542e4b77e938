"""Every kind of the corpus: the right CT, or one line with the reason; the patient beside it is always done."""

from pathlib import Path

import numpy as np
import pytest
from corpus import KINDS, WHO, phantom

import prepare_lung_image
from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.lidc import LidcScan
from lungct.slices import read_scans

GOOD = LidcScan("GOOD-2", "1.2.826.2", "1.2.826.2.1")


@pytest.mark.parametrize("name", KINDS)
def test_scan_is_read_right_or_refused_with_its_reason(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    outcome = KINDS[name](tmp_path / "scans" / "odd")
    nifti = list((tmp_path / "scans" / "odd").glob("*.nii.gz"))
    if nifti:
        source = ["--nifti", str(tmp_path / "scans" / "odd")]
    else:
        write_series(tmp_path / "scans" / "good", GOOD, *phantom())
        source = ["--dicom", str(tmp_path / "scans")]
    command = ["--test", "--workers", "1", *source]
    if outcome.refused and (nifti or outcome.refused != "holds no CT"):
        with pytest.raises(LungError) as caught:
            prepare_lung_image.main(command)
        told = capsys.readouterr().out + str(caught.value)
        assert outcome.refused in told
        assert "\n" not in str(caught.value)
    else:
        prepare_lung_image.main(command)
        told = capsys.readouterr().out
    assert outcome.remark in told
    if not nifti:
        np.testing.assert_array_equal(stored("GOOD-2"), phantom()[0])
    odd = stored("odd" if nifti else WHO.patient_id)
    if outcome.ct_hu is None:
        assert odd is None
    else:
        np.testing.assert_array_equal(odd, outcome.ct_hu)
    assert not list(tmp_path.rglob("*.tmp*"))


def stored(scan: str) -> np.ndarray | None:
    """The CT that the manifest and the folders hold of a scan; None where there is none."""
    folder = Path("mydata/Image_test/ct") / scan
    rows = read_scans(Path("mydata/Image_test/manifest.csv"))[0].get(scan, [])
    assert folder.exists() == bool(rows)
    return np.stack([np.load(folder / f"{row.slice_name}.npy") for row in rows]) if rows else None


def test_values_that_cannot_be_hu_pass_when_the_user_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    KINDS["values from 0 to 255"](tmp_path / "odd")
    prepare_lung_image.main(["--test", "--any-values", "--dicom", str(tmp_path / "odd")])
    assert stored(WHO.patient_id).max() == 255
