"""Budget accounts behind a sidecar's budget API.

Requests are short and time out soon, and none is made while a lease lasts.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from crewmeter_cost.budgets.leases import Balance
from crewmeter_cost.errors import BalanceUnavailableError, CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.local_balance import Window

__all__ = ["TIMEOUT_SECONDS", "RemoteBalanceStore"]

TIMEOUT_SECONDS = 0.3
"""Timeout of connecting and of each read. After that ``on_unknown`` decides."""
_GRPC_PORT = 4317
_HTTP_PORT = 4318
_LONGEST = 65_536


class RemoteBalanceStore:
    """A `BalanceStore` behind ``POST /api/budgets/lease`` and ``/settle``.

    Each request has a connection of its own, since there are few.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        problem = CrewMeterError(
            f"{endpoint!r} is no address of a sidecar", hint="write http://host:4318"
        )
        try:
            parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
            port = parts.port
        except ValueError:
            raise problem from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise problem
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        if port is None:
            port = 443 if self._secure else _HTTP_PORT
        # An OTLP endpoint may name the gRPC port. The API is on the HTTP port beside it.
        self._port = _HTTP_PORT if port == _GRPC_PORT else port
        self._base = parts.path.rstrip("/").removesuffix("/v1/traces")
        self._headers = {"Content-Type": "application/json", **_credentials(headers)}

    def lease(self, budget: Budget, window: Window, *, holder: str, need_pusd: int) -> Balance:
        """Implement `BalanceStore`."""
        return self._post(
            "lease",
            budget,
            window,
            {"holder": holder, "need_pusd": need_pusd},
        )

    def rows_pusd(self, budget: Budget, window: Window) -> int | None:
        """Return None: the sidecar consults its rows and announces by itself."""
        return None

    def book(
        self,
        budget: Budget,
        window: Window,
        *,
        holder: str,
        spent_pusd: int,
        returned_pusd: int,
        rows_pusd: int | None = None,
    ) -> Balance:
        """Implement `BalanceStore`."""
        amounts = {"spent_pusd": spent_pusd, "returned_pusd": returned_pusd}
        return self._post(
            "settle",
            budget,
            window,
            {"holder": holder, **amounts},
        )

    def after_fork(self) -> None:
        """Do nothing: no connection stays open between requests."""

    def _post(
        self, verb: str, budget: Budget, window: Window, about: Mapping[str, object]
    ) -> Balance:
        document = {
            "budget": asdict(budget),
            "period_start": window.start,
            **about,
        }
        address = f"{self._host}:{self._port}"
        sent = False
        try:
            connection = self._connection()
            try:
                connection.connect()
                sent = True
                path = f"{self._base}/api/budgets/{verb}"
                connection.request(
                    "POST",
                    path,
                    json.dumps(document).encode(),
                    self._headers,
                )
                response = connection.getresponse()
                content = response.read(_LONGEST)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise BalanceUnavailableError(
                f"{address}: {type(error).__name__}", perhaps_done=sent
            ) from error
        if response.status != 200:
            raise BalanceUnavailableError(
                f"{address} answers HTTP {response.status} to /api/budgets/{verb}"
            )
        return _balance(content)

    def _connection(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(
                self._host,
                self._port,
                timeout=TIMEOUT_SECONDS,
            )
        context = _tls_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
        )


def _tls_context() -> ssl.SSLContext:
    """Return a context with the certificates that spans are sent with.

    Raises `OSError` where a file cannot be read.
    """
    authorities = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None
    context = ssl.create_default_context(cafile=authorities)
    certificate = os.environ.get("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
    if certificate:
        key = os.environ.get("OTEL_EXPORTER_OTLP_CLIENT_KEY") or None
        context.load_cert_chain(certificate, key)
    return context


def _balance(content: bytes) -> Balance:
    try:
        document = json.loads(content)
        return Balance(
            spent_pusd=int(document["spent_pusd"]),
            leased_pusd=int(document["leased_pusd"]),
            granted_pusd=int(document["granted_pusd"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BalanceUnavailableError(
            "the sidecar's response is not understood", perhaps_done=True
        ) from error


def _credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the Authorization header that spans are sent with.

    The one of ``headers=`` comes first, then that of ``OTEL_EXPORTER_OTLP_HEADERS``, else
    ``CREWMETER_TOKEN`` as a bearer key.
    """
    for name, value in headers.items():
        if name.lower() == "authorization":
            return {name: value}
    for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip().lower() == "authorization":
            return {"Authorization": unquote(value.strip())}
    token = os.environ.get("CREWMETER_TOKEN", "").partition(",")[0].strip()
    token = token.removeprefix("ingest:")
    if token:
        return {"Authorization": f"Bearer {token}"}
    return {}
