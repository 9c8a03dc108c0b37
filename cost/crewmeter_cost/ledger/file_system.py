"""File systems that a SQLite ledger should not be on.

Its write-ahead log needs memory that all its processes share and locks that really exclude each
other. Over a network, and through most of FUSE, there is neither, and two writers can damage the
file (https://sqlite.org/wal.html, "All processes using a database must be on the same host").
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

__all__ = ["network_file_system", "warn_of_network"]

_log = logging.getLogger("crewmeter")

_MOUNTS = Path("/proc/self/mountinfo")
"""Linux only. Elsewhere nothing is known, and nothing is said."""
_NETWORK = frozenset(
    {
        "9p",  # also Windows drives in WSL
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",  # also bind mounts of Docker Desktop
    }
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.bindfs", "fuse.lxcfs"})
"""Local in the end; the first is the root of rootless containers."""
_ESCAPE = re.compile(r"\\([0-7]{3})")

_warned: set[str] = set()


def network_file_system(path: Path) -> str | None:
    """Return the type of a path's file system if SQLite is not safe there, else None.

    The path need not exist.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    kind = ""
    longest = -1
    for line in mounts:
        # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw      (man 5 proc)
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_ESCAPE.sub(_character, fields[4]))
        # Of two mounts at one point the later one is seen.
        if len(point.parts) >= longest and real.is_relative_to(point):
            longest = len(point.parts)
            kind = right.split(" ")[0]
    if kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
        return kind
    return None


def warn_of_network(path: Path) -> None:
    """Log once a process that a ledger is on such a file system."""
    kind = network_file_system(path)
    if kind is None or str(path) in _warned:
        return
    _warned.add(str(path))
    _log.warning(
        "the ledger %s is on a file system of type %s, where SQLite can be damaged by "
        "two writers; use a local disk, `crewmeter serve`, or PostgreSQL",
        path,
        kind,
    )


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))
