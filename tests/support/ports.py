"""Ports of this machine for servers that a test starts later, or stops and starts again."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port", "free_ports"]

# Below the range from which Linux, macOS and Windows take ports for outgoing connections: one of
# those would otherwise be taken by any client before the server has it, or while it is down.
_RANGE = range(20_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on."""
    [port] = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} free ports in {_RANGE}")
