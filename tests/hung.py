"""What answers late or never: a user database and name server that wait for the test, a file system that hangs."""

import contextlib
import ctypes
import os
import stat
import struct
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support import PATIENCE, until

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_FORCE, _MNT_DETACH = 1, 2
_FUSE_INIT = 26
_FUSE_IN = struct.Struct("<IIQQIIII")  # struct fuse_in_header, linux/fuse.h


class SlowDirectory:
    """libc's answers about users whose names begin with "slow", and hosts that end in ".slow", come when asked() ends.

    There is no such user and no such host. For a papad with ``environment``. Needs gcc.
    """

    def __init__(self, folder: Path) -> None:
        library = folder / "slow_directory.so"
        source = Path(__file__).with_name("slow_directory.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60)
        self._fifo = folder / "slow"
        os.mkfifo(self._fifo)
        self.environment = {"LD_PRELOAD": str(library), "SLOW_FIFO": str(self._fifo)}

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """Wait until libc is asked; it answers at the end of the block."""
        fd: int = await until(lambda: _writer(self._fifo), "question to libc")
        try:
            yield
        finally:
            os.close(fd)


def _writer(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: nobody reads it
        return None


class HungFolder:
    """A file system over a folder that takes every question and answers none. Needs root and fuse."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.asked = threading.Event()
        if not Path("/dev/fuse").exists():  # a container whose /dev is its own
            os.mknod("/dev/fuse", 0o600 | stat.S_IFCHR, os.makedev(10, 229))
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if _libc.mount(b"papa-hung", bytes(folder), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "cannot mount")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # it was unmounted
            while request := os.read(self._fd, 1 << 18):
                _, operation, unique, *_ = _FUSE_IN.unpack_from(request)
                if operation == _FUSE_INIT:
                    answer = struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 10, 10, 1 << 17, 1, 32, 0, 0, *[0] * 7)
                    os.write(self._fd, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
                else:
                    self.asked.set()

    def wait_until_asked(self) -> None:
        """Wait until somebody hangs there."""
        assert self.asked.wait(PATIENCE), "nobody has asked"

    def release(self) -> None:
        """Abort it: whoever hangs there gets an error. Once is enough."""
        if self._fd < 0:
            return
        _libc.umount2(bytes(self.path), _MNT_FORCE)
        _libc.umount2(bytes(self.path), _MNT_DETACH)
        self._thread.join(PATIENCE)
        os.close(self._fd)
        self._fd = -1
