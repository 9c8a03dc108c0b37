"""Whose TracerProvider spans belong to: one passed in, one the app set globally, else none but our own pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider

from crewmeter import semconv
from crewmeter.export.exporters import exports_otlp
from crewmeter.version import version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer

__all__ = ["Providers"]

_NOT_OURS = frozenset({"crewAI-telemetry"})
"""Service names of providers that are no user's: CrewAI before 1.15 set a global one for its own telemetry."""


class Providers:
    """Looks the user's provider up anew for every run, since many apps set theirs after calling `instrument`."""

    def __init__(self, given: trace.TracerProvider | None, service_name: str | None) -> None:
        self._given = given
        self._service_name = service_name
        self._seen: trace.TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._environment = Resource.create(
            {SERVICE_NAME: service_name} if service_name else None
        )  # starts threads: not at exit
        self._resource: Resource | None = None
        self.exports_otlp = False
        """Whether the user's provider sends OTLP itself, so that ours need send only what its sampler dropped."""

    def sampler(self) -> Sampler:
        """What ``OTEL_TRACES_SAMPLER`` asks for. It only marks our spans: usage is never sampled away."""
        return TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler

    def tracer(self) -> Tracer | None:
        """A tracer of the user's provider, or None where there is no such provider."""
        provider = self._given or _global_provider()
        if provider is not self._seen:
            self._seen = provider
            theirs = self._given is not None or (
                isinstance(provider, TracerProvider) and _service(provider) not in _NOT_OURS
            )
            self._tracer = provider.get_tracer(semconv.SCOPE, version()) if theirs else None
            self._resource = None
            self.exports_otlp = (
                theirs and isinstance(provider, TracerProvider) and exports_otlp(provider)
            )
        return self._tracer

    def resource(self) -> Resource:
        """What the spans come from: the user's provider's resource, else the environment's; ``service_name=`` on top."""
        if self._resource is None:
            theirs = (
                self._seen
                if self._tracer is not None and isinstance(self._seen, TracerProvider)
                else None
            )
            resource = theirs.resource if theirs is not None else self._environment
            if theirs is not None and self._service_name:
                resource = resource.merge(Resource({SERVICE_NAME: self._service_name}))
            self._resource = resource
        return self._resource


def _global_provider() -> trace.TracerProvider:
    """The app's provider. While it has set none the API's own getter asks the environment, which costs a call 4 µs; once is enough."""
    if getattr(trace, "_TRACER_PROVIDER", trace) is None and _unset:
        return _unset[0]
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        _unset[:] = [provider]
    return provider


_unset: list[trace.TracerProvider] = []
"""The API's stand-in for a provider nobody has set, once it was met."""


def _service(provider: TracerProvider) -> object:
    return provider.resource.attributes.get(SERVICE_NAME)
