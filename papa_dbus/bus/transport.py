"""The socket of a connection to a message bus: connected, and let in by the bus."""

import asyncio
import contextlib
import os
import socket
import struct

from dbus_next.errors import AuthError, InvalidAddressError

from papa_dbus.bus import unixexec
from papa_dbus.bus.address import parse

#: Bytes that the socket holds: replies go out behind them.
_SOCKET_BUFFER = 64 * 1024
#: Bytes of a line of the bus's while it lets us in.
_MAX_AUTH_LINE = 16 * 1024
#: Seconds that a thread waits at a time for a place in a bus's full queue.
_QUEUE_FULL = 1
_SHOWN = 200  # characters of such a line in an error


async def connect(address: str) -> tuple[socket.socket, unixexec.Program | None]:
    """Return a socket that is connected and does not block, and the program at its other end, if the address names one.

    The transports of an address are tried in its order. Raises InvalidAddressError, or the last one's OSError.
    """
    transports = parse(address)
    if unixexec.is_program(address):
        program = unixexec.Program(unixexec.words_of(transports[0][1]))
        return program.socket, program
    for transport, options in transports[:-1]:
        try:
            return await _open(transport, options), None
        except OSError:
            continue
    return await _open(*transports[-1]), None


async def _open(transport: str, options: dict[str, str]) -> socket.socket:
    place: str | tuple[str, int]
    if transport == "tcp":
        family, place = socket.AF_INET, (options.get("host", ""), int(options.get("port", 0)))
    elif transport == "unix" and "path" in options:
        family, place = socket.AF_UNIX, options["path"]
    elif transport == "unix" and "abstract" in options:
        family, place = socket.AF_UNIX, f"\0{options['abstract']}"
    else:
        raise InvalidAddressError(f"transport '{transport}' with {', '.join(options) or 'no option'} is not supported")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_UNIX:
            await _connect_unix(sock, place)
        else:
            await asyncio.get_running_loop().sock_connect(sock, place)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_unix(sock: socket.socket, place: str | tuple[str, int]) -> None:
    """Connect, and wait while those that the bus has not accepted yet fill its queue.

    Linux does not tell when there is room, and gives it to those who wait in connect(2), in turn: whoever only asks now
    and then comes last (16 s, seen). So a thread waits there.
    """
    while True:
        try:
            sock.connect(place)
        except BlockingIOError:
            with contextlib.suppress(BlockingIOError):
                await asyncio.to_thread(_connect_in_turn, sock, place)
                return
        else:
            return


def _connect_in_turn(sock: socket.socket, place: str | tuple[str, int]) -> None:
    """Wait for room in the queue, _QUEUE_FULL at most. Raises BlockingIOError if there was none."""
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _QUEUE_FULL, 0))  # socket(7)
    try:
        sock.connect(place)
    finally:
        sock.setblocking(False)


async def authenticate(sock: socket.socket, passes_descriptors: bool) -> None:
    """Have the bus let this process in as its user, and agree whether descriptors are passed.

    The protocol is the D-Bus Specification's, "Authentication Protocol". Raises AuthError if the bus refuses, OSError
    or EOFError if it goes.
    """
    user = str(os.geteuid()).encode().hex()
    await _request(sock, f"\0AUTH EXTERNAL {user}", "OK")
    if passes_descriptors:
        await _request(sock, "NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD")
    await _send_line(sock, "BEGIN")


async def _request(sock: socket.socket, line: str, expected: str) -> None:
    await _send_line(sock, line)
    answer = await _read_line(sock)
    if answer.split(" ")[0] != expected:
        raise AuthError(f"authentication failed: {answer[:_SHOWN]!r}")


async def _send_line(sock: socket.socket, line: str) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, f"{line}\r\n".encode())


async def _read_line(sock: socket.socket) -> str:
    """Return the next line, and read nothing beyond it."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\r\n") and len(line) < _MAX_AUTH_LINE:
        byte = await loop.sock_recv(sock, 1)
        if not byte:
            raise EOFError("it closed the connection")
        line += byte
    return line.decode(errors="replace").removesuffix("\r\n")
