"""A deterministic value that a JSON schema accepts, for structured output."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["sample"]

_PLAIN: Mapping[str, object] = {
    "string": "plain words",
    "integer": 1,
    "number": 0.5,
    "boolean": True,
    "null": None,
}
_DEPTH = 12
"""Recursive schemas end here."""


def sample(schema: object, root: Mapping[str, object] | None = None, depth: int = 0) -> object:
    """Return the smallest representative instance of `schema`.

    Every property of an object, one item of an array, the first of a choice.

    `root` holds ``$defs`` for ``$ref``; it defaults to `schema` itself.
    """
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return None
    home = schema if root is None else root
    if isinstance(reference := schema.get("$ref"), str):
        return sample(
            _resolve(reference, home),
            home,
            depth + 1,
        )
    for word in ("const", "default"):
        if schema.get(word) is not None:
            return schema[word]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(word), list) and options:
            chosen = next(
                (
                    option
                    for option in options
                    if isinstance(option, Mapping) and option.get("type") != "null"
                ),
                options[0],
            )
            return sample(chosen, home, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, str):
        kind = kind.lower()
    else:
        kind = "object" if "properties" in schema else "string"
    if kind == "object":
        properties = schema.get("properties")
        parts = properties if isinstance(properties, Mapping) else {}
        return {
            name: sample(
                part,
                home,
                depth + 1,
            )
            for name, part in parts.items()
        }
    if kind == "array":
        return [
            sample(
                schema.get("items", {"type": "string"}),
                home,
                depth + 1,
            )
        ]
    return _PLAIN.get(kind)


def _resolve(reference: str, root: Mapping[str, object]) -> object:
    """Return the part of `root` that a local ``#/a/b`` reference points at, or None."""
    part: object = root
    for step in reference.removeprefix("#/").split("/"):
        part = part.get(step) if isinstance(part, Mapping) else None
    return part
