"""The way of the imports: steps, then wings, then the ground; read from the code, inside functions and all."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

from lungct.code_hash import OF_MASKS, OF_SLICES, OF_TRAINING

PACKAGE = ROOT / "lungct"
STEPS = {"config_file_create", "prepare_lung_image", "Lung_segmentation", "model_test", "image_test"}
NOUNS = {"UNet_nn", "utils"}
GROUND = {
    "lungct",
    *(
        f"lungct.{name}"
        for name in (
            "settings",
            "conf_file",
            "slices",
            "slice_files",
            "files",
            "parallel",
            "device",
            "commands",
            "code_hash",
        )
    ),
}
ON_WINGS = {"lungct.predict", "lungct.preflight"}
WING_ORDER = (("scans", "segmentation"), ("masks",), ("phantom", "training", "evaluation"))  # each on those before it
WINGS = [wing for row in WING_ORDER for wing in row]
MAX_LINES = 330


def source_files() -> list[Path]:
    """All code but the tests'."""
    return sorted(
        [*ROOT.glob("*.py"), *PACKAGE.rglob("*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("weights/*.py")]
    )


def module_name(path: Path) -> str:
    """lungct/scans/hu.py is lungct.scans.hu, lungct/__init__.py is lungct."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in source_files()}


def imported_names(path: Path) -> Iterator[str]:
    """The full name of all that a file imports, wherever in it, also by importlib."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts
            above = package[: len(package) + 1 - node.level] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def imports(name: str) -> set[str]:
    """The modules that a module of this project imports; those of others by their first name alone."""
    found = set()
    for imported in imported_names(MODULES[name]):
        parts = imported.split(".")
        ours = [".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES]
        found.add(ours[0] if ours else parts[0])
    return found - {name}


IMPORTS = {name: imports(name) for name in MODULES}
INSIDE = {name for name in MODULES if name.split(".")[0] == "lungct"}


def wing_of(name: str) -> str:
    """'' for what is in none."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in WINGS else ""


def offences(importers: set[str], allowed) -> list[str]:
    """Imports of this project's modules by these that are not allowed, as sentences."""
    return sorted(
        f"{name} imports {other}"
        for name in importers
        for other in IMPORTS[name] & MODULES.keys()
        if not allowed(name, other)
    )


def test_the_code_that_is_meant_is_found():
    assert {"lungct.scans.lidc", "lungct.weights", "lungct", "UNet_nn", "weights.recipe"} <= MODULES.keys()
    assert "lungct.scans.lidc" in IMPORTS["lungct.scans.find"]  # from lungct.scans import lidc
    assert {wing_of(name) for name in INSIDE} == {"", *WINGS}


def test_steps_and_nouns_are_all_that_lies_beside_the_package():
    assert {path.stem for path in ROOT.glob("*.py")} == STEPS | NOUNS


def test_the_package_imports_nothing_beside_it_but_the_network():
    assert offences(INSIDE, lambda _, other: other in INSIDE | {"UNet_nn"}) == []


def test_steps_import_the_package_and_the_network_but_no_step():
    assert offences(STEPS, lambda _, other: other in INSIDE | {"UNet_nn"}) == []


def test_the_network_stands_alone_and_utils_hands_on_what_lies_in_the_package():
    assert IMPORTS["UNet_nn"] & MODULES.keys() == set()
    assert offences({"utils"}, lambda _, other: other in INSIDE) == []


def test_the_ground_imports_the_ground():
    assert MODULES.keys() >= GROUND
    assert offences(GROUND, lambda _, other: other in GROUND) == []


def test_weights_import_the_ground_and_the_network():
    assert offences({"lungct.weights"}, lambda _, other: other in GROUND | {"UNet_nn"}) == []


def test_wings_import_wings_before_them_weights_and_the_ground():
    before = {wing: {w for row in WING_ORDER[:n] for w in row} for n, row in enumerate(WING_ORDER) for wing in row}

    def allowed(name: str, other: str) -> bool:
        wing, of = wing_of(name), wing_of(other)
        return of in before[wing] | {wing} if of else other in GROUND | {"lungct.weights"}

    assert offences({name for name in INSIDE if wing_of(name)}, allowed) == []


def test_all_else_in_the_package_is_known():
    assert {name for name in INSIDE if not wing_of(name)} == GROUND | ON_WINGS | {"lungct.weights"}


def test_no_circle_among_modules():
    try:
        TopologicalSorter({name: IMPORTS[name] & MODULES.keys() for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_one_file_imports_pylidc():
    assert [name for name in MODULES if "pylidc" in IMPORTS[name]] == ["lungct.scans.lidc"]


def test_the_root_of_the_package_holds_wings_and_their_few_neighbours():
    here = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    modules = [name.removeprefix("lungct.") for name in (GROUND | ON_WINGS) - {"lungct"}]
    assert here == {"__init__.py", "weights.py", *(f"{name}.py" for name in modules), *WINGS}


@pytest.mark.parametrize("name", MODULES)
def test_no_file_grows_too_long(name):
    lines = MODULES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES


def test_every_module_has_its_test_file():
    below = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    wanted = [Path("tests") / path.parent / f"test_{path.name}" for path in below]
    assert [path for path in wanted if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    ("made_by", "beginnings"),
    [
        (OF_SLICES, ("scans.find", "masks.read", "segmentation.threshold")),
        (OF_MASKS, ("scans.find", "masks.read", "predict", "evaluation.cases")),
        (OF_TRAINING, ("training.trainer",)),
    ],
    ids=["slices", "masks", "trainings"],
)
def test_the_code_that_makes_a_result_is_part_of_what_it_was_made_by(made_by, beginnings):
    """All that is imported on the way to it, but for what writes, waits and speaks to the user."""
    todo, needed = [f"lungct.{name}" for name in beginnings], set()
    while todo:
        name = todo.pop()
        if name in MODULES and name not in needed:
            needed.add(name)
            todo += imports(name)
    counted = {
        module_name(file.resolve())
        for path in (PACKAGE / name for name in made_by)
        for file in ([path] if path.is_file() else path.rglob("*.py"))
    }
    assert needed - counted <= {
        f"lungct{name}" for name in ("", ".conf_file", ".device", ".files", ".parallel", ".settings")
    }
    assert not {name for name in made_by if not (PACKAGE / name).exists()}
