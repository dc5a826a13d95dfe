# SPDX-License-Identifier: Apache-2.0
"""How many lines of a one-process script each port adds and takes away: python -m examples.ports.lines

Counted are lines of code, without comments, blank lines and docstrings, as `diff -w` sees them: a line that is only
indented anew is no change, and one that is changed is taken away and added. A file that serves both
the loop and the Trainer counts for each with what that one needs of it, and the Trainer's TOML file counts in full.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = ("own loop", "Trainer", "DDP", "Accelerate")


def code_lines(text: str) -> list[str]:
    """Lines of Python without comments, blank lines, docstrings and indentation."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]].rstrip()
    kept = (line for number, line in enumerate(lines, 1) if not any(a <= number <= b for a, b in spans))
    return [line.strip() for line in kept if line.strip()]


def needed(text: str, roots: set[str]) -> str:
    """The top-level statements that define these names, and what they need in turn."""
    statements = [(node, _bound(node), _read(node)) for node in ast.parse(text).body]
    names, before = set(roots), set[str]()
    while names != before:
        before = set(names)
        for _, bound, read in statements:
            if bound & names:
                names |= read
    lines = text.splitlines()
    kept: list[str] = []
    for node, bound, _ in statements:
        if bound & names:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            kept += lines[first - 1 : node.end_lineno]
    return "\n".join(kept) + "\n"


def change(before: list[str], after: list[str]) -> tuple[int, int]:
    """Lines added and taken away."""
    found = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    return sum(line.startswith("+") for line in found), sum(line.startswith("-") for line in found)


def versions(name: str) -> dict[str, list[str]]:
    """The lines of every version that there is of a port."""
    text = (HERE / f"{name}.py").read_text(encoding="utf-8")
    found = {"own loop": code_lines(needed(text, {"main", "__main__"}))}
    settings = HERE / f"{name}.toml"
    if settings.exists():
        toml = settings.read_text(encoding="utf-8")
        roots = set(re.findall(rf'"{name}:(\w+)"', toml))
        words = [line for line in toml.splitlines() if line.strip() and not line.startswith("#")]
        found["Trainer"] = code_lines(needed(text, roots)) + words
    for folder, column in (("ddp", "DDP"), ("with_accelerate", "Accelerate")):
        other = HERE / folder / f"{name}.py"
        if other.exists():
            found[column] = code_lines(other.read_text(encoding="utf-8"))
    return found


def table() -> str:
    """A row for each port: lines before, and what each version adds and takes away."""
    rows = [["port", "lines before", *COLUMNS], ["---"] * (2 + len(COLUMNS))]
    for path in sorted((HERE / "before").glob("*.py")):
        before = code_lines(path.read_text(encoding="utf-8"))
        changes = {column: change(before, after) for column, after in versions(path.stem).items()}
        cells = ["+{} -{}".format(*changes[column]) if column in changes else "" for column in COLUMNS]
        rows.append([path.stem, str(len(before)), *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _bound(node: ast.stmt) -> set[str]:
    """The names a statement defines; that which runs the file has a name of its own."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return {"__main__"} if isinstance(node, ast.If) else set()


def _read(node: ast.stmt) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


if __name__ == "__main__":
    print(table())
