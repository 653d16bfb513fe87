"""A program: put a key into a new session keyring and execute another; put one into the present one, or read it."""

import ctypes
import os
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_ADD_KEY, _KEYCTL = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
_JOIN, _SEARCH, _READ = 1, 10, 11
_SESSION = -3  # KEY_SPEC_SESSION_KEYRING


def _done(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _put(name: bytes, text: bytes) -> int:
    return _done(_libc.syscall(_ADD_KEY, b"user", name, text, len(text), _SESSION))


def _read(name: bytes) -> bytes:
    key = _done(_libc.syscall(_KEYCTL, _SEARCH, _SESSION, b"user", name, 0))
    buffer = ctypes.create_string_buffer(100)
    size = _done(_libc.syscall(_KEYCTL, _READ, key, buffer, 100))
    return buffer.raw[:size]


def main(what: str, *command: str) -> None:
    """Do it, and print what came of it."""
    if what == "join":
        _done(_libc.syscall(_KEYCTL, _JOIN, None))
        _put(b"papads", b"secret")
        os.execvp(command[0], command)
    try:
        name, *text = map(os.fsencode, command)
        said = f"put as {_put(name, *text)}" if what == "put" else _read(name).decode()
    except OSError as error:
        said = str(error.strerror)
    sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
