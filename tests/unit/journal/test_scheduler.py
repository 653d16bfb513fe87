"""Output on its way to the journal: real logs and processes, and a socket of the test's own in journald's place."""

import asyncio
import fcntl
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papa_dbus.errors import NotSupported
from papa_dbus.service import limits
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.journal import socket as journal_socket
from papa_dbus.service.journal.forwarder import UNIT_FIELD, Fields, Forwarder, Progress
from papa_dbus.service.journal.scheduler import Scheduler
from papa_dbus.service.journal.socket import Journal, OwnLog, pack
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.files import JournalPosition
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.watches import Watch
from tests.source import Source
from tests.support import PATIENCE, Reader, end_processes, run, turns, until

Entry = dict[str, bytes]


def unpack(data: bytes) -> Entry:
    """An entry as journald reads it."""
    entry: Entry = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            [size] = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        entry[name.decode()] = value
        data = rest
    return entry


class Journald:
    """What systemd-journald is for papad: a socket that is read now and then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.bind()

    def bind(self) -> None:
        """Begin, or begin anew."""
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(self.path))

    def read(self) -> list[Entry]:
        """Read what is there; gives all so far."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
            except BlockingIOError:
                return self.entries
            if fds:
                assert fcntl.fcntl(fds[0], fcntl.F_GET_SEALS) == 0xF
                with open(fds[0], "rb") as file:
                    file.seek(0)
                    data = file.read()
            self.entries.append(unpack(data))

    async def until(self, count: int) -> list[Entry]:
        """Wait for so many entries."""
        await until(lambda: len(self.read()) >= count, lambda: f"{count} entries: {self.entries}")
        return self.entries

    async def until_said(self, text: bytes, process: bytes | None = None) -> None:
        """Wait for an entry with that text in it."""
        await until(
            lambda: any(text in e["MESSAGE"] and e.get("PAPA_PROCESS") == process for e in self.read()),
            lambda: f"{text!r}: {self.entries}",
        )

    def said(self, name: str = "MESSAGE") -> list[bytes]:
        """That field of all entries that have it."""
        return [entry[name] for entry in self.entries if name in entry]


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Journald]:
    """A journal."""
    there = Journald(tmp_path / "journal")
    yield there
    there.socket.close()


@pytest.fixture
async def kernel(there: Journald) -> AsyncIterator[Kernel]:
    """A kernel that writes to it; its processes end with the test."""
    journal = Journal(str(there.path))
    kernel = Kernel(journal=journal)
    yield kernel
    end_processes(kernel)
    there.read()
    await turns(5)  # its last words
    kernel.close()
    journal.close()


class Sink:
    """Takes so many entries and then no more, until it is told to; may die right after it has taken one."""

    def __init__(self) -> None:
        self.room = 1 << 30
        self.dies = False
        self.entries: list[Entry] = []

    def send(self, fields: Fields) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.entries.append(unpack(pack(fields)))
        if self.dies:
            raise KeyboardInterrupt
        return True

    def lines(self, stream: str) -> list[bytes]:
        return [entry["MESSAGE"] for entry in self.entries if entry.get("PAPA_STREAM") == stream.encode()]

    @property
    def left_out(self) -> int:
        return sum(int(entry["PAPA_LEFT_OUT"]) for entry in self.entries if "PAPA_LEFT_OUT" in entry)


class Fed(Source):
    """A source, and its way to a sink."""

    def __init__(self, capacity: int = 1 << 20) -> None:
        super().__init__(capacity)
        self.sink = Sink()
        self.forwarder = self.new_forwarder()

    def new_forwarder(self) -> Forwarder:
        return Forwarder("p", 7, "papa-p.scope", self.log)

    def kill_papad(self) -> None:
        """Another one goes on with what the files say."""
        self.log = OutputLog.recover(self.log.capacity, lambda: None, self.log.files)
        self.forwarder = self.new_forwarder()

    def turn(self, most: int = 1 << 30) -> Progress:
        return self.forwarder.turn(self.sink.send, most, 0.0)

    def acknowledge_all(self) -> None:
        watch = Watch(1, WatchSpec(), lambda: None, lambda end: None, lambda watch: None)
        watch.attach("p", self.log)
        while watch.take(1 << 20):
            watch.acknowledge_taken()
        watch.close()


@pytest.fixture
def source() -> Iterator[Fed]:
    source = Fed()
    yield source
    source.close()


# ------------------------------------------------------------------- protocol


def test_an_entry_is_as_the_protocol_has_it() -> None:
    assert pack([("A", "x=y"), ("B", b"\xff\0"), ("C", "")]) == b"A=x=y\nB=\xff\0\nC=\n"
    assert pack([("A", "1\n2")]) == b"A\n\x03\0\0\0\0\0\0\x001\n2\n"


async def test_what_is_no_datagram_goes_in_a_sealed_file(there: Journald) -> None:
    journal = Journal(str(there.path))
    assert journal.send([("MESSAGE", "x" * 4_000_000)])
    assert there.read() == [{"MESSAGE": b"x" * 4_000_000}]
    journal.close()


async def test_a_journal_that_does_not_read_holds_nobody_up_and_says_when_it_does(there: Journald) -> None:
    journal = Journal(str(there.path))
    room = asyncio.Event()
    journal.on_room.append(room.set)
    sent = 0
    while journal.send([("MESSAGE", str(sent))]):
        sent += 1
    assert not room.is_set()
    assert len(there.read()) == sent
    async with asyncio.timeout(PATIENCE):
        await room.wait()
    assert journal.send([("MESSAGE", "again")])
    journal.close()


async def test_a_journal_that_comes_back_is_found_again(there: Journald, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_socket, "_RETRY", 0.01)
    journal = Journal(str(there.path))
    room = asyncio.Event()
    journal.on_room.append(room.set)
    assert journal.send([("MESSAGE", "one")])
    there.socket.close()
    there.bind()
    assert journal.send([("MESSAGE", "two")]), "on a new connection, at once"
    assert len(there.read()) == 1
    there.socket.close()
    there.path.unlink()
    assert not journal.send([("MESSAGE", "lost")])
    assert journal.unavailable_reason() == f"{there.path}: No such file or directory"
    there.bind()
    async with asyncio.timeout(PATIENCE):
        await room.wait()
    assert journal.send([("MESSAGE", "three")])
    assert there.read()[1:] == [{"MESSAGE": b"three"}]
    journal.close()


async def test_papads_own_log_waits_and_what_is_too_much_is_counted(
    there: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_socket, "MAX_WAITING", 5000)
    journal = Journal(str(there.path))
    while journal.send([("MESSAGE", "somebody's output")]):
        pass
    write = OwnLog(journal, "papad")
    for number in range(100):
        write(f"record {number}", PRIORITY=6, SYSLOG_IDENTIFIER="papad", args=(1,), CODE_FUNC=None, FILLER="x" * 80)
    there.read()
    there.entries.clear()
    await there.until_said(b"not in the journal")
    loss = there.entries[-1]
    kept = len(there.entries) - 1
    assert there.entries[0] == {
        "MESSAGE": b"record 0", "PRIORITY": b"6", "SYSLOG_IDENTIFIER": b"papad", "FILLER": b"x" * 80
    }  # fmt: skip
    assert there.said()[:-1] == [b"record %d" % number for number in range(kept)]
    assert loss["MESSAGE"].startswith(b"%d records of papad's own are not in the journal" % (100 - kept))
    journal.close()


async def test_papads_last_words_wait_for_room(there: Journald) -> None:
    journal = Journal(str(there.path))
    while journal.send([("MESSAGE", "x")]):
        pass
    write = OwnLog(journal, "papad")
    write("papad has stopped")
    reading = asyncio.get_running_loop().run_in_executor(None, there.read)
    write.finish(PATIENCE)
    await reading
    assert there.read()[-1] == {"MESSAGE": b"papad has stopped"}
    journal.close()


async def test_without_a_journal_last_words_wait_for_nothing(there: Journald) -> None:
    there.path.unlink()
    tries: list[bytes] = []

    class Counted(Journal):
        def send_packed(self, entry: bytes) -> bool:
            tries.append(entry)
            return super().send_packed(entry)

    journal = Counted(str(there.path))
    write = OwnLog(journal, "papad")
    write("papad has stopped")
    write.finish(PATIENCE)
    assert tries == [b"MESSAGE=papad has stopped\n"] * 2, "as it came, and at the end"
    journal.close()


# ---------------------------------------------------------------------- lines


def test_lines_are_put_together_and_have_their_fields(source: Fed) -> None:
    source.say(b"one\nhal")
    source.say(b"trouble\n", "err")
    source.say(b"f\n\n")
    source.say(b"<3>\xff\0bad\n<9>x\n")
    assert source.turn() is Progress.TO_THE_END
    first = source.log.read(1, 100, True)[0][0]
    assert source.sink.entries[0] == {
        "MESSAGE": b"one", "PRIORITY": b"6", "SYSLOG_FACILITY": b"3", "SYSLOG_IDENTIFIER": b"p", "SYSLOG_PID": b"7",
        "OBJECT_PID": b"7", UNIT_FIELD: b"papa-p.scope", "PAPA_PROCESS": b"p", "PAPA_STREAM": b"out",
        "PAPA_SEQ": b"1", "PAPA_TIMESTAMP": b"%d" % first.timestamp,
    }  # fmt: skip
    assert source.sink.lines("err") == [b"trouble"]
    assert source.sink.lines("out") == [b"one", b"half", b"", b"\xff\0bad", b"<9>x"]
    half, bad = source.sink.entries[2], source.sink.entries[4]
    assert (half["PAPA_SEQ"], half["PAPA_TIMESTAMP"]) == (b"1", b"%d" % first.timestamp), "those of its beginning"
    assert bad["PRIORITY"] == b"3"


def test_a_long_line_comes_in_pieces(source: Fed) -> None:
    line = limits.JOURNAL_LINE
    source.say(b"x" * line + b"\n")
    source.say(b"y" * (line - 1))
    source.say(b"yy\nz\n")
    source.turn()
    assert source.sink.lines("out") == [b"x" * line, b"y" * line, b"y", b"z"]
    assert [entry.get("PAPA_LINE_BREAK") for entry in source.sink.entries] == [None, b"line-max", None, None]


@pytest.mark.parametrize("record", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("before", range(5))
def test_a_long_line_is_cut_between_characters(
    monkeypatch: pytest.MonkeyPatch, source: Fed, record: int, before: int
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_LINE", 50)
    text = "x" * before + "grün €𝄞 " * 20
    data = text.encode() + b"\nnext\n"
    for at in range(0, len(data), record):
        source.say(data[at : at + record])
    source.turn()
    *pieces, last, following = source.sink.entries
    assert b"".join(entry["MESSAGE"] for entry in (*pieces, last)).decode() == text
    for entry in pieces:
        assert entry["MESSAGE"].decode()
        assert 50 <= len(entry["MESSAGE"]) <= 53
        assert entry["PAPA_LINE_BREAK"] == b"line-max"
    assert "PAPA_LINE_BREAK" not in last
    assert following["MESSAGE"] == b"next"


def test_what_is_not_text_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch, source: Fed) -> None:
    monkeypatch.setattr(limits, "JOURNAL_LINE", 50)
    for _ in range(100):
        source.say(b"\x80\x80")
    source.say(b"\n")
    source.turn()
    assert [len(line) for line in source.sink.lines("out")] == [53, 53, 53, 41]


def test_a_line_that_fits_with_its_last_character_is_whole(source: Fed) -> None:
    line = b"x" * (limits.JOURNAL_LINE - 1) + "ü".encode()
    source.say(line + b"\nnext\n")
    source.turn()
    assert source.sink.lines("out") == [line, b"next"]


def test_what_has_no_end_comes_with_the_process_s_end(source: Fed) -> None:
    source.say(b"out of")
    source.say(b"err of", "err")
    source.turn()
    assert not source.sink.entries
    source.log.end(-15, 1234)
    source.turn()
    assert [entry.get("PAPA_LINE_BREAK") for entry in source.sink.entries] == [b"eof", b"eof", None]
    end = source.sink.entries[2]
    assert end["MESSAGE"] == b"ended by signal SIGTERM"
    assert (end["PRIORITY"], end["PAPA_EXIT_CODE"], end["PAPA_SEQ"], end["PAPA_TIMESTAMP"]) == (
        b"4",
        b"-15",
        b"3",
        b"1234",
    )
    assert "OBJECT_PID" not in end
    source.say(b"a descendant's")
    source.log.complete()
    source.turn()
    assert source.sink.entries[3]["MESSAGE"] == b"a descendant's"


PIECES = st.lists(
    st.tuples(st.sampled_from(["out", "err"]), st.text("ab\n", min_size=1, max_size=30).map(str.encode)), max_size=15
)
#: What happens between two pieces: entries that the journal takes, entries that a turn may write, whether papad dies.
HAPPENS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.booleans()), min_size=15, max_size=15)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, happens=HAPPENS)
def test_no_line_twice_and_none_left_out_however_papad_dies(
    monkeypatch: pytest.MonkeyPatch, pieces: list[tuple[str, bytes]], happens: list[tuple[int, int, bool]]
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_LINE", 20)
    source = Fed()
    written = {"out": b"", "err": b""}
    for (stream, data), (room, most, dies) in zip(pieces, happens, strict=False):
        source.say(data, stream)
        written[stream] += data
        source.sink.room = room
        source.turn(most)
        if dies:
            source.kill_papad()
    source.sink.room = 1 << 30
    source.log.end(0, 1)
    source.turn()
    for stream, data in written.items():
        entries = [entry for entry in source.sink.entries if entry.get("PAPA_STREAM") == stream.encode()]
        together = b"".join(e["MESSAGE"] + (b"" if "PAPA_LINE_BREAK" in e else b"\n") for e in entries)
        assert together == data
        assert all(len(entry["MESSAGE"]) <= 20 for entry in entries)
    assert source.sink.left_out == 0
    assert source.sink.entries[-1]["PAPA_EXIT_CODE"] == b"0"
    source.close()


def test_killed_between_the_writing_and_the_noting_one_line_comes_twice(source: Fed) -> None:
    source.say(b"one\ntwo\nthree\n")
    source.turn(1)
    source.sink.dies = True
    with pytest.raises(KeyboardInterrupt):
        source.turn()
    source.sink.dies = False
    source.kill_papad()
    source.turn()
    assert source.sink.lines("out") == [b"one", b"two", b"two", b"three"]


def test_at_papads_end_a_line_s_beginning_is_passed_on_where_nobody_keeps_it(source: Fed) -> None:
    source.say(b"acknowledged")
    source.turn()
    source.acknowledge_all()
    source.say(b"kept", "err")
    source.turn()
    source.forwarder.finish(source.sink.send)
    assert [(e["MESSAGE"], e["PAPA_LINE_BREAK"]) for e in source.sink.entries] == [(b"acknowledged", b"restart")]
    source.kill_papad()
    source.say(b", and goes on\n", "err")
    source.say(b", and so does it\n")
    source.turn()
    assert source.sink.lines("err") == [b"kept, and goes on"]
    assert source.sink.lines("out") == [b"acknowledged", b", and so does it"]
    assert source.sink.left_out == 0


@pytest.mark.parametrize("position", [(99, 0, 0, 0, 0), (1, 999, 0, 0, 0), (-1, 0, 0, 0, 0), (2, 1, 1 << 40, 0, 0)])
def test_a_damaged_position_does_no_harm(source: Fed, position: tuple[int, ...]) -> None:
    source.say(b"one\n")
    source.say(b"two\n")
    source.log.files.write_journal_position(JournalPosition(*position))
    source.kill_papad()
    source.turn()
    assert source.sink.lines("out")[-1].endswith(b"two")


# ----------------------------------------------------------------------- loss


@pytest.mark.parametrize("papad_dies", [False, True])
def test_what_the_log_has_dropped_is_counted_once_the_journal_works_again(papad_dies: bool) -> None:
    source = Fed(1000)
    source.say(b"begun")
    source.turn()
    source.sink.room = 0
    for number in range(50):
        source.say(b"%098d\n" % number)
    assert source.turn() is Progress.NO_FURTHER
    if papad_dies:
        source.kill_papad()
    source.sink.room = 1 << 30
    assert source.turn() is Progress.TO_THE_END
    lines = source.sink.lines("out")
    if not papad_dies:  # else what had come of that line was in the log alone, and has left it
        assert lines.pop(0) == b"begun"
        assert source.sink.entries[0]["PAPA_LINE_BREAK"] == b"gap"
    marks = [entry.get("PAPA_LINE_BREAK") for entry in source.sink.entries if "PAPA_STREAM" in entry]
    assert marks[-10:] == [b"after-gap"] + [None] * 9
    assert lines == [b"%098d" % number for number in range(40, 50)]
    [said] = [entry for entry in source.sink.entries if "PAPA_LEFT_OUT" in entry]
    assert said["PAPA_LEFT_OUT"] == b"%d" % (40 * 99 + 5 * papad_dies)
    assert said["PRIORITY"] == b"4"
    assert said["MESSAGE"].endswith(b"5 bytes of output are not in the journal: more came than it takes") == papad_dies
    source.close()


def test_what_was_acknowledged_before_the_journal_got_it_is_counted_and_the_end_is_told(source: Fed) -> None:
    source.say(b"one\n")
    source.say(b"two\n", "err")
    source.log.end(3, 1)
    source.acknowledge_all()
    source.say(b"after\n")
    assert source.log.records.first_seq == 4
    source.turn()
    assert [entry["MESSAGE"].split(b":")[0] for entry in source.sink.entries] == [
        b"8 bytes of output are not in the journal", b"ended with exit status 3", b"after"
    ]  # fmt: skip


def test_a_loss_goes_on_being_said_after_papad_s_death_and_is_not_said_for_each_piece(source: Fed) -> None:
    small = Fed(100)
    for number in range(60):
        small.say(b"%049d\n" % number)
        small.turn(1)
        if number == 30:
            small.kill_papad()
    small.turn()
    passed = sum(len(line) + 1 for line in small.sink.lines("out"))
    assert small.sink.left_out + passed == 3000
    small.close()


def test_a_process_that_goes_leaves_its_last_words(source: Fed) -> None:
    source.say(b"half")
    source.turn()
    source.sink.room = 0
    source.say(b"gone\n" * 10)
    source.log.end(1, 1)
    source.turn()
    source.acknowledge_all()
    source.forwarder.leave()
    assert not source.forwarder.over
    source.sink.room = 1 << 30
    source.turn()
    assert source.forwarder.over
    assert source.sink.entries[0]["MESSAGE"] == b"half"
    assert source.sink.left_out == 50
    assert source.sink.entries[-1]["MESSAGE"] == b"ended with exit status 1"


# ------------------------------------------------------------------ processes


async def test_output_goes_to_the_journal_and_nothing_is_acknowledged(kernel: Kernel, there: Journald) -> None:
    info = await run(kernel, "sh", "-c", "echo one; echo two >&2; exit 3", journal=True)
    assert info.journal
    await there.until(3)
    assert sorted(there.said()) == [b"ended with exit status 3", b"one", b"two"]
    assert there.said()[-1] == b"ended with exit status 3"
    [listed] = kernel.list_processes()
    assert (listed.buffered, listed.journal) == (8, True)
    reader = Reader(kernel, ["p"])
    await reader.until_exited()
    assert (reader.data("out"), reader.data("err"), reader.dropped) == (b"one\n", b"two\n", 0)
    assert kernel.process_count == 0


async def test_who_does_not_ask_for_it_is_not_in_the_journal(kernel: Kernel, there: Journald) -> None:
    info = await run(kernel, "sh", "-c", "echo quiet", name="quiet")
    await run(kernel, "sh", "-c", "echo loud", name="loud", journal=True)
    await there.until(2)
    assert set(there.said("PAPA_PROCESS")) == {b"loud"}
    assert not info.journal


async def test_without_a_journal_nothing_is_made(kernel: Kernel, there: Journald) -> None:
    there.path.unlink()
    with pytest.raises(
        NotSupported, match=f"option 'journal': there is no systemd journal here \\({there.path}: No such"
    ):
        await run(kernel, "true", journal=True)
    assert kernel.process_count == 0
    without = Kernel()
    with pytest.raises(NotSupported, match="option 'journal'"):
        await run(without, "true", journal=True)
    without.close()


async def test_a_removed_process_s_end_is_told(kernel: Kernel, there: Journald) -> None:
    await run(kernel, "sh", "-c", "echo begin; exec sleep 60", journal=True)
    await there.until(1)
    [info] = kernel.list_processes(["p"])
    kernel.remove_processes(["p"])
    os.kill(info.pid, signal.SIGTERM)
    await there.until_said(b"ended by signal SIGTERM", b"p")
    assert not there.said("PAPA_LEFT_OUT")


async def test_a_full_journal_holds_nobody_up(kernel: Kernel, there: Journald) -> None:
    """The flood is read and counted, a watch and a second process go on, and all is said in the end."""
    await run(kernel, "sh", "-c", "seq 1 400000; echo last", journal=True, name="flood", bufsize=30_000)
    reader = Reader(kernel, ["flood"], mode="observe")
    await reader.until("last")
    await run(kernel, "echo", "here", journal=True, name="bystander")
    bystander = Reader(kernel, ["bystander"], mode="observe")
    await bystander.until_exited()
    await there.until_said(b"ended with exit status 0", b"bystander")
    await there.until_said(b"ended with exit status 0", b"flood")  # what is left out is said before that
    assert (b"here", b"bystander") in [(entry["MESSAGE"], entry["PAPA_PROCESS"]) for entry in there.entries]
    flood = [entry for entry in there.entries if entry["PAPA_PROCESS"] == b"flood"]
    lines = [entry for entry in flood if "PAPA_STREAM" in entry]
    passed = sum(len(entry["MESSAGE"]) + (entry.get("PAPA_LINE_BREAK") != b"gap") for entry in lines)
    left_out = sum(int(entry.get("PAPA_LEFT_OUT", 0)) for entry in flood)
    assert left_out > 0
    assert passed + left_out == kernel.list_processes(["flood"])[0].written


async def test_a_flood_and_a_line_take_turns(there: Journald) -> None:
    flood, other = Fed(), Fed()
    flood.say(b"flood\n" * 5000)
    other.say(b"other\n")
    journal = Journal(str(there.path))
    scheduler = Scheduler(journal)
    scheduler.add(1, "flood", 1, None, flood.log)
    scheduler.add(2, "other", 2, None, other.log)
    entries = await there.until(200)
    assert b"other" in [entry["MESSAGE"] for entry in entries[:17]]
    for source in (flood, other):
        source.log.listener = None
    scheduler.remove(1)
    scheduler.remove(2)
    journal.close()
    flood.close()
    other.close()


async def test_what_is_more_than_the_limit_waits(
    kernel: Kernel, there: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_BURST", 5)
    monkeypatch.setattr(limits, "JOURNAL_INTERVAL", 0.2)
    await run(kernel, "seq", "1", "22", journal=True)
    await there.until(23)
    assert there.said() == [b"%d" % number for number in range(1, 23)] + [b"ended with exit status 0"]


async def test_processes_that_went_before_the_journal_worked_are_bounded(
    kernel: Kernel, there: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_JOURNAL_GONE", 2)
    while kernel._journal._journal.send([("MESSAGE", "x")]):
        pass
    for number in range(4):
        await run(kernel, "echo", str(number), name=f"p{number}", journal=True)
        await Reader(kernel, [f"p{number}"]).until_exited()
    there.read()
    there.entries.clear()
    await there.until(4)
    assert [(e["PAPA_PROCESS"], e["MESSAGE"].split(b" ")[0]) for e in there.entries] == [
        (b"p2", b"2"), (b"p2", b"ended"), (b"p3", b"2"), (b"p3", b"ended")
    ]  # fmt: skip
