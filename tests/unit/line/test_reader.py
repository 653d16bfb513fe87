"""The line protocol without I/O: bytes to lines, lines to commands, what the kernel gives to replies."""

import contextlib
import json
import re
import shlex
import tracemalloc
import warnings
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from papa_dbus.errors import InvalidArgs
from papa_dbus.names import UNKNOWN_EXIT
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_OPTIONS
from papa_dbus.service.items.results import ProcessInfo, SocketInfo
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.line import commands
from papa_dbus.service.line import reader as line_reader
from papa_dbus.service.line import replies as line_replies
from papa_dbus.service.line import words as line_words
from papa_dbus.service.line.commands import parse
from papa_dbus.service.line.help import COMMANDS, UnknownCommand, help_text
from papa_dbus.service.line.reader import Answer, Event, Foreign, Interrupt, Line, LineReader, TooLong
from papa_dbus.service.output.events import Dropped, Exited, Output
from papa_dbus.service.output.events import Event as WatchEvent
from papa_dbus.service.output.records import Record
from papa_dbus.service.rlimits import INFINITY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its source is older than what Python says about it
    import papa

IAC = b"\xff"


def read(pieces: Iterable[bytes], max_line: int = line_reader.MAX_LINE) -> list[Event]:
    """All events of some input."""
    reader = LineReader(max_line)
    events: list[Event] = []
    for piece in pieces:
        reader.receive(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
    return events


def lines(*pieces: bytes) -> list[bytes]:
    """The lines of some input that has nothing else."""
    events = read(pieces)
    assert all(isinstance(event, Line) for event in events)
    return [event.data for event in events if isinstance(event, Line)]


# ------------------------------------------------------------------------------------ lines

# Bytes among which the ones that mean something are frequent.
noise = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r\n", b"\r", b"\r\0", b"\0", b"\x04", IAC]),
        st.sampled_from([b"\xf4", b"\xfd\x06", b"\xfb\x01", b"\xfa", b"\xf0"]).map(lambda said: IAC + said),
        st.sampled_from([b"list", b" ", b"\\ ", b"POST / HTTP/1.1", b"Host: x", b"\x16\x03\x01", b"q"]),
        st.binary(max_size=8),
    ),
    max_size=30,
).map(b"".join)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The same bytes in pieces."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in pairwise(places)]


@given(noise, st.lists(st.integers(0, 200)))
def test_another_reader_goes_on_at_any_place(data: bytes, cuts: list[int]) -> None:
    events: list[Event] = []
    reader = LineReader()
    for piece in split(data, cuts):
        reader.receive(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
        if not any(isinstance(event, Foreign) for event in events):  # such a connection ends
            reader = LineReader.resume(json.loads(json.dumps(reader.state())))
    assert apart(events) == apart(read([data]))


def apart(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """Give telnet's answers apart: an interrupt is told after what telnet asks along with it, if that comes with it."""
    return [e for e in events if isinstance(e, Answer)], [e for e in events if not isinstance(e, Answer)]


@given(noise, st.lists(st.integers(0, 200)))
def test_any_split_gives_the_same(data: bytes, cuts: list[int]) -> None:
    whole, pieces = read([data], max_line=20), read(split(data, cuts), max_line=20)
    single = read([bytes([byte]) for byte in data], max_line=20)
    for other in (pieces, single):
        assert apart(other) == apart(whole)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"list s\n", [b"list s"]),
        (b"list s\r\nl p\r\n", [b"list s", b"l p"]),
        (b"\n\r\n \n", [b"", b"", b" "]),
        (b"a\rb\r\r\n", [b"a\rb\r"]),
        (b"\xff\xf1list s\r\0l p\r\0", [b"list s", b"l p"]),
        (b"\xff\xf1a\0b\r\0\r\0\n", [b"a\0b", b"", b""]),
        (b"set a b\r\0l p\r\0\n", [b"set a b\r\0l p\r\0"]),  # not telnet: it is in a value
        (b"set a \xff\xff\r\0l p\n", [b"set a \xff\r\0l p"]),
        (b"not ended", []),
        (b"  leading\n", [b"  leading"]),
    ],
)
def test_line_ends(data: bytes, expected: list[bytes]) -> None:
    assert lines(data) == expected
    assert lines(*(bytes([byte]) for byte in data)) == expected


def test_cr_lf_torn_apart() -> None:
    assert lines(b"list\r", b"\n", b"q\r", b"\n") == [b"list", b"q"]


def test_defect_32_a_line_without_an_end_is_bounded() -> None:
    piece = b"x" * 65536
    reader = LineReader()
    tracemalloc.start()
    try:
        for _ in range(1024):  # 64 MiB
            reader.receive(piece)
            assert reader.next_event() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * line_reader.MAX_LINE
    reader.receive(b"\nlist s\n")
    assert reader.next_event() == TooLong()
    assert reader.next_event() == Line(b"list s")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(("size", "event"), [(10, Line), (11, TooLong), (12, TooLong)])
def test_bound_of_a_line(size: int, event: type[Event], end: bytes) -> None:
    assert [type(e) for e in read([b"x" * size + end, b"y\n"], max_line=10)] == [event, Line]


# ----------------------------------------------------------------------------------- telnet


def test_telnet_options_are_refused_and_taken_out() -> None:
    data = b"li" + IAC + b"\xfb\x01" + b"st" + IAC + b"\xfd\x03" + IAC + b"\xfc\x05" + IAC + b"\xfe\x05" + b" s\r\n"
    assert read([data]) == [Answer(IAC + b"\xfe\x01"), Answer(IAC + b"\xfc\x03"), Line(b"list s")]


def test_telnet_subnegotiation_is_taken_out() -> None:
    data = b"l" + IAC + b"\xfa\x18\x00any\nthing" + IAC + IAC + b"\n" + IAC + b"\xf0" + b" s\n"
    assert lines(data) == [b"l s"]


def test_telnet_escaped_byte() -> None:
    assert lines(b"set a " + IAC + IAC + b"\n") == [b"set a \xff"]


def test_telnet_interrupt_is_told_after_the_timing_mark() -> None:
    # What GNU telnet sends for Ctrl-C: it shows nothing until the timing mark has come back.
    ctrl_c = IAC + b"\xf4" + IAC + b"\xfd\x06"
    expected = [Answer(IAC + b"\xfb\x06"), Interrupt(), Line(b"l s")]
    assert read([b"half a line" + ctrl_c + b"l s\n"]) == expected


def test_telnet_interrupt_before_an_escaped_byte() -> None:
    assert read([b"l", IAC + b"\xf4" + IAC + IAC + b"\n"]) == [Interrupt(), Line(b"\xff")]


def test_ctrl_d_at_the_beginning_of_a_line_ends_the_session() -> None:
    """Elsewhere telnet sends what was typed so far, and the line goes on."""
    assert lines(b"l s\n\x04") == [b"l s", b"quit"]
    assert lines(b"l s\nl \x04p\n") == [b"l s", b"l \x04p"]
    assert read([b"half" + IAC + b"\xf4", b"\x04"]) == [Interrupt(), Line(b"quit")]
    assert lines(b"\x04") == [b"quit"]  # be it all that is ever typed
    assert read([IAC + b"\xf1" + b"\x04"]) == [Line(b"quit")]


def test_telnet_are_you_there() -> None:
    assert read([IAC + b"\xf6"]) == [Answer(b"\n[papad is here]\n")]


# ------------------------------------------------------------------------- other protocols

HEADERS = b"Host: localhost:20202\r\nContent-Type: text/plain\r\n\r\n"
BODY = b"make process evil /bin/sh -c id\r\n"


@pytest.mark.parametrize(
    "request_line",
    [
        b"POST / HTTP/1.1",
        b"GET / HTTP/1.1",
        b"get / HTTP/1.0",
        b"get / http/1.1",
        b"GET http://localhost:20202/ HTTP/1.1",
        b"CONNECT localhost:20202 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"POST /",
        b"HEAD / HTTP/1.1",
        b"  POST  /  HTTP/1.1",
        b"CONNECT localhost:20202",
        b"delete http://localhost/",
        # A page whose name was bound to 127.0.0.1 may invent methods, and send them without asking first.
        b"SET /x HTTP/1.1",
        b"HELP /x HTTP/1.1",
        b"list /s HTTP/1.1",
        b"quit / HTTP/1.1",
        # Where the request's line is not recognised, the header that every browser sends is.
        b"Host: localhost",
        b"host:localhost",
        b"User-Agent: x",
    ],
)
def test_defect_02_http_is_no_command(request_line: bytes) -> None:
    for before in (b"", b"\r\n", b"list s\n"):
        events = read([before, request_line + b"\r\n", HEADERS, BODY])
        assert events[-1] == Foreign("HTTP")
        assert BODY.strip() not in [event.data for event in events if isinstance(event, Line)]
        assert len(events) <= 3


def test_defect_02_http_with_a_long_first_line() -> None:
    events = read([b"POST /" + b"x" * 100 + b" HTTP/1.1\r\n", HEADERS, BODY], max_line=50)
    assert events == [Foreign("HTTP")]


methods = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
paths = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30).map(lambda path: "/" + path)
bodies = st.one_of(st.just(BODY), noise)


@given(methods, paths, st.sampled_from(["1.0", "1.1", "2.0"]), bodies)
def test_defect_02_no_request_that_a_browser_sends_gets_through(
    method: str, path: str, version: str, body: bytes
) -> None:
    request = f"{method} {path} HTTP/{version}\r\n".encode() + HEADERS + body
    assert read([request]) == [Foreign("HTTP")]


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\nmake process evil /bin/id\n", "TLS"),
        (b"\x80\x2e\x01\x00\x02\nmake process evil /bin/id\n", "a binary protocol"),
        (b"\x00\x03\x00\x08\nmake process evil /bin/id\n", "a binary protocol"),  # STUN over TCP
        (b"\x05\x01\x00\nmake process evil /bin/id\n", "a binary protocol"),  # SOCKS
    ],
)
def test_defect_02_binary_protocols_are_no_commands(data: bytes, protocol: str) -> None:
    assert read([data]) == [Foreign(protocol)]


@pytest.mark.parametrize(
    "line",
    [
        b"get /",
        b"get x",
        b"delete process x",
        b"post",
        b"set server HTTP/1.1",
        b"set a http://x/ HTTP/1.1",
        b"make process x /bin/a HTTP/1.1",
    ],
)
def test_commands_that_look_a_little_like_http(line: bytes) -> None:
    assert lines(line + b"\n") == [line]


# ------------------------------------------------------------------------------------ words


def as_client_writes(words: list[str]) -> bytes:
    """What Papa 1.0.6's client makes of words, by its own code."""

    class Wire:
        sent = b""

        def send(self, data: bytes) -> int:
            self.sent += data
            return len(data)

    connection = papa.ClientCommandConnection.__new__(papa.ClientCommandConnection)
    connection.sock = Wire()
    connection.send_command(words)
    return bytes(connection.sock.sent)


def process(line: str | bytes) -> commands.MakeProcess:
    command = parse(line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape"))
    assert isinstance(command, commands.MakeProcess)
    return command


def the_line(data: bytes) -> bytes:
    (line,) = lines(data)
    return line


# What the client can write at all: it drops empty words, spoils newlines, and a backslash at a word's end joins two.
writable = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda word: not word.endswith("\\")
)


@given(st.lists(writable, max_size=6))
def test_defect_21_words_of_the_client_arrive_as_they_were(words: list[str]) -> None:
    words.append("end")  # a CR before the line's end is half of that
    command = process(the_line(as_client_writes(["m", "p", "name", "/bin/x", *words])))
    assert command.spec.command == ("/bin/x", *words)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (r"m p n /x \ lead", ("/x", " lead")),
        (r"m p n /x trail\  next", ("/x", "trail ", "next")),
        (r"m p n /x trail\ ", ("/x", "trail ")),
        (r"m p n /x \ ", ("/x", " ")),
        (r"m p n /x a\ \ b", ("/x", "a  b")),
        (r"m p n /x C:\dir\file", ("/x", r"C:\dir\file")),
        ("m p n /x last\\", ("/x", "last\\")),
        (r"m p n /x a\\ b", ("/x", r"a\ b")),
        ("  m  p   n  /x   y  ", ("/x", "y")),
        ("m p n /x \udcff\udc80", ("/x", "\udcff\udc80")),
    ],
)
def test_words(text: str, command: tuple[str, ...]) -> None:
    assert process(text).spec.command == command


def test_empty_and_blank_lines() -> None:
    assert parse(b"") is None
    assert parse(b"   ") is None


@given(st.lists(st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_quote_shell_writes_every_argument_of_one_line(words: list[str]) -> None:
    text = f"make process n quote=shell /bin/x {shlex.join(words)}"
    assert process(text).spec.command == ("/bin/x", *words)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
def test_quote_json_writes_every_argument(words: list[str]) -> None:
    words = ["env.A=x\ny", "/bin/x", *words]
    spec = process(f"make process n umask=077 quote=json {json.dumps(words)}").spec
    assert spec.command == tuple(words[1:])
    assert spec.env == {"A": "x\ny"}
    assert spec.umask == 0o77


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("quote=shell /x 'open", "No closing quotation"),
        ("quote=json /x", "is not JSON"),
        ("quote=json {}", "JSON array of strings"),
        ("quote=json [1]", "JSON array of strings"),
        ('quote=json ["\\ud800"]', "surrogate"),
        ("quote=json " + "[" * 100_000, "is not JSON"),
        ("quote=shell /x " + "x" * 40_000, "json takes all"),
        ("quote=tcl /x", "none of shell, json"),
        ('quote=json ["quote=json", "/x"]', "given twice"),
    ],
)
def test_quoting_that_is_wrong(rest: str, fault: str) -> None:
    with pytest.raises(InvalidArgs, match=fault):
        parse(f"make process n {rest}".encode())


# ---------------------------------------------------------------------------------- options


def test_defect_23_an_equals_sign_in_the_program() -> None:
    assert process("m p n uid=0 /opt/a=b/run c=d").spec == ProcessSpec("n", ("/opt/a=b/run", "c=d"), uid=0)
    assert process("m p n ./a=b").spec.command == ("./a=b",)
    assert process("m p n =b").spec.command == ("=b",)


def test_defect_24_an_empty_variable() -> None:
    assert process("m p n env.X= env.Y=1 /x").spec.env == {"X": "", "Y": "1"}


def test_environment_absent_and_exact() -> None:
    assert process("m p n /x").spec.env is None
    assert process(r'm p n env.A="quoted" env.B.C=a\ b=c env.D="C:\" /x').spec.env == {
        "A": '"quoted"',
        "B.C": "a b=c",
        "D": "C:\\",  # the client puts quotes around what ends with a backslash
    }


def test_options_as_the_client_writes_them() -> None:
    spec = process(
        'm p n working_dir="/w\\" uid=1 gid=staff bufsize=2m watch=1'
        " stdout=0 stderr=stdout rlimit.nofile=9 rlimit.core=-1 /x"
    ).spec
    assert spec == ProcessSpec(
        "n",
        ("/x",),
        working_dir="/w\\",
        uid=1,
        gid="staff",
        bufsize=2 * 1024 * 1024,
        stdout="null",
        stderr="stdout",
        rlimits={"nofile": 9, "core": INFINITY},
    )


def test_options_for_a_person() -> None:
    options = "output=1k stdout=1 stderr=null rlimit.NOFILE=infinity sockets=a,b overflow=block"
    spec = process(f"make process n {options} /x").spec
    assert (spec.bufsize, spec.stdout, spec.stderr) == (1024, "pipe", "null")
    assert (spec.rlimits, spec.sockets, spec.overflow) == ({"nofile": INFINITY}, ("a", "b"), "block")


def test_defect_28_output_is_another_name_for_bufsize() -> None:
    assert process("m p n output=3m /x").spec.bufsize == 3 * 1024 * 1024


def test_defect_29_shell_runs_all_words() -> None:
    command = process("m p n shell=1 watch=1 echo a; echo b")
    assert command.spec.command == ("/bin/sh", "-c", "echo a; echo b")
    assert command.watch


def make_socket(text: str) -> commands.MakeSocket:
    command = parse(text.encode())
    assert isinstance(command, commands.MakeSocket)
    return command


def test_socket_options() -> None:
    spec = make_socket("m s n family=inet6 type=dgram backlog=7 host=::1 port=80 interface=lo reuseport=1").spec
    assert (spec.family, spec.type, spec.backlog, spec.host, spec.port) == ("inet6", "dgram", 7, "::1", 80)
    assert (spec.interface, spec.reuseport) == ("lo", True)


@pytest.mark.parametrize(
    ("text", "umask"),
    [
        ("make socket n path=/a umask=077", 0o77),
        ("make socket n path=/a umask=77", 0o77),
        ("m s n path=/a umask=077", 0o77),
        ("m s n path=/a umask=0", 0),
        ("m s n path=/a umask=63", 0o77),  # the client of Papa 1.0.6, told 0o77
        ("m s n path=/a umask=18", 0o22),
    ],
)
def test_defect_13_umask_is_octal_as_a_text_and_a_number_from_the_client(text: str, umask: int) -> None:
    assert make_socket(text).spec.umask == umask


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("m p", "name of the process is missing"),
        ("m s", "name of the socket is missing"),
        ("m p n", "command: must not be empty"),
        ("m p a:b /x", "may not contain ':'"),
        ("m p n nosuch=1 /x", "unknown option 'nosuch'; there are: working_dir, uid, gid, "),
        ("m p n envs.A=1 /x", ", token, env.NAME, rlimit.NAME, output, watch, shell, quote"),
        ("m p n env=1 /x", "write env.NAME=VALUE"),
        ("m p n rlimits=1 /x", "write rlimit.NAME=VALUE"),
        ("m p n rlimit.nosuch=1 /x", "nosuch"),
        ("m p n rlimit.core=many /x", "not a whole number"),
        ("m p n bufsize=much /x", "'bufsize'"),
        ("m p n bufsize=1 output=2 /x", "given twice"),
        ("m p n watch=maybe /x", "'watch'"),
        ("m p n env.=1 /x", "a variable's name may be neither empty"),
        ("m p n umask=9 /x", "'umask'"),
        ("m s n port=1 extra", "'extra' is one word too many"),
        ("m s n port=99999", "out of range"),
        ("m s n nosuch=1", "unknown option 'nosuch'; there are: family, type, host, port, "),
        ("set", "name of the value is missing"),
        ("set a* x", "may not contain"),
        ("set a*", "may not contain"),
        ("get", "name of the value is missing"),
        ("get a b", "one word too many"),
        ("quit now", "one word too many"),
        ("make", "must be followed by one of: processes, sockets"),
        ("list x", 'Bad "list" command'),
        ("watch", "must be followed by one of: processes"),
    ],
)
def test_lines_that_are_wrong(line: str, fault: str) -> None:
    with pytest.raises(InvalidArgs, match=re.escape(fault)):
        parse(line.encode())


# ------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("list sockets", commands.List("sockets", ())),
        ("LIST Socket a b*", commands.List("sockets", ("a", "b*"))),
        ("l p 12", commands.List("processes", ("12",))),
        ("lis val", commands.List("values", ())),
        ("r s", commands.Remove("sockets", ())),
        ("remove process x", commands.Remove("processes", ("x",))),
        ("w p", commands.WatchProcesses(())),
        ("watch processes a", commands.WatchProcesses(("a",))),
        ("s a b  c", commands.SetValue("a", "b c")),
        (r"set a \ b\ \ c", commands.SetValue("a", " b  c")),
        ("set a", commands.SetValue("a", None)),
        ("g a", commands.GetValue("a")),
        ("q", commands.Quit()),
        ("exit-if-idle", commands.ExitIfIdle()),
    ],
)
def test_commands_and_their_abbreviations(line: str, command: commands.Command) -> None:
    assert parse(line.encode()) == command


@given(st.text(alphabet="ab \\\t\0\udc80"))
def test_the_text_of_a_value_is_its_words(text: str) -> None:
    """With one space between two; a space after a backslash belongs to a word."""
    words = [match.replace("\\ ", " ") for match in re.findall(r"(?:[^ \\]|\\ ?)+", text)]
    parsed = parse(b"set x " + text.encode("utf-8", "surrogateescape"))
    assert parsed == commands.SetValue("x", " ".join(words) or None)


@pytest.mark.parametrize(
    "line",
    [
        b"make process p /bin/echo " + b"a " * line_words.MAX_WORDS,
        b"make process p " + b"".join(b"env.v%d=a " % number for number in range(line_words.MAX_WORDS)) + b"/bin/true",
        b"make process p quote=json " + json.dumps(["a"] * (line_words.MAX_WORDS + 1)).encode(),
        b"remove values " + b"a " * line_words.MAX_WORDS,
        b"help " + b"a " * line_words.MAX_WORDS,
    ],
    ids=["arguments", "variables", "json", "names", "help"],
)
def test_the_words_of_a_command_are_bounded(line: bytes) -> None:
    with pytest.raises(InvalidArgs, match="a command may have 16384 words at most"):
        parse(line)


def test_a_text_may_have_any_number_of_words() -> None:
    text = "a " * (2 * line_words.MAX_WORDS) + "b"
    assert parse(f"set x {text}".encode()) == commands.SetValue("x", text)
    script = parse(f"make process p shell=1 echo {text}".encode())
    assert isinstance(script, commands.MakeProcess)
    assert script.spec.command == ("/bin/sh", "-c", f"echo {text}")


@pytest.mark.parametrize("line", ["e", "exit-", "exit-if-idl"])
def test_exit_if_idle_has_no_abbreviation(line: str) -> None:
    with pytest.raises(UnknownCommand, match="cannot abbreviate"):
        parse(line.encode())


@pytest.mark.parametrize("line", [b"nonsense", b"\\ ", b"listing", b"\xff", b"=", b"x" * 10_000])
def test_unknown_commands(line: bytes) -> None:
    with pytest.raises(UnknownCommand) as caught:
        parse(line)
    assert len(str(caught.value)) < 100


def test_help_knows_every_command_and_option() -> None:
    overview = help_text([])
    for words in COMMANDS:
        assert " ".join(help_text(words).split()[:1]) == words[0]
        assert words[0] in overview
    for option in set(PROCESS_OPTIONS) - {"env", "rlimits"} | {"env.NAME", "rlimit.NAME", "output", "watch", "quote"}:
        assert f"\n  {option} " in help_text(["make", "process"])
    for option in SOCKET_OPTIONS:
        assert f"\n  {option} " in help_text(["m", "s"])
    assert help_text(["watch"]) == help_text(["w", "p"])
    assert "help make process says more" in help_text(["make"])
    for line in (b"?", b"help", b"h"):
        assert parse(line) == commands.Help(overview)
    with pytest.raises(UnknownCommand):
        help_text(["nonsense"])


line_texts = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.one_of(
            st.sampled_from(["l", "make", "r", "s", "p", "v", "set", "get", "n", "a*", "/x"]),
            st.sampled_from(["quote=json", "quote=shell", "shell=1"]),
            st.sampled_from(["env.A=", "env.=", "umask=9", "uid=\xb2", "rlimit.=", "port=-1", '["', "'", "[]", "\\"]),
            st.text(max_size=8),
        ),
        max_size=8,
    ).map(lambda words: " ".join(words).encode("utf-8", "surrogatepass").replace(b"\n", b"")),
)


@settings(max_examples=500)
@given(line_texts)
def test_any_line_is_a_command_or_an_error_that_can_be_shown(line: bytes) -> None:
    fault = ""
    try:
        parse(line)
    except InvalidArgs as error:
        fault = str(error)
    reply = line_replies.error(fault)
    assert reply.endswith(b"\n> ")
    assert reply.count(b"\n") == 1


@pytest.mark.parametrize("unit", [b"\\", b" ", b"\\ ", b"x ", b"=", b'"'])
def test_a_long_line_takes_linear_time_and_little_stack(unit: bytes) -> None:
    line = b"make process n /x " + unit * (line_reader.MAX_LINE // len(unit) - 20)
    with contextlib.suppress(InvalidArgs):  # two million words are more than Linux takes
        parse(line)


# ---------------------------------------------------------------------------------- replies


def info(*args: str, **others: object) -> ProcessInfo:
    """A process as the kernel shows it."""
    fields: dict[str, object] = {
        "name": "n", "pid": 7, "running": True, "started": 1_700_000_000_000_042, "args": args, "uid": 0, "gid": 0,
        "working_dir": "/", "exit_code": None, "bufsize": 1, "buffered": 0, "dropped": 0, "written": 0, "last_seq": 0,
        "unit": None,
    }  # fmt: skip
    return ProcessInfo(**{**fields, **others})  # type: ignore[arg-type]


def unescape(word: str) -> str:
    """What a reader makes of a word of a listing."""
    if word == '""':
        return ""
    plain = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code in plain:
            return plain[code]
        number = int(code[1:], 16)
        if code[0] == "x" and number >= 0xA0:
            number += 0xDC00
        return chr(number)

    return re.sub(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt\\])", one, word)


def test_a_process_as_upstream_shows_it() -> None:
    shown = line_replies.process_line(info("/bin/sh", "-c", "x", as_user=True, as_group=True))
    assert shown == "n pid=7 running=True started=1700000000.000042 uid=0 gid=0 args=/bin/sh -c x"
    ended = line_replies.process_line(info("x", running=False, exit_code=-9, dropped=3))
    assert ended == "n pid=7 running=False started=1700000000.000042 exit_code=-9 dropped=3 args=x"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
@example(['""', ""])
def test_defect_26_the_client_reads_any_arguments(args: list[str]) -> None:
    line = line_replies.process_line(info(*args))
    name, parsed = papa.Papa._make_process_dict(line)
    assert name == "n"
    assert set(parsed) == {"pid", "running", "started", "args"}
    assert [unescape(word) for word in parsed["args"].split(" ")] == args
    assert line.isprintable() or not any(ord(char) < 0xA0 and not char.isprintable() for char in line)


def test_bytes_that_are_not_utf_8_are_shown() -> None:
    assert line_replies.process_line(info("\udcff")).endswith(r" args=\xff")
    assert line_replies.value("\udcff") == r"\xff"


def test_a_socket_as_upstream_shows_it() -> None:
    inet = SocketInfo(
        "s", "inet", "stream", backlog=5, fileno=12, host="127.0.0.1", port=80, interface="lo", reuseport=True
    )
    assert line_replies.socket_line(inet) == (
        "s family=inet type=stream backlog=5 host=127.0.0.1 port=80 interface=lo reuseport=1 fileno=12"
    )
    unix = SocketInfo("u", "unix", "dgram", backlog=5, fileno=13, path="/a b=c", umask=0o7)
    assert papa.Papa._make_socket_dict(line_replies.socket_line(unix)) == (
        "u",
        {"family": "unix", "type": "dgram", "backlog": 5, "path": r"/a\x20b\x3dc", "umask": "0007", "fileno": 13},
    )


@given(st.dictionaries(st.sampled_from([">", "a", "]", "Error"]), st.text(), max_size=4))
def test_values_cannot_end_a_reply(values: dict[str, str]) -> None:
    reply = (
        line_replies.some_lines([line_replies.value_line(name, text) for name, text in values.items()])
        + line_replies.PROMPT
    )
    assert reply.count(b"\n> ") == (1 if values else 0)
    assert reply.endswith(b"> ")
    assert reply.count(b"\n") == len(values)
    for value in values.values():
        assert b"\n" not in line_replies.reply(line_replies.value(value))[:-3]


def test_a_value_is_shown_as_it_was_set() -> None:
    text = 'C:\\new\ttab "quoted" = ü 💡'
    assert line_replies.value(text) == text
    assert line_replies.value("a\nb\0c\x1b[2J\x7f") == r"a\nb\x00c\x1b[2J\x7f"


def test_an_error_is_one_line() -> None:
    assert line_replies.error("a\n> b\r\x1b") == b"Error: a\\n> b\\r\\x1b\n> "


def read_batch(data: bytes) -> tuple[list[object], list[object], list[object], dict[str, int]]:
    """What the client's own watcher makes of a batch."""

    class Wire:
        """A socket that has all of it to give at once, and then waits for ever."""

        def __init__(self) -> None:
            self.left = data

        def fileno(self) -> int:
            return -1

        def recv(self, size: int) -> bytes:
            assert self.left, "the client waits for more"
            piece, self.left = self.left[:size], self.left[size:]
            return piece

    connection = papa.ClientCommandConnection.__new__(papa.ClientCommandConnection)
    connection.sock, connection.data = Wire(), b""
    owner = papa.Papa.__new__(papa.Papa)
    owner.connection = connection
    watcher = papa.Watcher(owner)
    out, err, closed = watcher.read()
    assert watcher._need_ack
    return out, err, closed, watcher.exit_code


def test_the_client_reads_a_batch() -> None:
    stamp = 1_700_000_000_123_456
    records = [Record(1, stamp, "out", b"a\n> b\n] "), Record(2, stamp + 1, "err", b"Error: x\n")]
    events: list[WatchEvent] = [Output("p", records), Exited("p", 3, stamp + 2, -9, known=True)]
    out, err, closed, codes = read_batch(line_replies.batch(events))
    assert out == [papa.ProcessOutput("p", 1_700_000_000.123456, b"a\n> b\n] ")]
    assert err == [papa.ProcessOutput("p", 1_700_000_000.123457, b"Error: x\n")]
    assert closed == [papa.ProcessOutput("p", 1_700_000_000.123458, -9)]
    assert codes == {"p": -9}


def test_defect_19_the_client_is_told_of_a_loss() -> None:
    events: list[WatchEvent] = [Dropped("p", 1, 5, 1234), Output("p", [Record(6, 5_000_000, "out", b"x")])]
    out, err, _, _ = read_batch(line_replies.batch(events))
    assert err == [papa.ProcessOutput("p", 5.0, b"papa: 1234 bytes of output lost\n")]
    assert out == [papa.ProcessOutput("p", 5.0, b"x")]


def test_an_exit_that_nobody_saw_is_no_exit_code_and_no_signal() -> None:
    _, _, _, codes = read_batch(line_replies.batch([Exited("p", 1, 0, 0, known=False)]))
    assert codes == {"p": UNKNOWN_EXIT}
    assert not -64 <= UNKNOWN_EXIT <= 255


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_output_cannot_be_taken_for_anything_else(pieces: list[bytes]) -> None:
    records = [Record(n, n, "out", piece) for n, piece in enumerate(pieces)]
    out, _, _, _ = read_batch(line_replies.batch([Output("p", records)]))
    assert [record.data for record in out] == pieces  # type: ignore[attr-defined]
