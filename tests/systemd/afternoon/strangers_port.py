"""Strangers at port 20202, each a user of its own: ``strangers_port.py KIND``, as root, until it is killed.

A socket's user is its maker's, and a privileged maker may say whose it is: so this program stands for many users, as
somebody's own subordinate users are, /etc/subuid. The local files know none of them.
"""

import itertools
import os
import random
import select
import socket
import sys
import time
from collections.abc import Callable

PORT = 20202
FIRST_UID = 200_000
SILENT = 1100
GUESTS = 50
LINE = b"set x " + b"x" * 60_000  # and no end


def connect(uid: int) -> socket.socket | None:
    """Connect as a user; None where nobody listens."""
    one = socket.socket()
    os.fchown(one.fileno(), uid, -1)
    one.settimeout(5)
    try:
        one.connect(("127.0.0.1", PORT))
    except OSError:
        one.close()
        return None
    one.setblocking(False)
    return one


def sit() -> None:
    """Hold as many connections as may be, of eight users in turns, send a line without an end, and never read."""
    held: list[socket.socket] = []
    for n in itertools.count():
        one = connect(FIRST_UID + n % 8)
        if one is not None:
            send(one, LINE)
            held.append(one)
        if len(held) > SILENT:
            held.pop(0).close()
        time.sleep(0.005)  # paces the connections


def come_and_go() -> None:
    """Fifty at a time, each of a user whom nobody has seen: ask for everything, and leave."""
    held: list[socket.socket] = []
    for n in itertools.count():
        one = connect(FIRST_UID + 100 + n % 60_000)
        if one is not None:
            send(one, b"list processes\nwatch process w.0\nGET / HTTP/1.1\r\n\r\n")
            held.append(one)
        if len(held) > GUESTS:
            going = held.pop(random.randrange(len(held)))
            if select.select([going], [], [], 0)[0] and n % 2:
                read(going)
            going.close()
        time.sleep(0.01)  # paces the connections


def send(one: socket.socket, data: bytes) -> None:
    """Send what it takes."""
    try:
        one.send(data)
    except OSError:
        return


def read(one: socket.socket) -> None:
    """Read what there is."""
    try:
        one.recv(4096)
    except OSError:
        return


KINDS: dict[str, Callable[[], None]] = {"sit": sit, "come-and-go": come_and_go}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
