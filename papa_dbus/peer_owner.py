"""The user who owns the other end of a TCP connection on this machine: asked of Linux, never of the other end.

Used by papad, which must know who connects, and by the client, which must know who listens. Imports nothing of the
project's.
"""

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

Address = IPv4Address | IPv6Address
End = tuple[Address, int]

_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_NLM_F_REQUEST, _NLMSG_ERROR = 1, 2
# net/tcp_states.h: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING. A listener, and a socket whose
# handshake is not over (SYN_SENT, SYN_RECV), is nobody's other end.
_CONNECTED = frozenset({1, 4, 5, 8, 9, 11})
_NO_COOKIE = b"\xff" * 8
_LOOPBACK_INDEX = 1  # of the interface lo: so a socket that is bound to it is found, too
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI")  # struct inet_diag_req_v2, up to the addresses
_SOCKID = struct.Struct("!HH16s16s")  # struct inet_diag_sockid, up to the interface
_ANSWER = struct.Struct("=BBBB48xIIIII")  # struct inet_diag_msg; the 48 bytes are the inet_diag_sockid
_CREDENTIALS = struct.Struct("=iII")  # struct ucred, unix(7)
_TIMEOUT: Final = 2.0
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def end_of(name: tuple[str, int]) -> End:
    """Return an address and port as Linux keeps them: an IPv4 connection to an IPv6 socket is one of IPv4."""
    address = ip_address(name[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address, name[1]


def unix_credentials(sock: socket.socket) -> tuple[int, int]:
    """Return the PID and the user of who has connected to this Unix socket, or of who listened when it connected."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def owner_of_peer(sock: socket.socket) -> int | None:
    """Return the user at the other end of a TCP connection, None if Linux does not say. Raises OSError.

    The ends are looked at again after the answer: if the connection had been reset meanwhile, the answer might be about
    another one between the same two ports.
    """
    names = sock.getpeername(), sock.getsockname()
    uid = owner(*map(end_of, names))
    if (sock.getpeername(), sock.getsockname()) != names:
        return None
    return uid


def owner(local: End, remote: End) -> int | None:
    """Return the user of the connected TCP socket with these two ends on this machine, None if there is no such socket.

    If its owner has closed a socket, Linux still lists it, as root's and without an inode: a caller who sends its
    commands and closes at once must not be taken for root. So a socket without an inode counts as none. The same is so
    of one that a listener has not accepted yet.

    Raises OSError if there is no descriptor or memory left to ask.
    """
    uid = _ask_diag(local, remote)
    if uid is None and _ask_diag(remote, local) is None:  # not even our own end: there is no sock_diag for TCP here
        uid = _search_proc(local, remote)
        if uid is not None and _search_proc(local, remote) != uid:  # it is not known in what order a line is written
            uid = None
    return uid


def _ask_diag(local: End, remote: End) -> int | None:
    """Ask sock_diag(7) for one connection: one message each way, whatever the number of connections."""
    family = socket.AF_INET if local[0].version == 4 else socket.AF_INET6
    ends = _SOCKID.pack(local[1], remote[1], local[0].packed, remote[0].packed)
    ends += struct.pack("=I", _LOOPBACK_INDEX) + _NO_COOKIE
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(_TIMEOUT)
            diag.sendto(header + request, (0, 0))
            return _read_answer(diag.recv(8192), local, remote)
    except OSError as error:
        if error.errno in _SHORT:
            raise
        return None


def _read_answer(answer: bytes, local: End, remote: End) -> int | None:
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR or len(answer) < _HEADER.size + _ANSWER.size:
        return None
    family, state, _, _, _, _, _, uid, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    sport, dport, source, destination = _SOCKID.unpack_from(answer, _HEADER.size + 4)
    size = 4 if family == socket.AF_INET else 16
    found = (end_of((str(ip_address(source[:size])), sport)), end_of((str(ip_address(destination[:size])), dport)))
    # A port's listener is the answer if the connection itself is gone.
    if found != (local, remote) or state not in _CONNECTED or not inode:
        return None
    return int(uid)


def _search_proc(local: End, remote: End) -> int | None:
    """Search /proc/net (proc_net_tcp, proc(5)), for a Linux without sock_diag."""
    for name in ("tcp", "tcp6"):
        try:
            with Path("/proc/net", name).open(encoding="ascii") as table:
                next(table)
                for line in table:
                    fields = line.split()
                    if (
                        _proc_end(fields[1]) == local
                        and _proc_end(fields[2]) == remote
                        and int(fields[3], 16) in _CONNECTED
                        and fields[9] != "0"
                    ):
                        return int(fields[7])
        except OSError as error:
            if error.errno in _SHORT:
                raise
            continue
    return None


def _proc_end(text: str) -> End:
    """Return an end such as 0100007F:4EEA: 32-bit words in the machine's byte order."""
    address, port = text.split(":")
    words = struct.unpack(f"!{len(address) // 8}I", bytes.fromhex(address))
    packed = struct.pack(f"={len(words)}I", *words)
    return end_of((str(ip_address(packed)), int(port, 16)))
