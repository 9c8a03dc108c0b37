"""All budgets and loop limits of one app, from code, a file or the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crewmeter_cost.budgets.definition import (
    SHORT_FORM,
    Budget,
    parse_budget,
    refuse_contradictions,
    split_scope,
)
from crewmeter_cost.budgets.loop_limits import LoopLimits, is_loop_form, parse_limits
from crewmeter_cost.config_file import (
    LARGEST_FILE,
    FileKind,
    parse_toml,
    refuse_endless_numbers,
)
from crewmeter_cost.config_limits import bounded_loader
from crewmeter_cost.errors import CrewMeterError

__all__ = ["BudgetPlan", "plan_of", "read_budgets", "read_plan"]

_BUDGETS_FILE = FileKind("budgets file", "CREWMETER_BUDGETS", "docs/budgets.md")
_EXAMPLE = f"correct that line; {_BUDGETS_FILE.guide} has an example"


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """Budgets, and what one run may do at most."""

    budgets: tuple[Budget, ...] = ()
    limits: LoopLimits | None = None

    def over(self, other: BudgetPlan) -> BudgetPlan:
        """Return both plans as one, with this plan's loop limits where both have some."""
        return BudgetPlan(
            (*self.budgets, *other.budgets),
            self.limits or other.limits,
        )


def read_plan(text: str, *, where: str = "CREWMETER_BUDGETS") -> BudgetPlan:
    """Return the plan of a file (TOML or YAML), or of several short forms.

    Short forms are separated by ``;``.

    Raises `CrewMeterError` for a missing or malformed file, and for budgets that contradict.
    """
    parts = [part for part in text.split(";") if part.strip()]
    loops = [part for part in parts if is_loop_form(part)]
    budgets = [part for part in parts if not is_loop_form(part)]
    limits = (
        parse_limits(
            loops[-1],
            where=where,
        )
        if loops
        else None
    )
    plan = BudgetPlan((), limits)
    if not budgets:
        return plan
    return plan.over(
        _read_document(
            ";".join(budgets),
            where=where,
        )
    )


def read_budgets(text: str, *, where: str = "CREWMETER_BUDGETS") -> tuple[Budget, ...]:
    """Return the budgets of `read_plan`, without its loop limits."""
    return read_plan(text, where=where).budgets


def plan_of(source: object) -> BudgetPlan:
    """Return the plan that code passed as ``budget=``.

    `source` is a short form, a mapping, a list of them, or ``{"budget": […], "loop": {…}}``. Raises
    `CrewMeterError` for anything else.
    """
    plan = _plan_of(source)
    refuse_contradictions(plan.budgets, where="budget")
    return plan


def _plan_of(source: object) -> BudgetPlan:
    match source:
        case None:
            return BudgetPlan()
        case str() if is_loop_form(source):
            return BudgetPlan((), parse_limits(source, where="budget"))
        case str() if ";" in source:
            return read_plan(source, where="budget")
        case Mapping() if "loop" in source or "budget" in source:
            return _plan_of_mapping(source)
        case str() | Budget() | Mapping():
            return BudgetPlan((parse_budget(source),))
        case Sequence():
            plan = BudgetPlan()
            for each in source:
                plan = plan.over(_plan_of(each))
            return plan
    raise CrewMeterError(
        f"budget is {source!r}", hint='give "5 USD/day", a mapping, or a list of them'
    )


def _plan_of_mapping(source: Mapping[str, object]) -> BudgetPlan:
    unknown = sorted(set(source) - {"loop", "budget"})
    if unknown:
        raise CrewMeterError(
            f"budget: unknown key {unknown[0]!r}", hint='give {"budget": […], "loop": {…}}'
        )
    loop = source.get("loop")
    limits = None if loop is None else parse_limits(loop, where="loop")
    return BudgetPlan((), limits).over(_plan_of(source.get("budget")))


def _read_document(text: str, *, where: str) -> BudgetPlan:
    """Return the plan of short forms, or of the file that `text` names."""
    if "/" in text and _looks_short(text):
        parts = [part for part in text.split(";") if part.strip()]
        plan = BudgetPlan(tuple(parse_budget(part, where=where) for part in parts))
    else:
        plan = _from_file(
            Path(text.strip()).expanduser(),
            where=where,
        )
    refuse_contradictions(plan.budgets, where=where)
    return plan


def _looks_short(text: str) -> bool:
    amounts = [split_scope(part)[1] for part in text.split(";") if part.strip()]
    return all(SHORT_FORM.fullmatch(amount) for amount in amounts)


def _from_file(path: Path, *, where: str) -> BudgetPlan:
    document = _parse(_content(path, where=where), path)
    if not isinstance(document, dict):
        document = {}
    entries = document.get("budget")
    loop = document.get("loop")
    if entries is None and loop is not None:
        entries = []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CrewMeterError(
            f"{path}: no list of budgets", hint="write [[budget]] tables with amount and scope"
        )
    budgets = tuple(
        parse_budget(entry, where=f"{path}: budget {number}")
        for number, entry in enumerate(entries, 1)
    )
    limits = None if loop is None else parse_limits(loop, where=f"{where}: loop")
    return BudgetPlan(budgets, limits)


def _content(path: Path, *, where: str) -> str:
    hint = 'give a TOML or YAML file, or a short form such as "5 USD/day"'
    try:
        # A FIFO or /dev/zero would never end: only a regular file of a sane size is read.
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise CrewMeterError(f"{where}: {path} is larger than {LARGEST_FILE:,} bytes")
        if path.exists() and not path.is_file():
            raise CrewMeterError(f"{where}: {path} is not a regular file", hint=hint)
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise CrewMeterError(f"{where}: cannot read {str(path)!r} ({reason})", hint=hint) from error


def _parse(content: str, path: Path) -> object:
    if path.suffix in (".yaml", ".yml"):
        return _parse_yaml(content, path)
    return parse_toml(content, path, _BUDGETS_FILE)


def _parse_yaml(content: str, path: Path) -> object:
    import yaml  # only where someone wrote YAML

    class WithoutAliases(bounded_loader()):  # type: ignore[misc]
        """A loader that refuses aliases: a few hundred bytes could become gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, "aliases are not read here", mark
                )
            return super().compose_node(parent, index)

    try:
        document = yaml.load(content, Loader=WithoutAliases)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        line = "" if mark is None else f" line {mark.line + 1}"
        raise CrewMeterError(f"{path}{line} is not YAML: {problem}", hint=_EXAMPLE) from error
    except (RecursionError, ValueError, ArithmeticError) as error:
        raise CrewMeterError(f"{path} is not YAML that can be read", hint=_EXAMPLE) from error
    refuse_endless_numbers(document, path, _BUDGETS_FILE)
    return document
