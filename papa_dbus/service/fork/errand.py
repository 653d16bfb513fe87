"""What a process of its own does for papad, since it may hang: with the files of Unix sockets, wherever they are.

A thread would not do: one that waits for a dead file system cannot be ended, and keeps papad from ending, too. This
side runs in a forked child, which keeps little in memory for it. Its answer goes through the child's status pipe.
"""

import contextlib
import errno
import marshal
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

#: What tells a file from another of the same path; an inode's number alone may come again.
FileIdentity = tuple[int, ...]


class Errand(NamedTuple):
    """What is to be done, with what, and the descriptors for it: number in the child, and the forker's descriptor."""

    what: str
    arguments: tuple[str | int | FileIdentity, ...]
    descriptors: Mapping[int, int]


class _RefusedError(Exception):
    pass


def identity(path: str) -> FileIdentity | None:
    """Return a file's identity, None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _bind(number: int, path: str, umask: int) -> FileIdentity | None:
    sock = socket.socket(fileno=number)
    _clear_leftover(_enter(path), path, sock.type)
    os.umask(umask)
    sock.bind(path)
    return identity(path)


def _enter(path: str) -> str:
    """Go to a file's folder, and return the file's name there.

    The folder may be another user's, who can have its path lead elsewhere at any instant: a file that was looked at by
    its path is not for sure the one that is removed by it.
    """
    folder, name = os.path.split(path)
    os.chdir(folder)
    return name


def _clear_leftover(name: str, path: str, kind: int) -> None:
    """Remove a socket file that nobody listens on. Refuse if somebody does, or if it is something else."""
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _RefusedError(f"option 'path': {path} is there and is no socket")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(name)
    if result == errno.ECONNREFUSED:
        os.unlink(name)
    elif result != errno.ENOENT:
        raise _RefusedError(f"option 'path': {path} is in use: somebody listens on it")


def _remove(path: str, whose: FileIdentity) -> None:
    with contextlib.suppress(FileNotFoundError):
        name = _enter(path)
        if identity(name) == whose:
            os.unlink(name)


_ERRANDS: Mapping[str, Callable[..., FileIdentity | None]] = {"bind": _bind, "remove": _remove}


def run(status: int, what: str, arguments: tuple[object, ...]) -> NoReturn:
    """Do it in the child, say through ``status`` what came of it, and end."""
    try:
        answer: tuple[str, FileIdentity | str | int | None] = ("done", _ERRANDS[what](*arguments))
    except _RefusedError as error:
        answer = ("refused", str(error))
    except OSError as error:
        answer = ("failed", error.errno)
    os.write(status, marshal.dumps(answer))
    os._exit(0)
