"""The bills of the cases, as sums written out by hand."""

from __future__ import annotations

import ast
import operator
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATIONS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def amount(text: str) -> Decimal:
    """Return the value of a sum such as ``"(600*2.5 + 300*10) / 1e6"``, exactly."""
    return _value(ast.parse(text, mode="eval").body, text)


def _value(node: ast.expr, text: str) -> Decimal:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left = _value(node.left, text)
        return _OPERATIONS[type(node.op)](left, _value(node.right, text))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Decimal(str(node.value))
    raise ValueError(f"no sum: {text}")
