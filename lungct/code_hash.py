"""Which code slices, masks, scores and trainings were made by: where it has changed, they are made again."""

from pathlib import Path

from lungct.files import files_below, fingerprint

PACKAGE = Path(__file__).resolve().parent
OF_BOTH = ("scans", "segmentation", "masks", "slices.py", "slice_files.py", "code_hash.py")
OF_SLICES = (*OF_BOTH, "../prepare_lung_image.py")
OF_MASKS = (*OF_BOTH, "predict.py", "weights.py", "evaluation/cases.py", "../UNet_nn.py", "../model_test.py")
OF_TRAINING = (
    "training",
    "slices.py",
    "slice_files.py",
    "code_hash.py",
    "weights.py",
    "../UNet_nn.py",
    "../Lung_segmentation.py",
)


def code_hash(*names: str) -> str:
    """Sixteen hexadecimal digits that change with the code in some files and folders, named as seen from lungct/."""
    texts = []
    for name in names:
        place = PACKAGE / name
        for file in [place] if place.is_file() else files_below(place):
            if file.suffix == ".py":
                texts.append((name, file.relative_to(place).as_posix(), file.read_text(encoding="utf-8")))
    return fingerprint(sorted(texts))


# taken when a step starts: a long-lived worker of a cluster keeps that of the code that it runs
SLICE_CODE, MASK_CODE, SCORE_CODE = code_hash(*OF_SLICES), code_hash(*OF_MASKS), code_hash("evaluation")
TRAINING_CODE = code_hash(*OF_TRAINING)
