"""Bad input on the live line protocol: the right kind of answer, nothing half done, and the next client is served."""

import socket
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bus.daemon import Papad
from tests.support import PATIENCE

WORD = st.one_of(
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=20),
    st.sampled_from(
        [b"port=99999", b"umask=8", b"uid=no-such-user", b"working_dir=/nope", b"rlimit.nofile=x", b"env.="]
    ),
    st.sampled_from(
        [b"/nope", b"quote=json", b'["a"', b"watch=1", b"bufsize=-1", b"$(socket.x.port)", b"\xff\xfb\x01"]
    ),
)
COMMAND = st.sampled_from([b"make socket", b"make process", b"list", b"remove", b"watch", b"set", b"get", b"help", b""])
LINES = st.lists(
    st.builds(lambda command, words: b" ".join([command, *words]), COMMAND, st.lists(WORD, max_size=5)), max_size=6
)


def talk(papad: Papad, data: bytes) -> bytes:
    """Send all of it on a connection of its own; gives what papad says until it closes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(papad.socket))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        said = b""
        while chunk := sock.recv(65536):
            said += chunk
        return said


def descriptors(papad: Papad) -> int:
    return len(list(Path(f"/proc/{papad.process.pid}/fd").iterdir()))


def test_any_lines_leave_the_kernel_unharmed(papad: Papad) -> None:
    before = 0

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(LINES)
    def throw(lines: list[bytes]) -> None:
        nonlocal before
        said = talk(papad, b"list values\n" + b"\n".join(lines) + b"\n")
        assert said.startswith(b"Papa is home")
        assert b"internal error" not in said
        assert b"Traceback" not in said
        talk(papad, b"remove sockets *\nremove processes *\nlist values\n")
        assert b"Error" not in talk(papad, b"list processes\nlist sockets\n")
        before = before or descriptors(papad)
        assert descriptors(papad) <= before

    throw()


def test_a_ten_megabyte_line_is_refused_and_the_session_goes_on(papad: Papad) -> None:
    said = talk(papad, b"set v " + b"x" * 10_000_000 + b"\nset v small\nget v\n")
    assert b"Error: " in said
    assert said.endswith(b"> small\n> ")
