"""One connection of the line protocol: reads lines, calls the kernel once for each, writes the reply.

Owns the order of things on the connection, and how much of it is kept in memory. Who may connect, and whether who has
may still go on, the front end says.

Commands run strictly one after the other. Everything that may happen meanwhile (input, the end of the connection, room
to write, output to pass on, papad's own end) sets one event, on which the session sleeps; so nothing here polls.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, cast

from papa_dbus.errors import AccessDenied, Limit, NotFound, PapaError
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import commands as line_commands
from papa_dbus.service.line import replies as line_replies
from papa_dbus.service.line.handover import ConnectionState
from papa_dbus.service.line.reader import MAX_LINE, Answer, Foreign, Interrupt, Line, LineReader, TooLong
from papa_dbus.service.output.events import Event as WatchEvent
from papa_dbus.service.output.events import size_of
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.pacing import COALESCE_BYTES, COALESCE_DELAY
from papa_dbus.service.steps import Pace, Steps, take_all, take_some

log = logging.getLogger(__name__)

#: Bytes that are read ahead of what has been worked on.
MAX_READ_AHEAD: Final = 64 * 1024
#: Bytes of output in one batch of a watch; the next one waits for the acknowledgement.
MAX_BATCH: Final = 1024 * 1024
#: Seconds in which a client must make room for the reply to a command.
WRITE_TIMEOUT: Final = 60.0
#: Seconds from a line's first byte to its end. Between two lines, and in a watch, a client may take its time.
LINE_TIMEOUT: Final = 300.0
#: Papa's client reads the answer to `watch` with one recv() of so many bytes, and hides from select() what comes along:
#: a first batch of no more than that waits so many seconds, of a larger one something is left to be seen.
FIRST_READ: Final = 1024
SETTLE: Final = 0.05
#: Seconds for the last line to arrive before the connection goes; what comes meanwhile is thrown away.
LINGER: Final = 2.0

_Input = Line | TooLong | Interrupt | Foreign

#: What a connection has received, until it is looked at, at once: one for all, so that no read has to ask for memory.
_received_bytes = memoryview(bytearray(MAX_READ_AHEAD))


class TooMuch(Limit):
    """The connections of one user hold too much memory."""


class _StuckError(Exception):
    """The client made no room for a reply in time. There is no telling it: that is what it does not read."""


class Server(Protocol):
    """What a connection asks of the front end through which it came."""

    #: What takes long is done in these: that of one connection after the other, a step at each turn of the loop.
    steps: Steps
    #: And whatever else is done goes at this pace.
    pace: Pace

    async def admit(self, session: "Session", sock: socket.socket) -> Caller:
        """Let it in, and say whose it is. Raises AccessDenied or Limit."""

    async def check(self, session: "Session") -> None:
        """Raise AccessDenied where its user may not go on."""

    def batch_room(self, session: "Session") -> int:
        """Return the bytes that a watch's next batch may have."""

    def charge(self, session: "Session", more: int, *, always: bool = False) -> None:
        """Note how much memory it takes. Raises TooMuch, and notes nothing, if its user has too much.

        What batch_room() gave is charged ``always``.
        """

    def leave(self, session: "Session") -> None:
        """It has ended."""


class Session(asyncio.BufferedProtocol):
    """A connection. ``charged``: the bytes that its front end has noted for it.

    ``resumed`` is where it stood in the papad before this one, of which the client is to notice nothing.
    """

    def __init__(self, kernel: Kernel, server: Server, resumed: ConnectionState | None = None) -> None:
        self._kernel = kernel
        self._server = server
        self._admitted = False
        self.charged = 0
        self._resumed = resumed
        self._reader = LineReader() if resumed is None else LineReader.resume(resumed.reader)
        self._line_due: float | None = None  # the loop's time by which a line that has begun must have its end
        self._wakeup = asyncio.Event()
        self._writable = True
        self._at_end = False  # nothing more will come
        self._lost = False  # nothing can be written either
        self._close_reason: bytes | None = None
        self._leaving = False  # for the next papad
        self._left_watch: tuple[Watch, bool] | None = None
        self._unsent = b""  # with what may have been sent of it since
        self._watch_end = b""
        self._settling = False  # a watch has begun, and its client may not look for a batch yet
        self._rest_until = 0.0  # the loop's time from which a watch's next batch is due
        self._alarm: asyncio.TimerHandle | None = None
        self.left: tuple[int, ConnectionState] | None = None
        self._transport: asyncio.Transport
        self.task: asyncio.Task[None] | None = None

    # ------------------------------------------------------- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # _send() is to return when all is with Linux
        self.task = asyncio.get_running_loop().create_task(self._live(transport.get_extra_info("socket")))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to put what comes."""
        return _received_bytes

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came, and no more of it than is worked on soon."""
        self._reader.receive(bytes(_received_bytes[:nbytes]))
        if self._reader.waiting > MAX_READ_AHEAD or self._wakeup.is_set():  # it has not had its turn since the last
            self._transport.pause_reading()
        try:
            self._account()
        except TooMuch as error:
            self.end(str(error))
        self._wakeup.set()

    def _account(self, more: int = 0, always: bool = False) -> None:
        """Tell the front end what is held here, and so many bytes more. Raises TooMuch."""
        buffered = self._reader.buffered + self._transport.get_write_buffer_size() + len(self._unsent) + more
        if self._admitted and buffered != self.charged:
            self._server.charge(self, buffered - self.charged, always=always)
            self.charged = buffered

    def eof_received(self) -> bool:
        """Go on with what has come: the replies are still wanted."""
        self._at_end = True
        self._wakeup.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nobody is there any more."""
        self._at_end = self._lost = True
        self._wakeup.set()

    def pause_writing(self) -> None:
        """Linux has no more room."""
        self._writable = False

    def resume_writing(self) -> None:
        """All has been given to Linux."""
        self._writable = True
        self._wakeup.set()

    def end(self, text: str) -> None:
        """End the connection for papad's own reasons, after the command that runs; the text says why."""
        self._close_reason = line_replies.error(text)
        self._wakeup.set()

    def leave(self) -> None:
        """Come to rest after the command that runs; then ``left`` is a descriptor and where the connection stands.

        One that is not admitted yet stands where it came in: the next papad asks anew.
        """
        self._leaving = True
        self._wakeup.set()
        if not self._admitted and self.task is not None:
            self.left = self._duplicate(), self._resumed or ConnectionState(self._reader.state(), line_replies.WELCOME)
            self.task.cancel()

    @property
    def _at_rest(self) -> bool:
        return self._leaving and not self._ended

    def _leave_behind(self) -> None:
        """Note where the connection stands. It must end before anything else can happen on it."""
        watch, sent = (None, False) if self._left_watch is None else self._left_watch
        positions = None if watch is None else self._kernel.positions(watch)
        self.left = self._duplicate(), ConnectionState(self._reader.state(), self._still_unsent(), positions, sent)

    def _duplicate(self) -> int:
        return os.dup(self._transport.get_extra_info("socket").fileno())

    # ------------------------------------------------------------- one connection

    async def _live(self, sock: socket.socket) -> None:
        try:
            last_words = await self._enter(sock)
            if last_words is None:
                self._leave_behind()
            elif self._writable:  # else it does not read
                await self._send(last_words)
                await self._linger()
        except asyncio.CancelledError:
            if self.left is None:
                raise
        except _StuckError:
            log.info("a client that read no reply for %d seconds was disconnected", WRITE_TIMEOUT)
        except TooMuch as error:
            log.info("a client could not be told: %s", error)
        except Exception:
            log.exception("a connection of the line protocol failed")
        finally:
            self._transport.abort()
            self._server.leave(self)

    async def _enter(self, sock: socket.socket) -> bytes | None:
        """Work for who is let in; returns the last words, None where the next papad goes on."""
        self._transport.pause_reading()  # what strangers send stays with Linux
        try:
            caller = await self._server.admit(self, sock)
        except PapaError as error:
            return line_replies.error(str(error))
        except OSError:
            return line_replies.error("the connection is gone")
        self._admitted = True
        with acting(caller):
            try:
                if self._resumed is not None:
                    return await self._resume(self._resumed)
                if self._close_reason is None:
                    await self._send(line_replies.WELCOME)
                return await self._run()
            except (AccessDenied, TooMuch) as error:
                return line_replies.error(str(error))

    async def _resume(self, left: ConnectionState) -> bytes | None:
        """Go on where the papad before this one was."""
        if left.unsent:
            await self._send(left.unsent, patiently=left.watch is not None)
        if left.watch is not None:
            try:
                watch = self._kernel.resume_watch(left.watch, WatchSpec(), self._wakeup.set, self._watch_ended)
            except NotFound as error:
                return line_replies.error(str(error))
            if reply := await self._keep_watching(watch, [], left.sent):
                await self._send(reply)
        return await self._run()

    async def _run(self) -> bytes | None:
        """Work on line after line; returns the last words, None where the next papad goes on."""
        while (event := await self._next_event()) is not None:
            match event:
                case Line():
                    last_words = await self._execute(event.data)
                    if last_words is not None:
                        return last_words
                case TooLong():
                    await self._send(line_replies.error(f"a line may have {MAX_LINE} bytes at most"))
                case Interrupt():
                    await self._send(b"\n" + line_replies.PROMPT)
                case Foreign():
                    return _foreign(event)
        return None if self._at_rest else self._close_reason or b""

    async def _next_event(self) -> _Input | None:
        """The next thing that the client says; None at the end."""
        while not (self._ended or self._leaving):
            event = await self._received()
            if event is not None:
                self._line_due = None
                return event
            if self._at_end:
                return None
            await self._stir_in_time()
        return None

    async def _stir_in_time(self) -> None:
        """Sleep until something has happened; end the connection if a line that has begun takes too long."""
        if not self._reader.in_line:
            self._line_due = None
        elif self._line_due is None:
            self._line_due = asyncio.get_running_loop().time() + LINE_TIMEOUT
        try:
            async with asyncio.timeout_at(self._line_due):
                await self._wait_for_wakeup()
        except TimeoutError:
            self.end(f"a line was begun {LINE_TIMEOUT:.0f} s ago and has no end (LF, CR LF or CR NUL)")

    async def _received(self) -> _Input | None:
        """The next thing that has come already. Telnet's own questions are answered on the way."""
        while isinstance(event := self._reader.next_event(), Answer):
            await self._send(event.data)
            await self._server.pace.turn()
        if event is not None:
            if self._reader.waiting:
                await self._server.pace.turn()  # others have theirs between two lines of one piece
        elif not self._at_end:
            self._transport.resume_reading()
        return event

    @property
    def _ended(self) -> bool:
        return self._lost or self._close_reason is not None

    def _over(self) -> bool:
        return self._at_end or self._ended

    async def _wait_for_wakeup(self) -> None:
        """Sleep until something has happened, and it is this one's turn. The caller has just looked at all that may."""
        await self._wakeup.wait()
        await self._server.pace.turn()
        self._wakeup.clear()

    async def _send(self, data: bytes, *, patiently: bool = False) -> None:
        """Write, and wait until the client has made room: ``WRITE_TIMEOUT`` long, then _StuckError is raised.

        What is sent ``patiently`` may wait for ever, but for the end of papad; then it is not all sent. Nor is it where
        the next papad goes on with it.
        """
        if self._lost:
            return
        self._account(len(data), patiently)
        self._unsent = self._still_unsent() + data
        self._transport.write(data)
        if self._is_blocked(patiently):
            await self._wait_for_room(patiently)
            self._wakeup.set()  # what else has happened meanwhile is still to be looked at
        self._unsent = self._still_unsent()
        self._account()

    async def _wait_for_room(self, patiently: bool) -> None:
        try:
            async with asyncio.timeout(None if patiently else WRITE_TIMEOUT):
                while self._is_blocked(patiently):
                    await self._wait_for_wakeup()
        except TimeoutError:
            raise _StuckError from None

    def _still_unsent(self) -> bytes:
        left = self._transport.get_write_buffer_size()
        return self._unsent[-left:] if left else b""

    def _is_blocked(self, patiently: bool) -> bool:
        if self._at_rest or (patiently and self._close_reason is not None):
            return False
        return not (self._writable or self._lost)

    async def _linger(self) -> None:
        """Let the last words arrive: a close with unread input may destroy them (RFC 1122, 4.2.2.13)."""
        self._reader.close()
        if self._over():
            return
        try:
            self._transport.write_eof()
        except OSError:  # it has gone, and asyncio has not noticed yet
            return
        try:
            async with asyncio.timeout(LINGER):
                while not (self._over() or self._leaving):
                    self._transport.resume_reading()
                    await self._wait_for_wakeup()
        except TimeoutError:
            pass

    # ------------------------------------------------------------------ commands

    async def _execute(self, line: bytes) -> bytes | None:
        """Do what a line says and reply; returns the last words where the connection ends with it.

        Raises AccessDenied where its user may do nothing any more, TooMuch where its connections hold too much.
        """
        await self._server.check(self)
        try:
            command = line_commands.parse(line)
            if isinstance(command, line_commands.Quit):
                return b"ok\n"
            if isinstance(command, line_commands.ExitIfIdle) and self._kernel.exit_if_idle():
                return line_replies.reply("Exiting papa!")
            reply = line_replies.PROMPT if command is None else await self._answer(command)
        except (_StuckError, AccessDenied, TooMuch):
            raise
        except PapaError as error:
            reply = line_replies.error(str(error))
        except Exception:
            log.exception("a command of the line protocol failed")
            reply = line_replies.error("internal error")
        if reply:  # none where papad or the client ended a watch
            await self._send(reply)
        return None

    async def _answer(self, command: line_commands.Command) -> bytes:
        """Call the kernel, once, and give its answer."""
        match command:
            case line_commands.MakeSocket():
                return line_replies.reply(line_replies.socket_line(await self._kernel.make_socket(command.spec)))
            case line_commands.MakeProcess():
                return await self._make_process(command)
            case line_commands.List():
                return await self._list(command)
            case line_commands.Remove():
                await self._remove(command)
            case line_commands.WatchProcesses():
                return await self._watch(command.patterns, None)
            case line_commands.SetValue():
                self._set(command)
            case line_commands.GetValue():
                return line_replies.reply(self._get(command.name))
            case line_commands.ExitIfIdle():
                return line_replies.reply("not idle")
            case line_commands.Help():
                return line_replies.reply(command.text)
        return line_replies.reply()

    async def _list(self, command: line_commands.List) -> bytes:
        """Answer at once if one step is enough; else begin anew when it is this one's turn."""
        lines: list[str] = []
        if take_some(self._lines(command), lines.extend):
            lines.sort()
            return line_replies.some_lines(lines) + (line_replies.PROMPT if lines else line_replies.reply())
        lines.clear()
        reply = bytearray()
        async with self._server.steps.turn:
            await take_all(self._lines(command), lines.extend)
            lines.sort()  # they nearly are
            await take_all(iter(lines), lambda some: reply.extend(line_replies.some_lines(some)))
            reply.extend(line_replies.PROMPT if lines else line_replies.reply())
        return bytes(reply)

    def _lines(self, command: line_commands.List) -> Iterator[str]:
        kernel, patterns = self._kernel, command.patterns
        if command.kind == "sockets":
            return map(line_replies.socket_line, kernel.each_socket(patterns))
        if command.kind == "processes":
            return (line_replies.process_line(info.short()) for info in kernel.each_process(patterns))
        return (line_replies.value_line(name, text) for name, text in kernel.each_value(patterns))

    async def _remove(self, command: line_commands.Remove) -> None:
        files = self._kernel.files(command.patterns) if command.kind == "sockets" else []
        rest = self._server.steps.take(self._removing(command), lambda names: None, lambda: None)
        if rest is not None:
            await rest
        await self._kernel.files_removed(files)

    def _removing(self, command: line_commands.Remove) -> Iterator[str]:
        if command.kind == "sockets":
            return self._kernel.removing_sockets(command.patterns)
        if command.kind == "processes":
            return self._kernel.removing_processes(command.patterns)
        return self._kernel.removing_values(command.patterns, missing_ok=True)  # as Papa always had it

    def _set(self, command: line_commands.SetValue) -> None:
        if command.value is None:
            self._kernel.remove_values([command.name], missing_ok=True)
        else:
            self._kernel.set_value(command.name, command.value)

    def _get(self, name: str) -> str:
        try:
            return line_replies.value(self._kernel.get_value(name))
        except NotFound:
            return ""

    async def _make_process(self, command: line_commands.MakeProcess) -> bytes:
        text = line_replies.process_line(await self._kernel.make_process(command.spec))
        if not command.watch:
            return line_replies.reply(text)
        return await self._watch([command.spec.name], text)

    # -------------------------------------------------------------------- watching

    async def _watch(self, patterns: Sequence[str], first_line: str | None) -> bytes:
        """Pass output on, one batch for each acknowledgement; returns the reply that ends the watch."""
        watch = self._kernel.watch(patterns, WatchSpec(), self._wakeup.set, self._watch_ended)
        names, batch = len(watch.names), watch.take(self._server.batch_room(self))
        line = first_line.encode() + b"\n" if first_line else line_replies.watching(names, batch)
        batch = line_replies.without_losses(batch)
        return await self._keep_watching(watch, batch, sent=False, line=line)

    def _watch_ended(self, end: End) -> None:
        """Have the reply that ends the watch say why."""
        self._watch_end = line_replies.watch_end(end)
        self._wakeup.set()

    async def _keep_watching(self, watch: Watch, batch: list[WatchEvent], sent: bool, line: bytes = b"") -> bytes:
        """Say the first line, pass output on, and close the watch, unless the next papad goes on with it."""
        try:
            if (noted := self._kernel.noted(watch.names)) is not None:
                await noted
            if line:
                await self._send(line)
            return await self._pass_on(watch, batch, sent)
        finally:
            if self._left_watch is None:
                watch.close(away=self._close_reason is not None)  # papad ends it, and its client may come back

    async def _pass_on(self, watch: Watch, batch: list[WatchEvent], sent: bool) -> bytes:
        """Send ``batch``, and whatever follows; returns the reply that ends the watch.

        ``sent``: a batch was sent before, and waits for its acknowledgement.
        """
        self._settling = True
        self._rest_until = asyncio.get_running_loop().time() + SETTLE
        while not self._ended:
            if watch.closed and not (sent or batch):
                return self._watch_end
            if self._leaving and not batch:
                self._left_watch = (watch, sent)
                return b""
            said = await self._received()
            if isinstance(said, Foreign):
                self._close_reason = _foreign(said)
            elif said is not None:
                if sent:
                    watch.acknowledge_taken()
                    sent = False
                if watch.closed or _is_quit(said):
                    return self._watch_end if watch.closed else line_replies.reply("Stopped watching")
            elif self._at_end:
                break
            elif not sent and self._fill(batch, watch):
                sent = True
                data = line_replies.batch(batch)
                batch.clear()  # also for those who have passed it: it is not counted as the session's
                self._settling = False
                await self._server.check(self)
                self._rest_until = asyncio.get_running_loop().time() + (
                    COALESCE_DELAY if len(data) < COALESCE_BYTES else 0
                )
                # A watcher may take its time: until it reads and acknowledges, this batch is all that waits for it.
                await self._send(data, patiently=True)
                del data
            else:
                await self._wait_for_wakeup()
        return b""

    def _fill(self, batch: list[WatchEvent], watch: Watch) -> bool:
        """Take the next batch where it is time; else the session is stirred when it is. Returns whether it is to go."""
        loop = asyncio.get_running_loop()
        due = loop.time() >= self._rest_until
        if (due and not batch) or self._settling:
            room = self._server.batch_room(self) - sum(map(size_of, batch))
            if room > 0:
                batch += watch.take(room)
        if due or (self._settling and sum(map(size_of, batch)) > FIRST_READ):
            return bool(batch)
        if (batch or watch.ready) and (self._alarm is None or self._alarm.when() != self._rest_until):
            self._alarm = loop.call_at(self._rest_until, self._wakeup.set)
        return False


def _is_quit(event: _Input) -> bool:
    return isinstance(event, Interrupt) or (isinstance(event, Line) and event.data.strip().lower() in (b"q", b"quit"))


def _foreign(event: Foreign) -> bytes:
    return line_replies.error(f"this is Papa's line protocol and not {event.protocol}; nothing of it was run")
