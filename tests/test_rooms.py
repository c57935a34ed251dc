"""The order of the house: a room imports from those before it, never from those after it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

ORDER = (
    "errors",
    "saying",
    "console",
    "names",
    "files",
    "reading",
    "phonemes",
    "metrics",
    "config",
    "signal",
    "data",
    "model",
    "losses",
    "training",
    "evaluation",
    "interop",
    "benchmark",
    "api",
    "commands",
    "cli",
    "__main__",
)
PACKAGE = ROOT / "demega_jax"


def room_of(module: str) -> str:
    """`data` of demega_jax.data.feeds.stream."""
    return module.split(".")[1]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of this package in a file, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("demega_jax."):
            yield node.lineno, node.module
        elif isinstance(node, ast.ImportFrom) and node.module == "demega_jax":
            yield from ((node.lineno, f"demega_jax.{name.name}") for name in node.names if name.name != "__version__")
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names if name.name.startswith("demega_jax."))


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_from_rooms_before_it(path):
    own = ORDER.index(path.relative_to(PACKAGE).with_suffix("").parts[0])
    for line, module in imported(path):
        assert ORDER.index(room_of(module)) <= own, f"{path}:{line} imports {module}"


def test_the_order_can_be_broken(tmp_path):
    """The walk above sees imports at the top and within functions."""
    file = tmp_path / "loop.py"
    file.write_text("from demega_jax.evaluation.step import EvaluateStep\n\n\ndef f():\n    import demega_jax.cli\n")
    assert [(line, room_of(module)) for line, module in imported(file)] == [(1, "evaluation"), (5, "cli")]


def test_splits_are_never_asked_what_they_are():
    """A split answers for itself: nobody looks at its type."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                assert "Split" not in ast.unparse(node.args[1]), f"{path}:{node.lineno}: {ast.unparse(node)}"
