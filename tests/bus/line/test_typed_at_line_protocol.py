"""The line protocol as people type it: line ends, mistyped words, what is for a shell."""

import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.bus.lineclient import PATIENCE, LineClient, Papad


def printed(client: LineClient, line: str) -> bytes:
    """What a process prints that is made and watched by one line."""
    client.say(line + "\n")
    client.until(b"\n")
    out = b""
    while True:
        for kind, *_, data in client.batch():
            if kind == "closed":
                client.say("\n")
                client.reply()
                client.ask("remove processes *")
                return out
            out += data if isinstance(data, bytes) else b""
        client.say("\n")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (r"cat FOLDER/my\ file.txt", b"mine"),
        ('echo "x   y"', b"x   y\n"),
        (r"printf '%s|' a\ b 'c  d' \\", b"a b|c  d|\\|"),
        ('  echo  a   b  "c=d" # a remark', b"a b c=d\n"),
        ("A=1; B=2 && echo $A$B", b"12\n"),
        (r"""printf '%s' "it's \"so\"" """, b'it\'s "so"'),
        ("echo\ta\\\tb", b"a\tb\n"),
        ("for i in 1 2; do echo $i; done | tr 12 ab", b"a\nb\n"),
    ],
)
def test_what_is_for_a_shell_reaches_it_as_it_was_typed(
    client: LineClient, tmp_path: Path, typed: str, shown: bytes
) -> None:
    (tmp_path / "my file.txt").write_text("mine")
    typed = typed.replace("FOLDER", str(tmp_path))
    if not typed.startswith("A="):  # that would be an option
        assert printed(client, f"make process a shell=1 watch=1 {typed}") == shown
    assert printed(client, f"m p a watch=1 env.X=a\\ b shell=1 : ; {typed}") == shown


def test_options_before_a_shell_are_read_as_ever(client: LineClient) -> None:
    assert printed(client, 'make process a watch=1 env.X=a\\ b shell=1 echo "<$X>"') == b"<a b>\n"
    assert printed(client, "make process a watch=1 shell=1 quote=json [\"echo 'a  b'\"]") == b"a  b\n"
    assert printed(client, "make process a watch=1 shell=0 /bin/echo a\\ b") == b"a b\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\0"], ids=["LF", "CR LF", "CR NUL"])
def test_every_line_end_of_the_standards_is_one(client: LineClient, end: bytes) -> None:
    client.say(b"\xff\xf1")  # NOP: it is telnet; CR NUL ends a line of telnet's only
    client.say(b"set a 1" + end + b"get a" + end)
    assert [client.reply(), client.reply()] == ["", "1"]
    client.say(b"make process p watch=1 /bin/echo hello" + end)
    client.until(b"\n")
    assert client.batch()[0][-1] == b"hello\n"
    client.say(b"q" + end)
    assert client.reply() in ("Stopped watching", "Nothing left to watch")
    for byte in b"get a" + end:  # torn apart
        client.say(bytes([byte]))
    assert client.reply() == "1"


def test_a_carriage_return_alone_belongs_to_the_line(client: LineClient) -> None:
    client.say(b"set a one\rset b two\n")
    client.reply()
    assert client.ask("get b") == ""


def test_papas_client_sends_what_it_is_given(papad: Papad) -> None:
    program = (
        "import papa, sys\n"
        "with papa.Papa(int(sys.argv[1])) as p:\n"
        "    try:\n"
        "        p.set('a', 'one\\r\\0set pwned 1\\r\\0')\n"
        "    except papa.Error as error:\n"
        "        assert 'NUL' in str(error), error\n"
        "    p.set('a', 'one\\rset pwned 1')\n"
        "    assert p.get('a') == 'one' + chr(92) + 'rset pwned 1', p.get('a')\n"
        "    assert list(p.list_values()) == ['a']\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(papad.port)]
    subprocess.run(command, check=True, timeout=PATIENCE)


MISTYPED = [
    b"lsit", b"list", b"list sokcets", b"list: sockets", b"web:", b"stop group:web", b"delete *", b"put /etc/passwd",
    b"make", b"make process", b"make process x", b"make process x wacth=1 /bin/true", b"make socket s port=http",
    b"get", b"set", b"set a*b", b"remove", b"remove processes", b"watch", b"watch processes nosuch", b"help me",
    b"exit-", b"\xc3\xb6ffnen", b"\x1b[A", b"\x7f\x7fl", b"lis\0t", b"\t", b"\\", b'"', b"'list s", b"list s\\",
    b"quit now", b"???", b"a\xff\xffb", b"\xff\xf7", b"\xff\xf8", b"l s " + b"x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("typed", MISTYPED)
def test_a_typing_mistake_ends_and_hangs_nothing(papad: Papad, typed: bytes) -> None:
    """Neither as the first line nor later."""
    with papad.client() as client:
        for _ in range(3):
            client.say(typed + b"\r\n")
            client.reply()
        client.say(b"get a\r\n")
        assert client.reply() == ""


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("exit", "type quit"),
        ("bye", "type quit"),
        ("stop web", "papactl kill NAME"),
        ("restart web", "papactl kill NAME"),
        ("status", "list processes"),
        ("ps", "list processes"),
        ("tail web", "watch processes NAME"),
        ("rm web", "remove processes NAME"),
        ("start web", "make process NAME PROGRAM"),
        ("lits s", "type help"),
    ],
)
def test_words_that_people_bring_along(client: LineClient, typed: str, told: str) -> None:
    assert told in client.fault(typed)


def test_telnet_itself_in_both_of_its_modes(papad: Papad) -> None:
    """In character mode telnet sends CR NUL for Enter."""
    for mode in ("line", "character"):
        telnet = pexpect.spawn("telnet", ["127.0.0.1", str(papad.port)], timeout=PATIENCE, encoding="utf-8")
        telnet.expect("> ")
        telnet.send("\x1d")
        telnet.expect("telnet> ")
        telnet.sendline(f"mode {mode}")
        telnet.send("set a from\r")
        telnet.expect("> ")
        telnet.send("get a\r")
        telnet.expect("from\r\n> ")
        telnet.send("quit\r")
        telnet.expect(pexpect.EOF)
        telnet.close()
