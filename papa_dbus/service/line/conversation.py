"""What is said on a connection of the line protocol: admission, then the kernel is called once for each line.

Commands run strictly one after the other; the bytes, and the end of the connection, are the session's.
"""

import logging
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from papa_dbus.errors import AccessDenied, NotFound, PapaError
from papa_dbus.service.caller import acting
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import commands as line_commands
from papa_dbus.service.line import replies as line_replies
from papa_dbus.service.line.front_end import Server, StuckError, TooMuch
from papa_dbus.service.line.handover import ConnectionState
from papa_dbus.service.line.reader import MAX_LINE, Foreign, Interrupt, Line, TooLong
from papa_dbus.service.line.states import Life, LifeEvent
from papa_dbus.service.line.watch import ConnectionWatch
from papa_dbus.service.steps import take_all, take_some

if TYPE_CHECKING:
    from papa_dbus.service.line.session import Session

log = logging.getLogger(__name__)


class Conversation:
    """Run what the client says. ``left_watch`` is a watch with which the next papad goes on."""

    def __init__(self, session: "Session", kernel: Kernel, server: Server) -> None:
        self._session = session
        self._kernel = kernel
        self._server = server
        self.left_watch: ConnectionWatch | None = None

    async def hold(self, sock: socket.socket, resumed: ConnectionState | None) -> bytes | None:
        """Work for who is let in; returns the last words, None where the next papad goes on."""
        session = self._session
        try:
            caller = await self._server.admit(session, sock)
        except PapaError as error:
            return line_replies.error(str(error))
        except OSError:
            return line_replies.error("the connection is gone")
        session.happen(LifeEvent.ADMIT)
        with acting(caller):
            try:
                if resumed is not None:
                    return await self._resume(resumed)
                if session.life is not Life.CLOSING:
                    await session.send(line_replies.WELCOME)
                return await self._run()
            except (AccessDenied, TooMuch) as error:
                return line_replies.error(str(error))

    async def _resume(self, left: ConnectionState) -> bytes | None:
        """Go on where the papad before this one was."""
        if left.unsent:
            await self._session.send(left.unsent, patiently=left.watch is not None)
        if left.watch is not None:
            try:
                watch = ConnectionWatch(self._session, self._kernel, self._server)
                watch.resume(left.watch, left.sent)
            except NotFound as error:
                return line_replies.error(str(error))
            if reply := await self._pass_on(watch):
                await self._session.send(reply)
        return await self._run()

    async def _run(self) -> bytes | None:
        """Work on line after line; returns the last words, None where the next papad goes on."""
        session = self._session
        while (event := await session.next_event()) is not None:
            match event:
                case Line():
                    last_words = await self._execute(event.data)
                    if last_words is not None:
                        return last_words
                case TooLong():
                    await session.send(line_replies.error(f"a line may have {MAX_LINE} bytes at most"))
                case Interrupt():
                    await session.send(b"\n" + line_replies.PROMPT)
                case Foreign():
                    return line_replies.foreign(event.protocol)
        return None if session.at_rest else session.close_reason

    async def _execute(self, line: bytes) -> bytes | None:
        """Do what a line says and reply; returns the last words where the connection ends with it.

        Raises AccessDenied where its user may do nothing any more, TooMuch where its connections hold too much.
        """
        await self._server.check(self._session)
        try:
            command = line_commands.parse(line)
            if isinstance(command, line_commands.Quit):
                return b"ok\n"
            if isinstance(command, line_commands.ExitIfIdle) and self._kernel.exit_if_idle():
                return line_replies.reply("Exiting papa!")
            reply = line_replies.PROMPT if command is None else await self._answer(command)
        except (StuckError, AccessDenied, TooMuch):
            raise
        except PapaError as error:
            reply = line_replies.error(str(error))
        except Exception:
            log.exception("a command of the line protocol failed")
            reply = line_replies.error("internal error")
        if reply:  # none where papad or the client ended a watch
            await self._session.send(reply)
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

    async def _watch(self, patterns: Sequence[str], first_line: str | None) -> bytes:
        """Pass output on, one batch for each acknowledgement; returns the reply that ends the watch."""
        watch = ConnectionWatch(self._session, self._kernel, self._server)
        watch.begin(patterns, first_line)
        return await self._pass_on(watch)

    async def _pass_on(self, watch: ConnectionWatch) -> bytes:
        reply = await watch.pass_on()
        if watch.is_left:
            self.left_watch = watch
        return reply
