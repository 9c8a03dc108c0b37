"""The settings of an LLM object are found wherever its class has them."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from pydantic import BaseModel, ConfigDict

from crewmeter.spans.labels import declared_provider, endpoint_of, settings_of


class Fields(BaseModel):
    """As most of CrewAI's LLM classes are."""

    provider: str = "OpenAI"
    base_url: str | None = None


class Extra(BaseModel):
    """A class that takes whatever it is given."""

    model_config = ConfigDict(extra="allow")


class OnTheClass:
    """A class of somebody's own, with attributes of the class and a property."""

    provider = "OpenAI"

    @property
    def endpoint(self) -> str:
        return "https://h/v1"


class Forwarding:
    """A wrapper that forwards to another object."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class OddConfig:
    """A class whose ``model_config`` is not pydantic's."""

    model_config = 3

    def __init__(self) -> None:
        self.provider = "openai"
        self.endpoint = "https://h/v1"


class Slots:
    """A class whose objects have no ``__dict__``."""

    __slots__ = ("api_base", "provider")

    def __init__(self) -> None:
        self.provider = "openai"
        self.api_base = "https://h/v1"


@pytest.mark.parametrize(
    "source",
    [
        Fields(base_url="https://h/v1"),
        Extra(provider="openai", endpoint="https://h/v1"),
        OnTheClass(),
        Forwarding(Fields(base_url="https://h/v1")),
        OddConfig(),
        Slots(),
        MagicMock(provider="openai", base_url="https://h/v1"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_settings_are_found(source):
    """In its ``__dict__``, on its class, in its extra fields, or by its own look-up."""
    setting = settings_of(source)
    assert declared_provider(setting) == "openai"
    assert endpoint_of(setting) == "https://h/v1"


@pytest.mark.parametrize("source", [None, object(), Fields(provider=""), "text"])
def test_settings_that_are_not_there_are_none(source):
    """Nothing is raised for objects that have none of it."""
    setting = settings_of(source)
    assert declared_provider(setting) is None
    assert endpoint_of(setting) is None
