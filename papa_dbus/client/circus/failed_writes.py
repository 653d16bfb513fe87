"""Writes of Circus's file streams that fail: undone, so that all of it can be written again."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def undone_if_it_fails(stream: Any) -> Iterator[None]:
    """Have a file stream of Circus's forget what was written here, if that fails."""
    before = _end_of_file(stream)
    write: Any = getattr(stream, "write_data", None)

    def note_and_write(data: Any) -> None:
        nonlocal before
        before = _end_of_file(stream)  # it may be another file by now
        write(data)

    if write is not None:
        stream.write_data = note_and_write
    try:
        yield
    except Exception:
        _undo(stream, before)
        raise
    finally:
        if write is not None:
            del stream.write_data


def _end_of_file(stream: Any) -> tuple[int, int] | None:
    """Return which file a file stream writes to, and how long it is."""
    try:
        status = os.fstat(stream._file.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return status.st_ino, status.st_size


def _undo(stream: Any, before: tuple[int, int] | None) -> None:
    """Have a file forget what was written since, in its buffer and on the disk."""
    if getattr(stream, "_file", None) is None:
        return
    with contextlib.suppress(OSError):
        stream.close()
    with contextlib.suppress(OSError):
        stream.open()
        if before is not None and (now := _end_of_file(stream)) is not None and now[0] == before[0]:
            os.ftruncate(stream._file.fileno(), before[1])
