# SPDX-License-Identifier: Apache-2.0
"""Rooms import only from lower floors, and from outside only what docs/architecture.md allows them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "hpc_dl"
FLOORS = {
    "errors": 0,
    "environment": 0,
    "signals": 0,
    "checks": 1,
    "runlog": 1,
    "cluster": 1,
    "settings": 2,
    "scaling": 2,
    "arguments": 3,
    "devices": 3,
    "data": 3,
    "models": 3,
    "recipes": 3,
    "export": 3,
    "predict": 3,
    "jobs": 4,
    "report": 4,
    "comm": 4,
    "session": 5,
    "run": 6,
    "training": 7,
    "after": 7,
    "frameworks": 7,
    "train": 8,
    "bench": 8,
    "doctor": 8,
    "prove": 8,
    "commands": 9,
    "cli": 10,
}
FREE_OF_TORCH = (
    "errors",
    "checks",
    "settings",
    "arguments",
    "environment",
    "cluster",
    "jobs",
    "recipes",
    "runlog",
    "scaling",
    "export",
    "predict",
    "report",
    "cli",
)
ONLY_IN = {
    "horovod": {"comm/horovod.py", "comm/bf16.py"},
    "mpi4py": {"comm/mpi.py"},
    "lightning": {"frameworks/lightning.py"},
    "accelerate": {"frameworks/accelerate.py"},
    "transformers": {"frameworks/transformers.py"},
    "intel_extension_for_pytorch": {"devices/ipex.py"},
    "matplotlib": {"report/plots.py", "report/svg.py", "after/vae.py"},
}


def _modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Room, path within the package, and tree of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        room = name.split("/")[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):
            yield room, name, ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Imported modules, and whether they are imported for types only."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in typing_only
            if node.module.split(".")[0] == "hpc_dl":  # a name may be a module
                yield from ((f"{node.module}.{alias.name}", id(node) in typing_only) for alias in node.names)


def test_every_room_has_a_floor() -> None:
    assert {room for room, _, _ in _modules()} <= set(FLOORS)


def test_imports_go_down() -> None:
    wrong = []
    for room, name, tree in _modules():
        for module, _ in _imports(tree):
            other = module.split(".")[1] if module.startswith("hpc_dl.") else room
            if other in FLOORS and other != room and FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{name} (floor {FLOORS[room]}) imports {module} (floor {FLOORS[other]})")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports within functions count, those for types do not."""
    trees = {f"hpc_dl.{name[:-3].replace('/', '.')}".removesuffix(".__init__"): tree for _, name, tree in _modules()}
    left = {}
    for name, tree in trees.items():
        found = {module for module, for_types in _imports(tree) if not for_types and module in trees}
        packages = {module.rpartition(".")[0] for module in found}  # `from package import module` asks it for no more
        left[name] = found - packages - {name}
    while ends := [name for name, found in left.items() if not found]:
        left = {name: found - set(ends) for name, found in left.items() if name not in ends}
    assert not left, f"circles among {sorted(left)}"


def test_the_login_node_needs_no_torch() -> None:
    wrong = [
        f"{name} imports {module}"
        for room, name, tree in _modules()
        for module, for_types in _imports(tree)
        if room in FREE_OF_TORCH and module.split(".")[0] == "torch" and not for_types
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_library_behind_an_interface_is_imported_there_only(package: str) -> None:
    found = {name for _, name, tree in _modules() for module, _ in _imports(tree) if module.split(".")[0] == package}
    assert found <= ONLY_IN[package]


def test_the_environment_is_read_in_one_place() -> None:
    found = {
        name
        for _, name, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert found == {"environment.py"}


@pytest.mark.parametrize(
    "command", [["--help"], ["report", "--help"], ["export", "--help"], ["predict", "--help"], ["job", "--help"]]
)
def test_commands_of_the_login_node_start_without_torch(command: list[str]) -> None:
    program = (
        "import sys\nfrom hpc_dl.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", program, *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip().endswith("False")
    assert "usage" in done.stdout


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    program = "import sys, hpc_dl; print(sorted({'torch', 'numpy', 'mpi4py', 'horovod'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
