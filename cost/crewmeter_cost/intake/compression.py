"""Compressed request bodies, decompressed only up to a limit.

A bomb of kilobytes must not become gigabytes.
"""

from __future__ import annotations

import io
import zlib

from crewmeter_cost.errors import CorruptBody, TooLarge, UnknownEncoding

__all__ = ["ENCODINGS", "opened"]

ENCODINGS = ("gzip", "deflate", "zstd", "identity")
_ZSTD_WINDOW = 1 << 23
"""Bytes a zstd frame may ask the reader to hold: 8 MiB, what RFC 9659 demands of HTTP."""


def opened(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Return a body as it was before compression, at most `limit` bytes.

    `encoding` is the Content-Encoding header, perhaps empty.

    Raises `TooLarge`, `CorruptBody` or `UnknownEncoding`.
    """
    name = encoding.strip().lower() or "identity"
    if name == "identity":
        plain = body
    elif name in ("gzip", "x-gzip"):
        plain = _inflate(
            body,
            zlib.MAX_WBITS | 16,
            limit,
        )
    elif name == "deflate":
        plain = _inflate(
            body,
            zlib.MAX_WBITS if body[:1] == b"\x78" else -zlib.MAX_WBITS,
            limit,
        )
    elif name == "zstd":
        plain = _zstd(body, limit)
    else:
        raise UnknownEncoding(
            f"Content-Encoding {name[:32]!r} is not known; send gzip, deflate, zstd or none"
        )
    if len(plain) > limit:
        raise TooLarge(f"the body opens to more than {limit} bytes")
    return plain


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    """Undo zlib's three framings.

    A gzip body may have several members one after the other.
    """
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        member = zlib.decompressobj(window)
        try:
            part = member.decompress(
                rest,
                limit + 1 - size,
            )
        except zlib.error:
            raise CorruptBody("the body is not what its Content-Encoding says") from None
        parts.append(part)
        size += len(part)
        if size > limit:
            break
        if not member.eof:
            raise CorruptBody("the compressed body is cut off")
        rest = member.unused_data
    return b"".join(parts)


def _zstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise UnknownEncoding(
            "Content-Encoding zstd needs the package zstandard here; send gzip, or install "
            "crewmeter[sidecar]"
        ) from None
    try:
        with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(
            io.BytesIO(body), read_across_frames=True
        ) as reader:
            return reader.read(limit + 1)
    except zstandard.ZstdError:
        raise CorruptBody("the body is not what its Content-Encoding says") from None
