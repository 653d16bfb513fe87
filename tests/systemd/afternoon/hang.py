"""Makes a folder hang, as one does whose server has gone: ``hang.py FOLDER``, until its input ends.

It mounts a FUSE file system there that answers when it is mounted and never again. Whoever looks at the folder waits,
and cannot be killed; that ends with this program, which is when Linux gives the connection up.
"""

import ctypes
import os
import stat
import struct
import sys
import threading
from typing import Final

_INIT: Final = 26  # fuse_opcode, linux/fuse.h
_DETACH: Final = 2  # MNT_DETACH
_libc = ctypes.CDLL(None, use_errno=True)


def mount(folder: str) -> int:
    """Mount it; returns the descriptor whose end ends it."""
    if not os.path.exists("/dev/fuse"):
        os.mknod("/dev/fuse", 0o600 | stat.S_IFCHR, os.makedev(10, 229))
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if _libc.mount(b"hang", folder.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), f"mount {folder}: {os.strerror(ctypes.get_errno())}")
    return fd


def answer_first(fd: int) -> None:
    """Answer FUSE_INIT, and take all else without an answer."""
    while True:
        try:
            request = os.read(fd, 1 << 18)
        except OSError:
            return
        _, operation, unique = struct.unpack_from("<IIQ", request)
        if operation == _INIT:
            version = struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 10, 10, 1 << 17, 1, 32, 0, 0, *[0] * 7)
            os.write(fd, struct.pack("<IiQ", 16 + len(version), 0, unique) + version)


def main(folder: str) -> None:
    """Hang until the input ends."""
    fd = mount(folder)
    threading.Thread(target=answer_first, args=(fd,), daemon=True).start()
    print("hangs", flush=True)
    sys.stdin.readline()
    _libc.umount2(folder.encode(), _DETACH)
    os._exit(0)  # and with it the descriptor


if __name__ == "__main__":
    main(sys.argv[1])
