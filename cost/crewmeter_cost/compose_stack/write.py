"""Write the stack: copied files, an image recipe, and new keys."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.compose_stack.stack_files import stack_files
from crewmeter_cost.compose_stack.wheel import installed_wheel, wheel_name
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DOCKERFILE", "WrittenFiles", "write_stack", "zone_in"]

_SECRETS = (
    "CREWMETER_TOKEN",
    "GRAFANA_ADMIN_PASSWORD",
    "POSTGRES_PASSWORD",
    "CREWMETER_GRAFANA_PASSWORD",
)

DOCKERFILE = """\
# crewmeter for docker-compose.yml, SOURCE.
FROM python:3.13-slim
ARG EXTRAS=sidecar,postgres
COPYRUN pip install --no-cache-dir "REQUIREMENT" \\
    && useradd --uid 10001 --create-home crewmeter \\
    && install -d -o 10001 -g 10001 /var/lib/crewmeter
USER 10001:10001
ENTRYPOINT ["crewmeter"]
CMD ["serve", "--host", "0.0.0.0"]
"""


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """What `write_stack` did, as paths inside the folder."""

    files: tuple[str, ...]
    retained: tuple[str, ...]
    """Already there and left alone."""


def write_stack(
    folder: Path,
    *,
    version: str,
    overwrite: bool = False,
    from_index: bool = False,
    zone: str = "UTC",
    in_zone: Mapping[str, str] | None = None,
) -> WrittenFiles:
    """Write the stack into `folder`, creating it if needed.

    Existing files stay unless `overwrite`, and ``.env`` always stays. The image is built from a
    wheel of the installed version, which is written too, or `from_index`. `zone` goes into a new
    ``.env``, and `in_zone` has the files that differ there, by path.

    Raises `CrewMeterError` where the folder can't be written.
    """
    written: list[str] = []
    retained: list[str] = []
    try:
        for name, source in stack_files().items():
            own = (in_zone or {}).get(name)
            _put(
                folder,
                name,
                source.read_bytes() if own is None else own.encode(),
                written,
                retained,
                overwrite=overwrite,
            )
            if name.endswith(".sh") and name in written:
                (folder / name).chmod(0o755)
        recipe = _recipe(version, from_index=from_index).encode()
        _put(folder, "Dockerfile", recipe, written, retained, overwrite=overwrite)
        if not from_index:
            wheel = f"wheels/{wheel_name(version)}"
            _put(
                folder,
                wheel,
                installed_wheel(),
                written,
                retained,
                overwrite=overwrite,
            )
        keys = _with_keys((folder / ".env.example").read_text())
        keys = re.sub(r"^CREWMETER_TZ=.*$", f"CREWMETER_TZ={zone}", keys, flags=re.MULTILINE)
        _put(
            folder,
            ".env",
            keys.encode(),
            written,
            retained,
            overwrite=False,
        )
        (folder / ".env").chmod(0o600)
    except OSError as error:
        raise CrewMeterError(
            f"{error.filename or folder} can't be written: {error.strerror}",
            hint="choose another folder",
        ) from error
    return WrittenFiles(tuple(written), tuple(retained))


def zone_in(settings: str) -> str | None:
    """Return the time zone that the text of a ``.env`` sets, None where it sets none."""
    values = re.findall(r"^[ \t]*CREWMETER_TZ=(.*)$", settings, flags=re.MULTILINE)
    if not values:
        return None
    value = re.sub(r"\s#.*$", "", values[-1])
    return value.strip().strip("\"'") or None


def _recipe(version: str, *, from_index: bool) -> str:
    """Return the image's Dockerfile for a version."""
    extras = "sidecar,postgres,${EXTRAS}"
    if from_index:
        parts = ("from the Python package index", "", f"crewmeter[{extras}]=={version}")
    else:
        wheel = f"/wheels/{wheel_name(version)}[{extras}]"
        parts = ("from the wheel beside it", "COPY wheels /wheels\n", wheel)
    text = DOCKERFILE
    for mark, part in zip(("SOURCE", "COPY", "REQUIREMENT"), parts, strict=True):
        text = text.replace(mark, part, 1)
    return text


def _put(
    folder: Path,
    name: str,
    content: bytes,
    written: list[str],
    retained: list[str],
    *,
    overwrite: bool,
) -> None:
    target = folder / name
    if target.exists() and not overwrite:
        retained.append(name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    written.append(name)


def _with_keys(example: str) -> str:
    """``.env.example`` with a random key instead of each default secret."""
    for name in _SECRETS:
        example = re.sub(
            rf"^{name}=.*$", f"{name}={secrets.token_urlsafe(24)}", example, flags=re.MULTILINE
        )
    return example
