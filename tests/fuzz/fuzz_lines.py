"""Coverage-guided: whatever bytes come, in whatever pieces, they are lines with an answer each, and nothing worse.

Run by test_fuzz.py, or by hand: python -m tests.fuzz.fuzz_lines -max_total_time=600
"""

import sys

import atheris

with atheris.instrument_imports():
    from papa_dbus.errors import InvalidArgs
    from papa_dbus.service.line import commands as line_commands
    from papa_dbus.service.line import replies as line_replies
    from papa_dbus.service.line.reader import Answer, Event, Foreign, Line, LineReader, TooLong

_MAX_LINE = 64


def events_of(data: bytes, pieces: list[bytes]) -> list[Event]:
    """What is read, and what it costs in memory meanwhile."""
    reader = LineReader(_MAX_LINE)
    events: list[Event] = []
    for piece in pieces:
        reader.receive(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
        assert reader.buffered <= _MAX_LINE + 2 + len(piece), data
    return events


def try_bytes(data: bytes) -> None:
    """One input: its first byte says how it is cut."""
    size = data[0] % 16 + 1 if data else 1
    text = data[1:]
    whole = events_of(text, [text] if text else [])
    cut = events_of(text, [text[at : at + size] for at in range(0, len(text), size)])
    # An interrupt waits for what telnet asks along with it, in the same piece; of the rest no piece changes anything.
    for kinds in ((Line, TooLong, Foreign), Answer):
        assert [of for of in cut if isinstance(of, kinds)] == [of for of in whole if isinstance(of, kinds)], text
    for place, event in enumerate(whole):
        assert not isinstance(event, Foreign) or place == len(whole) - 1, text
        if isinstance(event, Line):
            assert len(event.data) <= _MAX_LINE, text
            try_line(event.data)
        elif isinstance(event, TooLong):
            assert len(text) > _MAX_LINE, text


def try_line(line: bytes) -> None:
    """It is a command, or an error in one line."""
    fault = ""
    try:
        line_commands.parse(line)
    except InvalidArgs as error:
        fault = str(error)
    assert line_replies.error(fault).count(b"\n") == 1, line


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()
