"""Step 1. Write the settings: lung.conf for these scripts, pylidc.conf for pylidc.

Reads   lung.conf, if there is one: your changes in it are kept, unless a flag overrides them
Writes  lung.conf, pylidc.conf
Run     python config_file_create.py --lidc-dicom-path H:/LIDC-IDRI
        python config_file_create.py --demo 12        synthetic scans in ./demo, and settings for them
        python config_file_create.py --download 220   CT of that many LIDC-IDRI patients, or of some by name: A,B,C
                                                      (public; 125 GB for all); --collection for other collections
        python config_file_create.py --check          looks for problems before hours of work; writes nothing
        python config_file_create.py --check --dicom DIR   the same for any folder of DICOM; or --nifti FILE_OR_DIR
"""

from lungct import LungError  # first: it says which package is missing

# isort: split
import argparse
import shutil
from pathlib import Path

from lungct.commands import quoted, with_conf
from lungct.files import is_dir_path, replace_file
from lungct.parallel import count
from lungct.phantom.lidc_tree import write_lidc_tree
from lungct.preflight import CheckResult, check_all
from lungct.scans import lidc
from lungct.scans.download import choose_series, collection_name, download, open_index
from lungct.settings import (
    BY_ATTRIBUTE,
    CONF_NAME,
    TABLE,
    add_flags,
    default_values,
    read_conf,
    resolve_path,
    run_step,
    write_conf,
)

DEMO_CONF = Path("demo") / CONF_NAME
LIDC = "lidc_idri"


def parse_flags(argv: list[str] | None) -> argparse.Namespace:
    """The flags: one for each setting, and a few of this step's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", type=Path, help=f"settings file (default: {CONF_NAME}; {DEMO_CONF} with --demo)")
    parser.add_argument("--demo", type=int, metavar="N", help="make N synthetic patients; to train, 3 or more")
    parser.add_argument(
        "--reset", action="store_true", help="start from the defaults, not from the lung.conf that is there"
    )
    parser.add_argument(
        "--install-home", action="store_true", help="also write pylidc's own file in the home directory"
    )
    parser.add_argument("--force", action="store_true", help="with --install-home: replace another one (kept as .bak)")
    parser.add_argument("--download", metavar="N|LIST", help="fetch the first N patients, or some by name: A,B,C")
    parser.add_argument("--collection", default=LIDC, help="of the Imaging Data Commons (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="look for what would fail later; writes nothing")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--dicom", type=Path, metavar="DIR", help="with --check: any DICOM scans, not those of LIDC")
    place.add_argument("--nifti", type=Path, metavar="PATH", help="with --check: a NIfTI file or a folder of them")
    add_flags(parser, TABLE)
    flags = parser.parse_args(argv)
    flags.conf = flags.conf or (DEMO_CONF if flags.demo else Path(CONF_NAME))
    if flags.demo is not None and not 2 <= flags.demo <= 100:
        parser.error("--demo takes 2 to 100 patients: at least one to train and one to test on")
    if (flags.dicom or flags.nifti) and not flags.check:
        parser.error("--dicom and --nifti go with --check; the steps that read scans have flags of the same name")
    return flags


def new_values(flags: argparse.Namespace) -> tuple[dict, dict]:
    """(settings before, settings now): defaults, then the old file, then the flags."""
    before = default_values()
    if flags.conf.is_file() and not flags.reset:
        before.update(read_conf(flags.conf))
    now = dict(before)
    now.update({name: getattr(flags, name) for name in BY_ATTRIBUTE if getattr(flags, name) is not None})
    return before, now


def check_paths(values: dict, folder: Path) -> list[str]:
    """What is wrong with the folders of scans that the steps will read, a sentence each."""
    faults = []
    for name in ("lidc_dicom_path",) if values["test_share"] else ("lidc_dicom_path", "lidc_test_dicom_path"):
        try:
            lidc.check_root(is_dir_path(resolve_path(values[name], folder)))
        except LungError as error:
            faults.append(f"{BY_ATTRIBUTE[name].key}: {error}")
    return faults


def fetch(wanted: str, collection: str, lidc_root: Path) -> None:
    """Download CT; LIDC-IDRI into the folder of the settings. Raises LungError where series are missing afterwards."""
    client = open_index()
    series = choose_series(client.index, collection, wanted)
    is_lidc = collection_name(collection) == LIDC
    root = lidc_root if is_lidc else Path(collection)
    missing = download(client, series, root)
    if missing:
        raise LungError(f"{len(missing)} of {len(series)} series did not arrive, {missing[0]} first; run it again")
    if not is_lidc:
        print(f"next: python prepare_lung_image.py --dicom {quoted(root)}")


def install_home(dicom_path: str, force: bool) -> Path:
    """Write pylidc's own file in the home directory; an old one that differs is kept as .bak."""
    home = lidc.home_conf()
    beside = home.with_name(home.name + ".new")
    lidc.write_conf(beside, dicom_path)
    content = beside.read_bytes()
    beside.unlink()
    if home.is_file() and home.read_bytes() != content:
        if not force:
            raise LungError(
                f"{home} is there and differs; --force replaces it and keeps the old one as {home.name}.bak"
            )
        shutil.copy2(home, home.with_name(home.name + ".bak"))
    replace_file(home, content)
    return home


def print_results(results: list[CheckResult], following: str) -> None:
    """A row each, and how many of them stop a step; else what to run next. Raises LungError where one does."""
    width = min(40, max(len(result.what) for result in results))
    for result in results:
        state = "error" if result.stops else "warning" if result.remedy else "ok"
        remedy = f"  -> {result.remedy}" if result.remedy else ""
        print(f"{state:8s} {result.what:{width}s}  {result.found}{remedy}")
    stops = sum(result.stops for result in results)
    if stops:
        raise LungError(f"{stops} of {len(results)} results would stop a step; see the rows that begin with 'error'")
    print(f"{count(len(results), 'result')}, none that stops a step; next: {following}")


def main(argv: list[str] | None = None) -> None:
    """Settle the values, write both files, read pylidc's back with its own reader, check the paths."""
    flags = parse_flags(argv)
    if flags.check:
        place = ("--dicom", flags.dicom) if flags.dicom else ("--nifti", flags.nifti) if flags.nifti else None
        following = f" --test {place[0]} {quoted(place[1])}" if place else ""
        print_results(check_all(flags.conf, place), with_conf(f"python prepare_lung_image.py{following}", flags.conf))
        return
    before, now = new_values(flags)
    if flags.demo:
        train, test = write_lidc_tree(flags.conf.parent, flags.demo)
        print(f"synthetic LIDC-IDRI: {count(train, 'patient')} to train on, {test} to test on, in {flags.conf.parent}")
    if flags.download:
        fetch(flags.download, flags.collection, resolve_path(now["lidc_dicom_path"], flags.conf.parent))
    existed = flags.conf.is_file()
    write_conf(flags.conf, now)
    dicom_path = str(resolve_path(now["lidc_dicom_path"], flags.conf.parent.absolute()))
    pylidc_conf = lidc.conf_path(flags.conf)
    lidc.write_conf(pylidc_conf, dicom_path)
    if lidc.read_dicom_path(pylidc_conf) != dicom_path:
        raise LungError(f"{pylidc_conf}: pylidc would not read back {dicom_path}; choose a path it can")
    for name, value in now.items():
        if value != before[name]:
            print(f"  {BY_ATTRIBUTE[name].key}: {before[name]} -> {value}")
    if flags.install_home:
        print(f"wrote {install_home(dicom_path, flags.force)}")
    faults = check_paths(now, flags.conf.parent)
    for fault in faults:
        print(f"warning  {fault}")
    following = "put that right, then run" if faults else "next:"
    written = f"{'rewrote' if existed else 'wrote'} {flags.conf} and {pylidc_conf}"
    print(f"{written}; {following} {with_conf('python prepare_lung_image.py', flags.conf)}")


if __name__ == "__main__":
    run_step(main)
