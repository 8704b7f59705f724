"""Plain values as msgpack bytes, for messages, snapshots and records."""

from __future__ import annotations

from typing import Any

import msgpack


def pack(value: object) -> bytes:
    """A value of tuples, lists, dicts, texts, bytes, numbers and None."""
    data: bytes = msgpack.packb(value)
    return data


def pack_list_head(length: int) -> bytes:
    """The bytes that begin a list of so many values; these follow, each packed by itself."""
    head: bytes = msgpack.Packer().pack_array_header(length)
    return head


def unpack(data: bytes) -> Any:
    """The value in these bytes, with tuples for lists. Raises `ValueError`, whatever they are."""
    try:
        return msgpack.unpackb(data, use_list=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # TypeError: a map as a key
        raise ValueError(f"not msgpack: {error or type(error).__name__}") from error
