"""The TracerProvider that spans belong to, beside our own pipeline.

It is the one passed in, else the one the app set globally, else none.
"""

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

__all__ = ["AppTracerProvider"]

_NOT_OURS = frozenset({"crewAI-telemetry"})
"""Service names of providers that are no user's.

CrewAI before 1.15 set a global one for its own telemetry.
"""


class AppTracerProvider:
    """The app's tracer provider, looked up anew for every run.

    Many apps set theirs after they have called `instrument`.
    """

    def __init__(self, given: trace.TracerProvider | None, service_name: str | None) -> None:
        self._given = given
        self._service_name = service_name
        self._seen: trace.TracerProvider | None = None
        self._tracer: Tracer | None = None
        # Made here, since resource detectors start threads, which is impossible at exit.
        names = {SERVICE_NAME: service_name} if service_name else None
        self._environment = Resource.create(names)
        self._resource: Resource | None = None
        self.exports_otlp = False
        """Whether the user's provider exports OTLP, so that ours sends only what it dropped."""

    def sampler(self) -> Sampler:
        """Return what ``OTEL_TRACES_SAMPLER`` says. It marks spans and never drops usage."""
        return TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler

    def tracer(self) -> Tracer | None:
        """Return a tracer of the user's provider, None where there is no such provider."""
        if self._seen in _unset and getattr(trace, "_TRACER_PROVIDER", trace) is None:
            # As most apps have it: none given, none set, and looked at before.
            return None
        provider = self._given or _global_provider()
        if provider is not self._seen:
            self._seen = provider
            self._resource = None
            self._tracer = None
            self.exports_otlp = False
            if self._is_users(provider):
                self._tracer = provider.get_tracer(semconv.SCOPE, version())
                self.exports_otlp = isinstance(provider, TracerProvider) and exports_otlp(provider)
        return self._tracer

    def _is_users(self, provider: trace.TracerProvider) -> bool:
        """Return True for a provider passed in, or a global one that the app has set."""
        if self._given is not None:
            return True
        return isinstance(provider, TracerProvider) and _service(provider) not in _NOT_OURS

    def resource(self) -> Resource:
        """Return the resource of spans: the user's provider's, else the environment's.

        ``service_name=`` goes on top.
        """
        if self._resource is None:
            self._resource = self._environment
            if self._tracer is not None and isinstance(self._seen, TracerProvider):
                self._resource = self._seen.resource
                if self._service_name:
                    named = Resource({SERVICE_NAME: self._service_name})
                    self._resource = self._resource.merge(named)
        return self._resource


def _global_provider() -> trace.TracerProvider:
    """Return the app's provider, or the API's proxy while the app has set none.

    The API's own getter reads the environment each time, which costs a call 4 µs. So the proxy is
    remembered.
    """
    if getattr(trace, "_TRACER_PROVIDER", trace) is None and _unset:
        return _unset[0]
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        _unset[:] = [provider]
    return provider


_unset: list[trace.TracerProvider] = []
"""The API's proxy for a provider nobody has set, once it was met."""


def _service(provider: TracerProvider) -> object:
    return provider.resource.attributes.get(SERVICE_NAME)
