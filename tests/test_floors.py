"""The house: each file imports only from floors below its own, and nothing imports in circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

FLOORS = {
    "pixmill.core": 0,
    "pixmill.ports": 1,
    "pixmill.steps": 2,
    "pixmill.stores": 2,
    "pixmill.blobs": 2,
    "pixmill.engines": 2,
    "pixmill.io": 2,
    "pixmill.settings": 2,
    "pixmill.wiring": 3,
    "pixmill.fleet": 4,
    "pixmill.web": 4,
    "pixmill.client": 5,
    "pixmill.cli": 6,
    "pixmill.__main__": 7,
}
"""The floor of each room. Rooms of one floor do not see each other; files of one room may."""

PURE = {"socket", "os", "time", "pycurl", "sqlite3", "subprocess", "pyvips", "threading", "random"}
"""What floor 0 must not touch: no clock, no environment, no sockets, no chance."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        name = ".".join(path.relative_to(SRC).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def room(module: str) -> str:
    """The room that a module is in."""
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("module", [name for name in MODULES if name != "pixmill"])
def test_imports_go_down_only(module: str) -> None:
    assert room(module) in FLOORS, f"{module} is in no room of the house"
    for imported in imports(MODULES[module]):
        if (
            imported == "pixmill"
            or not imported.startswith("pixmill.")
            or room(imported) == room(module)
        ):
            continue
        assert FLOORS[room(imported)] < FLOORS[room(module)], f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("pixmill.core")])
def test_the_core_is_pure(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & PURE


def test_nothing_imports_in_circles() -> None:
    graph = {name: imports(path) & set(MODULES) for name, path in MODULES.items()}
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail, name])
        if name not in finished:
            for imported in sorted(graph[name]):
                visit(imported, (*trail, name))
            finished.add(name)

    for name in graph:
        visit(name, ())


def test_only_the_wiring_names_concrete_backends() -> None:
    concrete = ("pixmill.stores.", "pixmill.blobs.")
    naming = {
        name
        for name, path in MODULES.items()
        if any(imported.startswith(concrete) for imported in imports(path))
        and not name.startswith(("pixmill.stores", "pixmill.blobs"))
    }
    assert naming == {"pixmill.wiring.places"}
