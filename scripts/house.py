"""Measure how readable the source is, and fail where a limit is passed.

    python scripts/house.py            # every figure beside its limit; exit 1 where one is passed
    python scripts/house.py --list     # also the lines behind each figure

Density is the number of `ast.walk` nodes of a function's body statements (docstring left out) over
the lines they span. The limits come from reading structlog, svcs, httpx and sqlite-utils.
"""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from house_excepts import ALLOWED, broad_excepts
from house_words import retired_words, tracked_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "tracer": ROOT / "tracer/crewmeter",
    "cost": ROOT / "cost/crewmeter_cost",
    "dashboards": ROOT / "dashboards/crewmeter_dashboards",
}
# Written by a program, so no person reads them line by line.
GENERATED = {"cost/crewmeter_cost/ledger/schema/columns.py"}
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, text and syntax tree."""

    package: str
    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))


@dataclass
class Figure:
    """A measured value, its limit, and the spots behind it."""

    title: str
    value: float
    limit: float
    found_at: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether the value is within its limit."""
        return self.value <= self.limit


def modules() -> list[Module]:
    """Every authored module of the three packages."""
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            if str(path.relative_to(ROOT)) in GENERATED:
                continue
            text = path.read_text("utf-8")
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            found.append(Module(package, name, path, text, ast.parse(text)))
    return found


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    """Every function of a tree, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode):
            yield node


def body_without_docstring(node: FunctionNode) -> list[ast.stmt]:
    """Return a function's statements without its docstring."""
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def density(found: list[Module], package: str) -> Figure:
    """Syntax nodes a body line, on average over a package."""
    nodes = lines = 0
    by_module: list[tuple[float, str]] = []
    for module in found:
        if module.package != package:
            continue
        own_nodes = own_lines = 0
        for function in functions(module.tree):
            body = body_without_docstring(function)
            if not body:
                continue
            own_nodes += sum(1 for statement in body for _ in ast.walk(statement))
            own_lines += (body[-1].end_lineno or 0) - body[0].lineno + 1
        nodes += own_nodes
        lines += own_lines
        if own_lines:
            by_module.append((own_nodes / own_lines, f"{module.where} {own_nodes / own_lines:.1f}"))
    spots = [text for _, text in sorted(by_module, reverse=True)]
    average = round(nodes / max(lines, 1), 2)
    return Figure(f"syntax nodes a body line: {package}", average, 8, spots)


def long_lines() -> Figure:
    """Return the lines over 100 columns of code, tests and scripts."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_texts()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > 100
    ]
    return Figure("lines over 100 columns", len(found), 0, found)


def conditional_expressions(found: list[Module]) -> list[Figure]:
    """Conditional expressions per 1,000 lines; statements that hold two; nested ones."""
    count, crowded, nested = 0, [], []
    for module in found:
        for statement in ast.walk(module.tree):
            if not isinstance(statement, ast.stmt):
                continue
            own = [node for node in own_expressions(statement) if isinstance(node, ast.IfExp)]
            count += len(own)
            if len(own) > 1:
                crowded.append(f"{module.where}:{statement.lineno}")
            inside = [n for node in own for n in ast.walk(node) if n is not node]
            if any(isinstance(node, ast.IfExp) for node in inside):
                nested.append(f"{module.where}:{statement.lineno}")
    total = sum(module.lines for module in found)
    return [
        Figure("conditional expressions per 1,000 lines", round(1000 * count / total, 1), 30),
        Figure("statements with two conditional expressions", len(crowded), 0, crowded),
        Figure("nested conditional expressions", len(nested), 0, nested),
    ]


def own_expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """Return the nodes of a statement that belong to no statement inside it."""
    stack = list(ast.iter_child_nodes(statement))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def tuple_assignments(found: list[Module]) -> Figure:
    """Count assignments of a tuple of values to three names or more."""
    spots = [
        f"{module.where}:{node.lineno}"
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and any(isinstance(target, ast.Tuple) and len(target.elts) > 2 for target in node.targets)
    ]
    return Figure("tuple assignments of three names or more", len(spots), 0, spots)


def docstrings(found: list[Module]) -> list[Figure]:
    """Length and form of the first docstring lines."""
    lengths, semicolons, long = [], [], []
    for module in found:
        for node in ast.walk(module.tree):
            if not isinstance(node, FunctionNode | ast.ClassDef | ast.Module):
                continue
            text = ast.get_docstring(node)
            if not text:
                continue
            first = text.splitlines()[0]
            lengths.append(len(first))
            spot = f"{module.where}:{getattr(node, 'lineno', 1)}"
            if ";" in first:
                semicolons.append(spot)
            if len(first) > 80:
                long.append(spot)
    return [
        Figure("docstring summary, median characters", statistics.median(lengths), 72),
        Figure("docstring summaries with a semicolon", len(semicolons), 0, semicolons),
        Figure("docstring summaries over 80 characters", len(long), 0, long),
    ]


def names_used_twice(found: list[Module]) -> list[Figure]:
    """File stems and class names that stand twice. A command's module is named like the command."""
    stems, classes = defaultdict(list), defaultdict(list)
    for module in found:
        if module.path.name != "__init__.py" and "/cli/" not in module.where:
            stems[module.path.stem].append(module.where)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(module.where)
    twice = [f"{stem}: {', '.join(where)}" for stem, where in stems.items() if len(where) > 1]
    same = [f"{name}: {', '.join(where)}" for name, where in classes.items() if len(where) > 1]
    return [
        Figure("file stems used twice", len(twice), 8, twice),
        Figure("class names used twice", len(same), 5, same),
    ]


def folders(found: list[Module]) -> Figure:
    """Modules of the largest flat folder. `cli` holds one module a command."""
    counts = Counter(
        str(module.path.parent.relative_to(ROOT))
        for module in found
        if module.path.name != "__init__.py" and module.path.parent.name != "cli"
    )
    spots = [f"{folder} {count}" for folder, count in counts.most_common(6)]
    return Figure("largest flat folder", max(counts.values()), 15, spots)


def sizes(found: list[Module]) -> list[Figure]:
    """Return the longest function and module, in lines."""
    longest = [
        (node.end_lineno - node.lineno + 1, f"{module.where}:{node.name}")  # type: ignore[operator]
        for module in found
        for node in functions(module.tree)
    ]
    longest.sort(reverse=True)
    modules_by_size = sorted(((module.lines, module.where) for module in found), reverse=True)
    return [
        Figure("longest function", longest[0][0], 80, [f"{name} {n}" for n, name in longest[:8]]),
        Figure(
            "longest module",
            modules_by_size[0][0],
            400,
            [f"{name} {n}" for n, name in modules_by_size[:8]],
        ),
    ]


def imports_of(module: Module, known: set[str]) -> set[str]:
    """Return the project's modules that a module imports when it is loaded."""
    found: set[str] = set()
    for node in top_level_imports(module.tree.body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif node.module and node.level == 0:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            own = submodules & known
            found |= own
            if len(own) < len(node.names) and node.module in known:
                found.add(node.module)
    return found - {module.name}


def top_level_imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield imports that run when a module is loaded: outside functions and type checking."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from top_level_imports(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from top_level_imports(node.body)


def import_circles(found: list[Module]) -> Figure:
    """Return groups of modules that import one another, by Tarjan's algorithm."""
    known = {module.name for module in found}
    graph = {module.name: imports_of(module, known) for module in found}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[str] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                circles.append(" <-> ".join(sorted(group)))

    sys.setrecursionlimit(10_000)
    for name in sorted(graph):
        if name not in index:
            visit(name)
    return Figure("import circles", len(circles), 0, circles)


def unexplained_excepts(found: list[Module]) -> list[Figure]:
    """Broad excepts that are not on the list, and entries of the list without one."""
    seen, unlisted = set(), []
    for module in found:
        for function, line in broad_excepts(module.name, module.tree):
            seen.add(function)
            if function not in ALLOWED:
                unlisted.append(f"{module.where}:{line} ({function})")
    stale = sorted(ALLOWED.keys() - seen)
    return [
        Figure("broad excepts without a listed reason", len(unlisted), 0, unlisted),
        Figure("listed broad excepts that are gone", len(stale), 0, stale),
    ]


def words() -> Figure:
    """Retired words in code, tests, texts and documents."""
    uses = [str(use) for use in retired_words()]
    return Figure("retired words", len(uses), 0, uses)


def comment_lines(found: list[Module]) -> float:
    """Comment lines per 100 lines."""
    count = sum(len(re.findall(r"^\s*#", module.text, re.MULTILINE)) for module in found)
    return round(100 * count / sum(module.lines for module in found), 1)


def figures(found: list[Module]) -> list[Figure]:
    """Every figure, in the order they are printed."""
    return [
        folders(found),
        *(density(found, package) for package in PACKAGES),
        *conditional_expressions(found),
        tuple_assignments(found),
        *docstrings(found),
        import_circles(found),
        *names_used_twice(found),
        *sizes(found),
        *unexplained_excepts(found),
        words(),
        long_lines(),
    ]


PROVEN = """
by tests: a provider takes 1 file and its line in the registry, a report column 3
(tests/contract/test_additions.py); a budget check passes at most 5 modules
(tests/cost/budgets/test_check_path.py)"""


def main() -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the lines behind each figure")
    options = parser.parse_args()
    found = modules()
    measured = figures(found)
    print(f"{'':46}{'now':>8}{'limit':>8}")
    for figure in measured:
        mark = "" if figure.passes else "  OVER"
        print(f"{figure.title:46}{figure.value:8g}{figure.limit:8g}{mark}")
        if options.list or not figure.passes:
            for spot in figure.found_at[: None if options.list else 12]:
                print(f"    {spot}")
    print(f"{'comment lines per 100 lines (for information)':46}{comment_lines(found):8g}")
    print(PROVEN)
    return int(not all(figure.passes for figure in measured))


if __name__ == "__main__":
    sys.exit(main())
