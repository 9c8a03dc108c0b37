"""What the packages promise: their public names, their weight, and who may import whom."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

PACKAGES = [
    ROOT / "tracer/crewmeter",
    ROOT / "cost/crewmeter_cost",
    ROOT / "dashboards/crewmeter_dashboards",
]
MODULES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]


def run(code: str) -> str:
    """Run Python source in a process of its own; its output."""
    # Typer before 0.26 imports what click 8.5 deprecates, and works all the same.
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning:typer")
    done = subprocess.run(
        [sys.executable, *warnings, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def top_level_names(tree: ast.Module) -> set[str]:
    """Names a module binds when it is imported."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = [
                name
                for target in node.targets
                for name in (target.elts if isinstance(target, ast.Tuple) else [target])
            ]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.TypeAlias if sys.version_info >= (3, 12) else ()):
            names.add(node.name.id)
    return names


def promise(tree: ast.Module) -> set[str] | None:
    """What `__all__` says; None where it isn't there."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_keeps_its_promise(path):
    """A module says in one sentence what it is for, and what `__all__` names is there."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert (promise(tree) or set()) <= top_level_names(tree)


def test_nobody_imports_what_is_not_promised():
    """A name that another module uses stands in `__all__` of the module it comes from."""
    trees = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts[1:]).removesuffix(
            ".__init__"
        ): ast.parse(path.read_text())
        for path in MODULES
    }
    broken = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in trees and node.module != name:
                promised = promise(trees[node.module])
                if promised is not None:
                    modules = {
                        module.rpartition(".")[2]
                        for module in trees
                        if module.rpartition(".")[0] == node.module
                    }
                    broken += [
                        f"{name}: {node.module}.{alias.name}"
                        for alias in node.names
                        if alias.name not in promised | modules
                    ]
    assert broken == []


def test_the_public_surface_is_the_contract():
    """People script against these: the entry points, and the signature of `instrument`."""
    import crewmeter

    assert {"attribute", "flush", "instrument", "uninstrument"} <= set(crewmeter.__all__)
    assert list(inspect.signature(crewmeter.instrument).parameters) == [
        "service_name",
        "ledger",
        "endpoint",
        "headers",
        "capture_content",
        "tags",
        "budget",
        "tracer_provider",
        "summary",
    ]
    assert all(
        parameter.kind is parameter.KEYWORD_ONLY
        for parameter in inspect.signature(crewmeter.instrument).parameters.values()
    )
    public = {
        name
        for name, value in vars(crewmeter).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    imported = {"annotations", "TYPE_CHECKING"}
    assert public - imported <= set(crewmeter.__all__)


def test_the_app_side_imports_without_crewai():
    """A process without CrewAI can import crewmeter, switch it on and off, and attribute."""
    code = """
import sys
sys.modules["crewai"] = None
import crewmeter
handle = crewmeter.instrument(ledger="sqlite:///:memory:", summary=False)
with crewmeter.attribute(team="finance"):
    pass
handle.uninstrument()
print("fine")
"""
    assert run(code) == "fine"


def test_importing_the_app_side_is_light():
    """`import crewmeter` pulls in neither CrewAI nor the money side nor a database.

    It must cost an app next to nothing.
    """
    code = """
import sys
import crewmeter
heavy = (
    "crewai", "crewmeter_cost", "sqlalchemy", "sqlmodel", "genai_prices", "rich", "typer", "httpx"
)
print([name for name in heavy if name in sys.modules])
"""
    assert run(code) == "[]"


def test_help_is_light():
    """`crewmeter --help` doesn't import what the commands need."""
    code = """
import sys
sys.argv = ["crewmeter", "--help"]
from crewmeter_cost.cli import main
try:
    main()
except SystemExit:
    pass
print([name for name in ("crewai", "sqlalchemy", "genai_prices", "uvicorn") if name in sys.modules])
"""
    assert run(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.name)
def test_the_packages_are_typed(path):
    """Type checkers of people's apps read our annotations (PEP 561)."""
    assert (path / "py.typed").is_file()


def test_the_directions_hold():
    """The app's side knows nothing of the money side, and each vendor is used in one module."""
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
