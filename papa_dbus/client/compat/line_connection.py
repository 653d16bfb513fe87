"""A connection of the line protocol, as a client has it. Knows lines, answers and the prompt, and no command.

Before it says or believes anything it makes sure whose the other end is.
"""

import contextlib
import os
import select
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from papa_dbus import peer_owner
from papa_dbus.errors import NoReply, NotPapas, PapaError, Unreachable

_PROMPT = b"\n> "
_WELCOME = b"Papa is home"
_ERROR = b"Error: "
#: Bytes of one answer or piece of output: more is no papad's.
MOST = 64 * 1024 * 1024

Where = int | str  # a port on this machine, or the path of a Unix socket


class Connection:
    """One connection. Its reads and writes raise OSError and EOFError; ``telling`` says it in a person's words."""

    def __init__(self, where: Where, patience: float) -> None:
        address: str | tuple[str, int] = where if isinstance(where, str) else ("127.0.0.1", where)
        self.socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET, socket.SOCK_STREAM)
        self.name = _name(where)
        self._data = bytearray()
        self.socket.settimeout(patience)
        try:
            self.socket.connect(address)
            self._greet()
        except BaseException:
            self.socket.close()
            raise
        _connections.add(self)

    def _greet(self) -> None:
        # What has said something has accepted the connection, so that its end has an owner.
        if _like_papa(self.socket.recv(len(_WELCOME), socket.MSG_PEEK)):
            self._check_owner()
        greeting = self.until(_end_of_greeting)
        if greeting.startswith(_ERROR):
            raise PapaError(greeting[len(_ERROR) :].decode(errors="replace").strip())
        if not greeting.startswith(_WELCOME):
            raise Unreachable(f"what listens at {self.name} is not Papa; choose another port or path")

    def _check_owner(self) -> None:
        """Raise NotPapas unless root or this process's own user is at the other end. Anybody may listen on a port."""
        if self.socket.family == socket.AF_UNIX:
            uid: int | None = peer_owner.unix_credentials(self.socket)[1]
        else:
            uid = peer_owner.owner_of_peer(self.socket)
        if uid is None:
            raise EOFError("Linux does not say which user is at the other end, as when it has closed the connection")
        if uid not in (0, os.geteuid()):
            raise NotPapas(
                f"{self.name} is not papad's: user {uid} listens there, not root or user {os.geteuid()}; nothing was"
                " sent to it"
            )

    @classmethod
    def open(cls, where: Where, timeout: float, patience: float) -> Self:
        """Connect within ``patience`` seconds; after that ``timeout`` bounds each answer.

        Raises Unreachable if nobody listens, or it is not Papa who does, NotPapas if it is another user, and NoReply if
        nobody answers.
        """
        try:
            connection = cls(where, patience)
        except TimeoutError:
            raise NoReply(f"papad at {_name(where)} did not answer in {patience:.3g} s") from None
        except (OSError, EOFError) as error:
            raise Unreachable(f"no papad at {_name(where)}: {_reason(error)}") from None
        connection.socket.settimeout(timeout)
        return connection

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Say what goes wrong with the connection, or with what came over it, as NoReply."""
        try:
            yield
        except TimeoutError:
            raise NoReply(f"papad at {self.name} did not answer in {self.socket.gettimeout():g} s") from None
        except ValueError as error:
            raise NoReply(f"papad at {self.name} answered what is not understood: {error}") from None
        except (OSError, EOFError) as error:
            raise NoReply(f"the connection to papad at {self.name} broke: {_reason(error)}") from None

    def close(self) -> None:
        """Close it, and wake a thread that waits for something to read."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    @property
    def idle(self) -> bool:
        """Return whether it is there and nothing came unasked, as its end would."""
        return self.socket.fileno() >= 0 and not readable(self.socket.fileno())

    def command(self, words: Sequence[str]) -> str:
        """Send a command of words that are quoted already, and give the answer. Raises PapaError for an error."""
        self.write(words)
        return self.answer()

    def write(self, words: Sequence[str]) -> None:
        """Send a line. Raises PapaError for words that cannot be told apart in it."""
        if not all(words):
            raise PapaError("an empty name is not possible")
        for word in words[:-1]:
            if word.endswith("\\"):
                raise PapaError(f"{word[:60]!r} ends with a backslash, which the line protocol would take for a space")
        self.socket.sendall(" ".join(words).encode() + b"\n")

    def answer(self) -> str:
        """Return an answer, up to the prompt. Raises PapaError for an error."""
        return _text(self.until(_end_of_answer).removesuffix(_PROMPT))

    def line(self) -> str:
        """Return a line; what follows stays where select() sees it. Raises PapaError for an error."""
        return _text(self.until(end_of_line, at_once=1)[:-1])

    def until(self, end: Callable[[bytearray], int], at_once: int = 65536) -> bytes:
        """Return what comes up to where ``end`` says that it is complete; -1 says that it is not."""
        while (size := end(self._data)) < 0:
            if len(self._data) > MOST:
                raise ValueError(f"more than {MOST} bytes")
            piece = self.socket.recv(at_once)
            if not piece:
                raise EOFError("it was closed at the other end")
            self._data += piece
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


#: Those of this process.
_connections: "weakref.WeakSet[Connection]" = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Let go, in a forked child: its words would be mixed with its parent's, whose end papad would not see."""
    for connection in list(_connections):
        connection.socket.close()


os.register_at_fork(after_in_child=_leave_to_parent)


def _name(where: Where) -> str:
    return where if isinstance(where, str) else f"127.0.0.1:{where}"


def _reason(error: OSError | EOFError) -> str:
    return getattr(error, "strerror", None) or str(error)


def readable(fd: int, timeout: float | None = 0) -> bool:
    """Wait, ``timeout`` seconds at most, until there is something to read; whether there is."""
    poll = select.poll()  # not select(), which knows no descriptor above 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


def _text(answer: bytes) -> str:
    """Return an answer's text. Raises PapaError for an error."""
    if answer.startswith(_ERROR):
        raise PapaError(answer[len(_ERROR) :].decode(errors="replace"))
    return answer.decode(errors="replace")


def _end_of_greeting(data: bytearray) -> int:
    """Return the length of a whole greeting: a prompt, an error's line, or what can become neither; -1: not whole."""
    if data.startswith(_ERROR):
        return end_of_line(data)
    return len(data) if not _like_papa(data) or data.endswith(_PROMPT) else -1


def _like_papa(data: bytes | bytearray) -> bool:
    """Return whether it is, or may become, papad's greeting or an error."""
    return any(data[: len(start)] == start[: len(data)] for start in (_WELCOME, _ERROR))


def end_of_line(data: bytearray) -> int:
    return data.find(b"\n") + 1 or -1


def _end_of_answer(data: bytearray) -> int:
    return len(data) if data.endswith(_PROMPT) else -1
