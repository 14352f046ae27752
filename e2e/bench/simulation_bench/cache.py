"""Finished cells on disk, so that an interrupted run goes on where it was.

A cell is found by its content: what it asks, and the code and traces that answer. Changing a
comment or a docstring of that code keeps the results, changing anything else forgets them.
"""

import ast
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

Figures = dict[str, float]

_ROOT: Final = Path(__file__).parents[3]
SOURCES: Final = (
    _ROOT / "router" / "cascade_policy",
    _ROOT / "operator" / "cascade_planner",
    _ROOT / "operator" / "cascade_simulator",
)
"""Code that results depend on, beside the bench's own."""


def default_folder() -> Path:
    """Below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cascadeservice" / "simulation"


class Cache:
    """Figures by key, a small JSON file each. Several processes may write at once."""

    def __init__(self, folder: Path, code: str) -> None:
        self._folder = folder
        self._code = code
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, question: str) -> Figures | None:
        """The figures of a cell that was finished; None for one that was not, or was damaged."""
        try:
            figures = json.loads(self._path(question).read_text())
        except (OSError, ValueError):
            return None
        return figures if isinstance(figures, dict) else None

    def put(self, question: str, figures: Figures) -> None:
        """Keep the figures of a finished cell."""
        path = self._path(question)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(figures))
        partial.replace(path)

    def _path(self, question: str) -> Path:
        name = hashlib.sha256(f"{self._code}\n{question}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def digest(paths: Iterable[Path]) -> str:
    """Hash of files and of all files below folders; Python without comments and docstrings."""
    found = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(path.parent)}\0".encode())
                found.update(_meaning(file) + b"\0")
    return found.hexdigest()


def _meaning(file: Path) -> bytes:
    if file.suffix != ".py":
        return file.read_bytes()
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A statement that is nothing but a string: a docstring, of whatever it follows.
            body[:] = [statement for statement in body if not _is_string(statement)]
    return ast.dump(tree).encode()


def _is_string(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
