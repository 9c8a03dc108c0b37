"""Value classes that cost no more than plain ones to build.

``dataclass(frozen=True)`` sets each field through ``object.__setattr__``, which makes an object of
twenty fields six times as dear to build. Several are built per call, in the app and at 15,000
spans a second in the sidecar. So these are immutable to the type checker only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["value_class"]

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_class(cls: type[Class]) -> type[Class]:
    """Make ``cls`` a dataclass with slots, equality and a hash by value.

    mypy refuses assignments to its fields.
    """
    with_slots = dataclass(slots=True, unsafe_hash=True)
    return with_slots(cls)
