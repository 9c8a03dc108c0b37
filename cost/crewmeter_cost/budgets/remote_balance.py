"""Accounts kept by a sidecar, over its budget API: short answers, short patience, and nothing asked while a lease lasts."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from crewmeter_cost.budgets.leases import Balance
from crewmeter_cost.budgets.local_balance import BalanceUnavailableError
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.local_balance import Window

__all__ = ["TIMEOUT_SECONDS", "RemoteBalanceStore"]

TIMEOUT_SECONDS = 0.3
"""How long a question may take, connecting included twice at most. Then ``on_unknown`` decides."""
_GRPC, _HTTP = 4317, 4318
_LONGEST = 65_536


class RemoteBalanceStore:
    """A `BalanceStore` behind ``POST /api/budgets/lease`` and ``/settle``. Each question has a connection of its own; there are few."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CrewMeterError(
                f"{endpoint!r} is no address of a sidecar", hint="write http://host:4318"
            )
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        port = parts.port or (443 if self._secure else _HTTP)
        self._port = _HTTP if port == _GRPC else port
        self._base = parts.path.rstrip("/").removesuffix("/v1/traces")
        self._headers = {"Content-Type": "application/json", **_credentials(headers)}

    def lease(
        self, budget: Budget, window: Window, *, holder: str, need_pusd: int, now: float
    ) -> Balance:
        """See `BalanceStore`."""
        return self._ask("lease", budget, window, {"holder": holder, "need_pusd": need_pusd})

    def book(
        self,
        budget: Budget,
        window: Window,
        *,
        holder: str,
        spent_pusd: int,
        returned_pusd: int,
        look: bool,
        now: float,
    ) -> Balance:
        """See `BalanceStore`. The sidecar looks at its rows and announces by itself."""
        return self._ask(
            "settle",
            budget,
            window,
            {"holder": holder, "spent_pusd": spent_pusd, "returned_pusd": returned_pusd},
        )

    def after_fork(self) -> None:
        """Nothing stays open between questions."""

    def _ask(
        self, verb: str, budget: Budget, window: Window, about: Mapping[str, object]
    ) -> Balance:
        body = json.dumps(
            {"budget": asdict(budget), "period_start": window.start, **about}
        ).encode()
        sent = False
        try:
            connection = self._connection()
            try:
                connection.connect()
                sent = True
                connection.request("POST", f"{self._base}/api/budgets/{verb}", body, self._headers)
                answer = connection.getresponse()
                content = answer.read(_LONGEST)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise BalanceUnavailableError(
                f"{self._host}:{self._port}: {type(error).__name__}", perhaps_done=sent
            ) from error
        if answer.status != 200:
            raise BalanceUnavailableError(
                f"{self._host}:{self._port} answers HTTP {answer.status} to /api/budgets/{verb}"
            )
        return _balance(content)

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context(
                cafile=os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None
            )
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)


def _balance(content: bytes) -> Balance:
    try:
        document = json.loads(content)
        return Balance(
            int(document["spent_pusd"]), int(document["leased_pusd"]), int(document["granted_pusd"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BalanceUnavailableError(
            "the sidecar's answer is not understood", perhaps_done=True
        ) from error


def _credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers spans are sent with (``headers=``, else ``OTEL_EXPORTER_OTLP_HEADERS``), else ``CREWMETER_TOKEN`` as a bearer key."""
    found = {name: value for name, value in headers.items() if name.lower() == "authorization"}
    for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
        name, equals, value = pair.partition("=")
        if equals and not found and name.strip().lower() == "authorization":
            found["Authorization"] = unquote(value.strip())
    token = os.environ.get("CREWMETER_TOKEN", "").partition(",")[0].strip().removeprefix("ingest:")
    if token and not found:
        found["Authorization"] = f"Bearer {token}"
    return found
