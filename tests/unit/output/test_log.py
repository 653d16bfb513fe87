"""The output log and its watches, with real pipes and real memory files; no process and no loop."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papa_dbus.errors import InvalidArgs, NotFound
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.output.events import Dropped, Event, Exited, Output
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.records import Record
from papa_dbus.service.output.watches import Watch
from tests.source import Source
from tests.support import no_room


class Client:
    """A watch, and what it was told."""

    def __init__(self, source: Source, name: str = "p", **spec: object) -> None:
        self.woken = 0
        self.done, self.end = False, ""
        self.watch = Watch(1, WatchSpec(**spec), self._wake, self._end, lambda watch: None)  # type: ignore[arg-type]
        self.watch.attach(name, source.log)

    def _wake(self) -> None:
        self.woken += 1

    def _end(self, end: str) -> None:
        self.done, self.end = True, end

    def take(self, most: int = 1 << 20) -> list[Event]:
        events = []
        while taken := self.watch.take(most):
            events += taken
        return events

    def records(self) -> list[Record]:
        return [record for event in self.take() if isinstance(event, Output) for record in event.records]

    def data(self) -> bytes:
        return b"".join(record.data for record in self.records())


def test_records_come_in_one_sequence(source: Source) -> None:
    client = Client(source)
    source.say(b"one")
    source.say(b"two", "err")
    source.say(b"three")
    records = client.records()
    assert [(r.seq, r.stream, r.data) for r in records] == [
        (1, "out", b"one"),
        (2, "err", b"two"),
        (3, "out", b"three"),
    ]
    assert records[0].timestamp <= records[1].timestamp <= records[2].timestamp
    assert source.log.buffered == 11
    client.watch.acknowledge({"p": 2})
    assert source.log.buffered == 5
    assert source.log.records.first_seq == 3


def test_defect_18_a_clock_that_is_stepped_back_loses_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequence numbers are what is acknowledged; the time is only told."""
    client = Client(source)
    source.say(b"one")
    client.records()
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000)
    source.say(b"two")
    client.watch.acknowledge({"p": 1})
    assert [(record.seq, record.timestamp, record.data) for record in client.records()] == [(2, 1000, b"two")]


def test_a_piece_stays_whole(source: Source) -> None:
    big = Source(1 << 20)
    big.say(b"x" * 65536)
    assert [len(r.data) for r in Client(big).records()] == [65536]
    big.close()


def test_defect_19_the_oldest_is_dropped_counted_and_reported(source: Source) -> None:
    for number in range(30):
        source.say(b"%099d\n" % number)
    assert source.log.buffered == 1000
    assert source.log.dropped == 2000
    events = Client(source).take()
    assert events[0] == Dropped("p", 1, 20, 2000)
    assert isinstance(events[1], Output)
    assert [r.seq for r in events[1].records] == list(range(21, 31))


def test_a_new_watch_is_told_what_was_dropped_before_it_came_but_not_what_was_acknowledged(source: Source) -> None:
    first = Client(source)
    source.say(b"a" * 600)
    source.say(b"b" * 100)
    first.records()
    first.watch.acknowledge({"p": 1})
    first.watch.close()
    source.say(b"c" * 950)
    assert Client(source).take()[0] == Dropped("p", 2, 2, 100)


def test_what_was_sent_is_not_reported_as_dropped(source: Source) -> None:
    client = Client(source)
    source.say(b"a" * 600)
    assert client.data() == b"a" * 600
    source.say(b"b" * 600)  # drops the first, which was sent
    assert source.log.dropped == 600
    events = client.take()
    assert [type(event) for event in events] == [Output]


def test_a_piece_larger_than_the_buffer_is_cut(source: Source) -> None:
    source.say(b"x" * 2500)
    assert source.log.buffered <= 1000
    assert source.log.dropped == 1500 or source.log.buffered + source.log.dropped == 2500


def test_defect_14_two_consumers_do_not_steal(source: Source) -> None:
    first, second = Client(source), Client(source)
    source.say(b"line")
    assert first.data() == b"line"
    first.watch.acknowledge({"p": 1})
    assert source.log.buffered == 4
    assert second.data() == b"line"
    second.watch.acknowledge_taken()
    assert source.log.buffered == 0


def test_a_consumer_that_leaves_holds_nothing_back_for_the_other(source: Source) -> None:
    first, second = Client(source), Client(source)
    source.say(b"line")
    first.records()
    first.watch.acknowledge_taken()
    second.watch.close()
    assert source.log.buffered == 0


def test_what_a_consumer_had_not_acknowledged_is_there_for_the_next(source: Source) -> None:
    first = Client(source)
    source.say(b"line")
    first.records()
    first.watch.close()
    assert Client(source).data() == b"line"


def test_an_observer_holds_back_nothing_and_is_told_what_it_missed(source: Source) -> None:
    observer, consumer = Client(source, mode="observe"), Client(source)
    source.say(b"one")
    source.say(b"two")
    consumer.records()
    consumer.watch.acknowledge_taken()
    assert source.log.buffered == 0
    assert observer.take() == [Dropped("p", 1, 2, 6)]
    source.say(b"three")
    assert [r.seq for r in observer.records()] == [3]


def test_the_window_bounds_what_is_ahead(source: Source) -> None:
    client = Client(source, window=10)
    for _ in range(5):
        source.say(b"12345")
    assert [r.seq for r in client.records()] == [1, 2]
    assert client.records() == []
    client.watch.acknowledge({"p": 1})
    assert [r.seq for r in client.records()] == [3]


def test_a_window_smaller_than_a_record_still_moves(source: Source) -> None:
    client = Client(source, window=1)
    source.say(b"12345")
    source.say(b"67890")
    assert [r.seq for r in client.records()] == [1]
    client.watch.acknowledge_taken()
    assert [r.seq for r in client.records()] == [2]


def test_acknowledging_what_was_not_sent_is_refused_and_changes_nothing(source: Source) -> None:
    client = Client(source)
    source.say(b"one")
    client.records()
    with pytest.raises(InvalidArgs, match="process 'p': 2 cannot be acknowledged, the last that was sent is 1"):
        client.watch.acknowledge({"p": 2})
    with pytest.raises(NotFound, match="has no process 'q'"):
        client.watch.acknowledge({"p": 1, "q": 1})
    assert source.log.buffered == 3


def test_the_end_comes_after_the_last_record_and_ends_the_watch(source: Source) -> None:
    client = Client(source)
    source.say(b"bye")
    source.log.end(7, 123)
    events = client.take()
    assert isinstance(events[0], Output)
    assert events[1] == Exited("p", 2, 123, 7, known=True)
    client.watch.acknowledge({"p": 1})
    assert not client.done
    client.watch.acknowledge({"p": 2})
    assert client.done
    assert client.watch.closed
    assert source.log.exit_acknowledged


def test_an_end_that_nobody_saw_says_so(source: Source) -> None:
    source.log.end(None, 5)
    assert Client(source).take() == [Exited("p", 1, 5, 0, known=False)]


def test_a_full_log_never_drops_the_end(source: Source) -> None:
    client = Client(source)
    source.say(b"a" * 10)
    source.log.end(3, 1)
    for _ in range(3):
        source.say(b"d" * 900)  # a descendant goes on
    events = client.take()
    assert events[0] == Dropped("p", 1, 1, 10)
    assert events[1] == Exited("p", 2, 1, 3, known=True)
    assert events[2] == Dropped("p", 3, 4, 1800)
    assert isinstance(events[3], Output)


def test_forgetting_is_reported_to_who_watches(source: Source) -> None:
    client = Client(source)
    source.say(b"gone")
    source.log.discard_all()
    source.say(b"thrown away")
    source.log.end(0, 9)
    assert client.take() == [Dropped("p", 1, 1, 4), Exited("p", 2, 9, 0, known=True)]


def test_namesakes_are_read_one_after_the_other(source: Source) -> None:
    old, new = source, Source()
    client = Client(old, mode="observe")
    client.watch.attach("p", new.log)
    old.say(b"old")
    new.say(b"new")
    old.log.end(0, 1)
    assert client.data() == b"oldnew"
    new.close()


def test_a_finished_process_gives_its_window_back(source: Source) -> None:
    """Its descendant's output was sent, and is not acknowledged, when its end is: others must not wait for that."""
    other = Source()
    client = Client(source, window=500)
    client.watch.attach("q", other.log)
    source.log.end(0, 1)
    source.say(b"d" * 500)
    client.take()
    client.watch.acknowledge({"p": 1})
    other.say(b"heard")
    assert client.data() == b"heard"
    other.close()


def test_a_watch_that_comes_after_the_end_ends_with_the_pipes(source: Source) -> None:
    first = Client(source)
    source.log.end(0, 1)
    first.take()
    first.watch.acknowledge_taken()
    assert first.done
    source.say(b"late")
    second = Client(source)
    assert second.data() == b"late"
    second.watch.acknowledge_taken()
    assert not second.done
    source.log.complete()
    assert second.done


def test_memory_is_given_back(source: Source) -> None:
    big = Source(4 << 20)
    client = Client(big, window=64 << 20)
    for _ in range(300):
        big.say(b"x" * 65536)
        client.records()
        client.watch.acknowledge_taken()
    blocks = os.fstat(big.log.files.output).st_blocks * 512
    assert blocks <= 128 * 1024, blocks
    big.close()


def test_many_short_records_are_bounded(source: Source) -> None:
    log = Source(2 << 20)
    for _ in range(140_000):
        os.write(log.write, b"x")
        log.log.splice_from(log.read, "out")
    assert log.log.buffered == 131_072
    assert log.log.dropped == 140_000 - 131_072
    assert len(log.log.records._ends) < 300_000
    log.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 400), st.sampled_from(["out", "err"])),
        st.tuples(st.just("take"), st.integers(1, 700)),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("reopen")),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_nothing_is_lost_repeated_or_reordered_without_being_said(steps: list[tuple[object, ...]]) -> None:
    """Whatever is written, taken and acknowledged in any order: each byte comes once, or is counted as dropped."""
    source = Source(1000)
    client = Client(source, window=800)
    written = bytearray()
    place = 0  # where the client is in what was written
    unacknowledged: list[tuple[int, int]] = []  # sequence number, and the place after it
    confirmed = 0
    for step in steps:
        if step[0] == "say":
            data = os.urandom(int(str(step[1])))
            written += data
            source.say(data, str(step[2]))
        elif step[0] == "take":
            for event in client.watch.take(int(str(step[1]))):
                if isinstance(event, Dropped):
                    place += event.bytes
                    unacknowledged.append((event.last_seq, place))
                elif isinstance(event, Output):
                    for record in event.records:
                        assert bytes(written[place : place + len(record.data)]) == record.data
                        place += len(record.data)
                        unacknowledged.append((record.seq, place))
        elif step[0] == "ack" and unacknowledged:
            index = min(int(str(step[1])), len(unacknowledged) - 1)
            seq, confirmed = unacknowledged[index]
            client.watch.acknowledge({"p": seq})
            del unacknowledged[: index + 1]
        elif step[0] == "reopen":
            client.watch.close()
            client = Client(source, window=800)
            place = source.log.acknowledged_offset
            assert place == confirmed
            unacknowledged.clear()
        assert source.log.buffered <= 1000
    source.close()


def test_output_that_no_file_has_room_for_is_lost_and_reported(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(source)
    with no_room(4096):
        source.say(b"a" * 4000)
        for _ in range(50):
            source.say(b"b" * 3000)
        assert caplog.text.count("no room for output") == 1
        source.log.end(3, 7)
    events = client.take()
    kept = sum(len(r.data) for e in events if isinstance(e, Output) for r in e.records)
    assert kept + sum(e.bytes for e in events if isinstance(e, Dropped)) == 4000 + 50 * 3000
    assert [e.exit_code for e in events if isinstance(e, Exited)] == [3]
    # The next papad reads what there is, and goes on.
    again = OutputLog.recover(1000, lambda: None, source.log.files)
    assert (again.buffered, again.dropped, again.exit and again.exit.code) == (0, source.log.dropped, 3)
    os.write(source.write, b"after")
    assert again.splice_from(source.read, "out") == 5
    assert again.read(again.records.last_seq, 100, at_least_one=True)[0][0].data == b"after"
