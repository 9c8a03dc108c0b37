"""Help pages in words.

No ``<bool>``, no ranges of numbers, one placeholder an option.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["PlainCommand", "PlainGroup"]


def _simplify(parameter: Any) -> None:
    """Give an option a placeholder in words, and take its type away."""
    if parameter.param_type_name == "option":
        name = max(parameter.opts, key=len).lstrip("-")
        if parameter.metavar is None:
            parameter.metavar = "" if parameter.is_flag else name.rpartition("-")[2].upper()
    elif hasattr(parameter, "display_type_rich"):
        # An argument's name says what it is; Typer would print its Python type beside it.
        parameter.display_type_rich = lambda ctx: None
    # Typer prints the bounds of a number beside its placeholder; a value outside them is refused
    # with the bounds in the message, which is when they matter.
    if hasattr(parameter, "_get_number_range_help_str"):
        parameter._get_number_range_help_str = lambda: ""


class PlainCommand(TyperCommand):
    """A command whose help page has placeholders instead of types."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, each with its placeholder."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            _simplify(parameter)
        return parameters


class PlainGroup(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, each with its placeholder."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            _simplify(parameter)
        return parameters
