"""``crewmeter alerts test``.

Send one alert through Alertmanager and say who receives it.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
import yaml

from crewmeter_cost.cli.options import Format, FormatOption
from crewmeter_cost.cli.output import print_csv, print_json
from crewmeter_cost.errors import CrewMeterError

__all__ = ["register"]

_DEFAULT_URL = "http://127.0.0.1:9093"
_TIMEOUT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 10 * 1024 * 1024
_LASTS = timedelta(minutes=5)
_NAME = "CrewMeterTest"
_COLUMNS = ("alert", "url", "receivers", "silent_receivers", "resolves_at")


@dataclass(frozen=True, slots=True)
class _Sent:
    """The alert that was sent, and the receivers that Alertmanager routes it to."""

    url: str
    resolves_at: str
    receivers: tuple[str, ...]
    silent: tuple[str, ...]
    """Receivers that are configured without any way to notify."""

    def document(self) -> dict[str, object]:
        return {
            "alert": _NAME,
            "url": self.url,
            "receivers": list(self.receivers),
            "silent_receivers": list(self.silent),
            "resolves_at": self.resolves_at,
        }


def register(app: typer.Typer, help: str) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True)
    group.command("test", help="Send a test alert through Alertmanager; exit 1 if nobody gets it.")(
        _test
    )
    # A group with one command would otherwise run it without being named.
    group.callback()(lambda: None)
    app.add_typer(group, name="alerts", help=help)


def _test(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help=f"Alertmanager. Default: $CREWMETER_ALERTMANAGER_URL, else {_DEFAULT_URL}.",
        ),
    ] = None,
    severity: Annotated[
        str,
        typer.Option(
            "--severity",
            metavar="LEVEL",
            help="Label: page, ticket, warning …",
        ),
    ] = "warning",
    crew: Annotated[
        str,
        typer.Option(
            "--crew",
            metavar="NAME",
            help="Label: the crew that the alert names.",
        ),
    ] = "test-crew",
    format: FormatOption = Format.TABLE,
) -> None:
    address = url or os.environ.get("CREWMETER_ALERTMANAGER_URL") or _DEFAULT_URL
    sent = _send(
        address.rstrip("/"),
        severity=severity,
        crew=crew,
    )
    if format is Format.JSON:
        print_json(sent.document())
    elif format is Format.CSV:
        row = sent.document()
        row["receivers"] = " ".join(sent.receivers)
        row["silent_receivers"] = " ".join(sent.silent)
        print_csv(_COLUMNS, [row])
    else:
        _print(sent)
    reached = [name for name in sent.receivers if name not in sent.silent]
    if not reached:
        sys.stderr.write(
            "check failed: no receiver notifies anybody; fill in one in .env "
            "(Slack, PagerDuty, e-mail or webhook) and restart Alertmanager\n"
        )
        raise typer.Exit(1)


def _send(url: str, *, severity: str, crew: str) -> _Sent:
    """Post the alert, then read back how it is routed."""
    now = datetime.now(UTC)
    resolves_at = now + _LASTS
    alert = {
        "labels": {"alertname": _NAME, "severity": severity, "crew": crew, "service": "crewmeter"},
        "annotations": {
            "summary": f"Test alert of crewmeter for crew {crew}",
            "description": "Sent by `crewmeter alerts test`. Nothing is wrong.",
        },
        "startsAt": now.isoformat(),
        "endsAt": resolves_at.isoformat(),
    }
    _request(f"{url}/api/v2/alerts", body=[alert])
    query = urllib.parse.urlencode({"filter": f'alertname="{_NAME}"'})
    found = _request(f"{url}/api/v2/alerts?{query}")
    names = {receiver["name"] for each in found or () for receiver in each.get("receivers", ())}
    silent = _silent_receivers(_request(f"{url}/api/v2/status"))
    receivers = tuple(sorted(names))
    return _Sent(
        url,
        f"{resolves_at:%Y-%m-%dT%H:%M:%SZ}",
        receivers,
        tuple(name for name in receivers if name in silent),
    )


def _silent_receivers(status: Any) -> set[str]:
    """Return the receivers of Alertmanager's configuration that have no integration."""
    try:
        configuration = yaml.safe_load(status["config"]["original"]) or {}
        receivers = configuration.get("receivers") or []
        return {
            str(receiver.get("name"))
            for receiver in receivers
            if not any(key.endswith("_configs") and receiver[key] for key in receiver)
        }
    except (KeyError, TypeError, AttributeError, yaml.YAMLError):
        # Without the configuration nothing can be said against a receiver.
        return set()


def _request(url: str, *, body: object | None = None) -> Any:
    """Return the JSON of an answer, None for an empty one."""
    if not url.startswith(("http://", "https://")):
        raise CrewMeterError(f"--url {url!r} has no scheme", hint=f"write it as {_DEFAULT_URL}")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url,
        data=data,
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            answer = response.read(_MAX_ANSWER_BYTES)
            if answer.strip():
                return json.loads(answer)
            return None
    except urllib.error.HTTPError as error:
        raise CrewMeterError(
            f"Alertmanager refuses the request: {error.code} {error.reason} ({url})", exit_code=1
        ) from error
    except (OSError, ValueError) as error:
        raise CrewMeterError(
            f"no Alertmanager answers at {url}: {error}",
            hint="start the stack (docker compose up), or give --url",
            exit_code=1,
        ) from error


def _print(sent: _Sent) -> None:
    sys.stdout.write(f"sent {_NAME} to {sent.url}; it resolves at {sent.resolves_at}\n")
    for name in sent.receivers:
        how = "has no way to notify" if name in sent.silent else "notified"
        sys.stdout.write(f"receiver {name}: {how}\n")
