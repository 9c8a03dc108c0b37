"""The installed crewmeter as a wheel, for an image that needs no index.

A wheel is a zip of the files of a distribution and a list of their hashes
(https://packaging.python.org/specifications/binary-distribution-format/). crewmeter is pure Python,
so the files of any installation make one, without a build tool.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["installed_wheel", "wheel_name"]

_CHECKOUT = Path(__file__).parents[3]
_TAG = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: crewmeter\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
_NOT_PACKED = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "WHEEL"}
"""Files of an installation that do not belong into a wheel, or are written anew."""
# A fixed date: the same files make the same wheel.
_DATE = (2026, 1, 1, 0, 0, 0)


def wheel_name(version: str) -> str:
    """Return the file name of crewmeter's wheel."""
    return f"crewmeter-{version}-{_TAG}.whl"


def installed_wheel() -> bytes:
    """Return the installed version as a wheel.

    Raises `CrewMeterError` where the installation lacks its own files.
    """
    distribution = metadata.distribution("crewmeter")
    folder = f"crewmeter-{distribution.version}.dist-info"
    packed = dict(_checkout_files() if _is_checkout() else _installed_files(distribution))
    for name in ("METADATA", "entry_points.txt"):
        packed[f"{folder}/{name}"] = (distribution.read_text(name) or "").encode()
    packed[f"{folder}/WHEEL"] = _WHEEL.encode()
    if "crewmeter/__init__.py" not in packed:
        raise CrewMeterError(
            "the files of this installation cannot be found",
            hint="install crewmeter from a wheel (make wheel), or use --from-index",
        )
    record = [_record_line(name, content) for name, content in packed.items()]
    record.append(f"{folder}/RECORD,,")
    packed[f"{folder}/RECORD"] = "\n".join([*record, ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in packed.items():
            archive.writestr(
                zipfile.ZipInfo(name, _DATE),
                content,
                zipfile.ZIP_DEFLATED,
            )
    return out.getvalue()


def _is_checkout() -> bool:
    return (_CHECKOUT / "pyproject.toml").is_file()


def _record_line(name: str, content: bytes) -> str:
    hashed = hashlib.sha256(content).digest()
    encoded = base64.urlsafe_b64encode(hashed)
    digest = encoded.rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def _checkout_files() -> Iterator[tuple[str, bytes]]:
    """Yield what `pyproject.toml` says goes into the wheel.

    Packages come first, then files from elsewhere.
    """
    text = (_CHECKOUT / "pyproject.toml").read_text("utf-8")
    build = tomllib.loads(text)["tool"]["hatch"]["build"]
    wanted = build["targets"]["wheel"]
    for package in wanted["packages"]:
        root = _CHECKOUT / package
        yield from _tree(root, root.name)
    for source, target in wanted["force-include"].items():
        yield from _tree(_CHECKOUT / source, target)


def _tree(root: Path, target: str) -> Iterator[tuple[str, bytes]]:
    """Yield a file, or every file under a folder, by its name in the wheel."""
    if root.is_file():
        yield target, root.read_bytes()
        return
    for path in sorted(root.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        name = path.relative_to(root).as_posix()
        yield f"{target}/{name}", path.read_bytes()


def _installed_files(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files that the installer recorded, without scripts and its own notes."""
    for file in distribution.files or ():
        name = file.as_posix()
        if name.startswith("..") or "__pycache__" in name:
            continue
        if file.name in _NOT_PACKED:
            continue
        path = Path(str(file.locate()))
        if path.is_file():
            yield name, path.read_bytes()
