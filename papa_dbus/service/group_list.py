"""The groups of a user, asked of the user database by a thread that lets the others run meanwhile."""

import ctypes
import os

_MAX_GROUPS = 65536  # NGROUPS_MAX, limits.h
_libc = ctypes.CDLL(None)  # lets other threads run while it waits, as os.getgrouplist() does not


def groups_of(name: str, gid: int) -> list[int]:
    """Return a user's groups as getgrouplist(3) does. Blocks this thread only. Raises OSError."""
    room = 64
    while room <= _MAX_GROUPS:
        count = ctypes.c_int(room)
        groups = (ctypes.c_uint * room)()
        if _libc.getgrouplist(os.fsencode(name), ctypes.c_uint(gid), groups, ctypes.byref(count)) >= 0:
            return list(groups[: count.value])
        room = max(room * 2, count.value)
    raise OSError(f"user {name} is in more than {_MAX_GROUPS} groups")
