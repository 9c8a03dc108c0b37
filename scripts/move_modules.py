"""Move every module to the home that scripts/moves.toml gives it, and rewrite what names it.

    python scripts/move_modules.py

Only `git mv`, import statements, dotted names and file paths change, so that history follows.
"""

from __future__ import annotations

import ast
import keyword
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = {"crewmeter": "tracer", "crewmeter_cost": "cost", "crewmeter_dashboards": "dashboards"}
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".mjs", ".js", ".json", ""}
TABLE = tomllib.loads((ROOT / "scripts/moves.toml").read_text())
FILES: dict[str, str] = TABLE.pop("files")
MOVES = {
    f"{package}.{old}": f"{package}.{new}" for package, rows in TABLE.items() for old, new in rows.items()
}
DOTTED = re.compile(
    r"(?<![\w./])(" + "|".join(re.escape(old) for old in sorted(MOVES, key=len, reverse=True)) + r")(?!\w|/)"
)


def path_of(module: str) -> Path:
    """The file of a dotted module, relative to the project."""
    base = Path(SOURCE_ROOTS[module.split(".")[0]], *module.split("."))
    package = base / "__init__.py"
    return package if (ROOT / package).exists() else base.with_suffix(".py")


def git_move(old: Path, new: Path) -> None:
    (ROOT / new).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "mv", str(old), str(new)], cwd=ROOT, check=True)


def rewritten_imports(text: str, name: str) -> str:
    """`from package import module` in its new spelling; the module's new last name replaces the old one in the file."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    renames: dict[str, str] = {}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in sorted(
        (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module), key=lambda n: -n.lineno
    ):
        moved = [alias for alias in node.names if f"{node.module}.{alias.name}" in MOVES]
        if not moved:
            continue
        indent = " " * node.col_offset
        out = []
        rest = [alias for alias in node.names if alias not in moved]
        if rest:
            names = ", ".join(a.name + (f" as {a.asname}" if a.asname else "") for a in rest)
            out.append(f"{indent}from {MOVES.get(node.module, node.module)} import {names}\n")
        for alias in moved:
            package, _, stem = MOVES[f"{node.module}.{alias.name}"].rpartition(".")
            if alias.asname:
                out.append(f"{indent}from {package} import {stem} as {alias.asname}\n")
            elif stem == alias.name:
                out.append(f"{indent}from {package} import {stem}\n")
            elif stem in used or keyword.iskeyword(stem):
                print(f"kept an alias in {name}: {alias.name} (now {stem})", file=sys.stderr)
                out.append(f"{indent}from {package} import {stem} as {alias.name}\n")
            else:
                renames[alias.name] = stem
                out.append(f"{indent}from {package} import {stem}\n")
        tail = lines[node.end_lineno - 1][node.end_col_offset :].rstrip("\n")
        if tail.strip():
            out[-1] = out[-1].rstrip("\n") + tail + "\n"
        lines[node.lineno - 1 : node.end_lineno] = out
    text = "".join(lines)
    for old, new in renames.items():
        text = re.sub(rf"(?<![\w.\"'/]){old}(?=\.\w)", new, text)
        text = re.sub(rf"(?<=[(,] ){old}(?=[,)])|(?<=\(){old}(?=[,)])", new, text)
    return text


def main() -> None:
    paths: dict[str, str] = dict(FILES)
    pending = []
    for old, new in MOVES.items():
        if old == new:
            continue
        source = path_of(old)
        base = Path(SOURCE_ROOTS[new.split(".")[0]], *new.split("."))
        target = base / "__init__.py" if source.name == "__init__.py" else base.with_suffix(".py")
        pending.append((source, target))
        paths[str(source)] = str(target)
    # Two steps: a module such as `spans.py` makes room for the folder `spans/` first.
    for source, _ in pending:
        git_move(source, source.with_name(source.name + ".moving"))
    for source, target in pending:
        git_move(source.with_name(source.name + ".moving"), target)
    for source, target in FILES.items():
        git_move(Path(source), Path(target))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        path = ROOT / name
        if path.suffix not in TEXT or name in {"scripts/moves.toml", "scripts/move_modules.py"} or not path.is_file():
            continue
        try:
            text = before = path.read_text()
        except UnicodeDecodeError:
            continue
        if path.suffix == ".py":
            text = rewritten_imports(text, name)
        for old, new in sorted(paths.items(), key=lambda row: -len(row[0])):
            text = text.replace(old, new)
        text = DOTTED.sub(lambda m: MOVES[m[1]], text)
        if text != before:
            path.write_text(text)
    for package, top in SOURCE_ROOTS.items():
        for folder in sorted({p.parent for p in (ROOT / top / package).rglob("*.py")}):
            init = folder / "__init__.py"
            if not init.exists():
                print(f"needs an __init__: {folder.relative_to(ROOT)}", file=sys.stderr)
                init.write_text('"""TODO."""\n')


main()
