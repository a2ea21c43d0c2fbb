"""Which part imports which: no circles, one direction, and no heavy package where it is not needed.

Imports are read from the source, so those inside of functions and those for type checkers alone count like all others.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "prow": ROOT / "codec" / "prow",
    "prow_kernels": ROOT / "kernels" / "prow_kernels",
    "prow_cli": ROOT / "cli" / "prow_cli",
    "benchmarks": ROOT / "benchmarks",
    "format_spec": ROOT / "format_spec",
}
# Rooms of the library, a folder or a file of the package each: a room imports from those above it in this list alone.
ROOMS = (
    {"errors", "options", "progress", "sums"},
    {"arguments"},
    {"format", "ordered"},
    {"entropy", "image", "links", "metrics"},
    {"external", "networks", "published"},
    {"registry"},
    {"backends", "inspection"},
    {"coding", "web"},
    {"search"},
    {"coders", "request"},
    {"api", "importing"},
    {"rows"},
    {"prow"},  # its __init__, the front door
    {"training", "dataset", "torch", "pillow", "__main__"},
)
# What each package imports of the others.
BELOW = {
    "prow_kernels": set(),
    "prow": {"prow_kernels"},
    "prow_cli": {"prow"},
    "benchmarks": {"prow", "prow_kernels", "prow_cli", "format_spec"},
    "format_spec": {"prow"},
}
INDEPENDENT = (
    "reader",
    "tokens",
    "passes",
    "model_file",
    "external",
)  # of format_spec: written from the specification alone
HEAVY = {"torch", "onnxruntime", "triton", "safetensors", "PIL", "prow_kernels"}


def modules_in(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join((package, *(part for part in parts if part != "__init__"))), path


MODULES = {name: path for package, folder in PACKAGES.items() for name, path in modules_in(package, folder)}


def imports_in(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """Full names of all that a module imports, at its top or inside of anything: of ours the module, of others the
    package and what is below it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                here = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
                start = ".".join([*here, *filter(None, [node.module])])
            for alias in node.names:
                submodule = f"{start}.{alias.name}"
                found.add(submodule if submodule in MODULES else start)
    return found


@functools.cache
def imports(module: str) -> frozenset[str]:
    path = MODULES[module]
    return frozenset(imports_in(path.read_text(), module, is_package=path.name == "__init__.py"))


def package_of(name: str) -> str:
    return name.split(".")[0]


def room_of(module: str) -> str:
    """Of a module of the library."""
    return module.split(".")[1] if "." in module else module


def modules_of(*names: str) -> list[str]:
    """Those of packages or of folders of packages."""
    return [module for module in MODULES if any(f"{module}.".startswith(f"{name}.") for name in names)]


def reached_from(modules: Iterable[str]) -> set[str]:
    """These modules, those of ours that they import, and so on."""
    found, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [name for name in imports(module) if name in MODULES]
    return found


def check_no_circle(graph: dict[str, set[str]]) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


# -- what is read -------------------------------------------------------------------------------------------------


def test_all_kinds_of_imports_are_seen() -> None:
    source = """
import json, numpy.linalg
from . import writer, nothing
from .. import format
from ..format import config as c
from ..format.config import Config
from prow_kernels import triton_failure
if TYPE_CHECKING:
    from .reader import read
def f():
    import torch
    class A:
        def g(self):
            from ..registry import load
"""
    ours = {"prow.entropy.writer", "prow.entropy", "prow.format", "prow.format.config", "prow.registry"}
    wanted = ours | {"json", "numpy.linalg", "prow.entropy.reader", "prow_kernels", "torch"}
    assert imports_in(source, "prow.entropy.trim") == wanted
    assert imports_in(source, "prow.entropy", is_package=True) == wanted
    with pytest.raises(pytest.fail.Exception, match="a circle of imports: .*b.*"):
        check_no_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})


def test_the_whole_library_is_looked_at() -> None:
    assert {package_of(module) for module in MODULES} == set(PACKAGES)
    assert all(module in MODULES for module in ("prow", "prow.api", "prow.entropy.writer", "prow_cli.main"))
    assert "prow.search.gradient_search" in imports("prow.coders.pyramid")  # inside of a function
    assert "prow.api" in imports("prow")  # for type checkers, and when somebody asks for it
    assert len(modules_of("prow")) > 40


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_of_ours_exists(module: str) -> None:
    ours = {name for name in imports(module) if package_of(name) in PACKAGES}
    assert ours <= set(MODULES)


def test_nothing_is_imported_by_a_name_in_a_string() -> None:
    """But by the front door, whose list is that for type checkers."""
    modules = modules_of("prow", "prow_kernels", "prow_cli")
    hidden = {m for m in modules for word in ("import_module", "__import__") if word in MODULES[m].read_text()}
    assert hidden == {"prow"}
    import prow

    assert {f"prow{place}" for place in prow._PLACES} <= imports("prow")


# -- circles ------------------------------------------------------------------------------------------------------


def test_no_module_imports_itself_in_a_circle() -> None:
    check_no_circle({module: {name for name in imports(module) if name in MODULES} for module in MODULES})


def test_no_room_imports_itself_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules_of("prow"):
        others = {room_of(name) for name in imports(module) if package_of(name) == "prow"}
        graph.setdefault(room_of(module), set()).update(others - {room_of(module)})
    check_no_circle(graph)


# -- direction ----------------------------------------------------------------------------------------------------


def test_every_room_has_its_place() -> None:
    placed = [room for rooms in ROOMS for room in rooms]
    assert sorted(placed) == sorted({room_of(module) for module in modules_of("prow")})


@pytest.mark.parametrize("module", modules_of("prow"))
def test_rooms_import_from_those_above_them_in_the_list(module: str) -> None:
    place = next(i for i, rooms in enumerate(ROOMS) if room_of(module) in rooms)
    allowed = {room_of(module)}.union(*ROOMS[:place])
    assert {room_of(name) for name in imports(module) if package_of(name) == "prow"} <= allowed


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction(package: str) -> None:
    """The command and the benchmarks stand on the library, and that on the kernels. `python -m prow` is the command."""
    modules = [module for module in modules_of(package) if module != "prow.__main__"]
    used = {package_of(name) for module in modules for name in imports(module)} & set(PACKAGES)
    assert used <= {package} | BELOW[package]


def test_networks_know_no_backend() -> None:
    assert not any(room_of(name) == "backends" for name in reached_from(modules_of("prow.networks")))


def test_the_loop_over_the_passes_knows_no_backend_by_name() -> None:
    """But what all of them have in common; so does all of the search but that by gradients, which takes torch."""
    for module in modules_of("prow.coding", "prow.search"):
        backends = {name for name in imports(module) if name in modules_of("prow.backends")}
        gradients = {"prow.backends.torch_backend"} if module == "prow.search.gradient_search" else set()
        assert backends <= {"prow.backends.base"} | gradients


# -- weight -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "room", ["format", "entropy", "external", "links", "registry", "inspection", "options", "errors"]
)
def test_what_needs_no_pixels_imports_nothing_heavy(room: str) -> None:
    """No torch and no ONNX Runtime, not even through others."""
    outside = {package_of(name) for module in reached_from(modules_of(f"prow.{room}")) for name in imports(module)}
    assert not outside & HEAVY


def test_where_torch_and_onnx_runtime_are() -> None:
    backends = {"prow.backends.torch_backend", "prow.backends.torch_ops", "prow.backends.select"}
    alone = {"prow.search.gradient_search", "prow.torch"}
    homes = {
        "torch": {*modules_of("prow.networks", "prow.published", "prow.training"), *backends, *alone},
        "onnxruntime": {"prow.backends.onnx_backend", *modules_of("prow.training")},
    }
    for package, allowed in homes.items():
        users = {m for m in modules_of("prow", "prow_cli") for name in imports(m) if package_of(name) == package}
        assert users and users <= allowed


# -- the independent readers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent_readers_import_nothing_of_ours(name: str) -> None:
    """The standard library and each other, and the reader of headers not even that."""
    beside = {other: f"format_spec.{other}" for other in INDEPENDENT}  # either name, as a script or as a module
    found = imports(f"format_spec.{name}") - {*beside, *beside.values()}
    assert {package_of(other) for other in found} <= set(sys.stdlib_module_names)
    assert name != "reader" or found == imports("format_spec.reader")
