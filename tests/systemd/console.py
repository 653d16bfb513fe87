"""A page's console blocks, typed into a terminal of a container and compared with what the page says.

The convention: ``# `` stands before what root types, ``$ `` before what a user types; ``> `` or ``] `` before what goes
to a program that shows this prompt (a shell in the middle of a command, telnet); ``^C`` where Ctrl-C is typed once what
stands above it has come. All else is output: ``…`` stands for anything in a line, and alone for any lines; how many
blanks are between columns or before a line does not matter. A command succeeds, or the next one is ``echo $?``. All
blocks of a page are one session of each user, from top to bottom.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pexpect
from markdown_it import MarkdownIt
from markdown_it.token import Token

#: Rows and columns: papactl's tables are as wide as the terminal.
_SIZE = (60, 100)
#: The shell's prompt, which says how the last command has ended.
_PROMPT = "@papa-docs@"
_READY = rf"{_PROMPT}(\d+) "
_PATIENCE = 30  # seconds


@dataclass
class Command:
    """One command of a page, and what stands below it."""

    line: int
    user: str  # "#" or "$"
    typed: str
    output: list[str] = field(default_factory=list)


def fences(page: Path) -> Iterator[Token]:
    """The code blocks of a page."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        if token.type in ("fence", "code_block"):
            yield token


def commands(page: Path) -> list[Command]:
    """What a page's console blocks have typed."""
    found: list[Command] = []
    for token in fences(page):
        if token.info.split()[:1] != ["console"]:
            continue
        assert token.map is not None
        fresh = True
        for number, line in enumerate(token.content.splitlines(), token.map[0] + 2):
            if line.startswith(("# ", "$ ")):
                found.append(Command(number, line[0], line[2:]))
            elif fresh:
                raise AssertionError(f"{page}:{number}: a console block begins with a command, not with {line!r}")
            else:
                found[-1].output.append(line)
            fresh = False
    return found


class Stuck(Exception):
    """What was to come did not; the message is what did."""


class Shell:
    """A shell on a terminal."""

    def __init__(self, command: list[str]) -> None:
        self._child = pexpect.spawn(command[0], command[1:], timeout=_PATIENCE, encoding="utf-8", dimensions=_SIZE)
        self._child.delaybeforesend = None
        self._child.sendline(f"cd; unset HISTFILE; stty -echo; PS1='{_PROMPT}$? ' PS2='> '")
        self._child.expect(_READY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(force=True)

    def _until(self, expected: str) -> tuple[str, re.Match[str]]:
        try:
            self._child.expect(expected)
        except (pexpect.TIMEOUT, pexpect.EOF):
            raise Stuck(self._child.before) from None
        match = self._child.match
        assert isinstance(match, re.Match)
        return self._child.before or "", match

    def run(self, command: Command) -> tuple[str, int]:
        """Type a command, and what it is told on the way; what is on the screen then, and its status."""
        screen, above, echo = "", list[str](), ""
        self._child.sendline(command.typed)
        for line in command.output:
            if line == "^C":
                before, match = self._until(pattern(above))
                screen += before + match[0]
                self._child.sendintr()
                above = []
            elif line.startswith(("> ", "] ")) or line in (">", "]"):
                before, match = self._until(rf"(^|\n){re.escape(line[0])} $")
                screen += f"{before.removeprefix(echo)}{match[1]}{line}\n"
                self._child.sendline(line[2:])
                above, echo = [], f"{line[2:]}\r\n"  # telnet has it echoed, the shell does not
            else:
                above.append(line)
        before, match = self._until(_READY)
        screen = (screen + before.removeprefix(echo)).replace("\r", "")
        return screen if screen.endswith("\n") or not screen else f"{screen}\n", int(match[1])


def pattern(lines: list[str]) -> str:
    """The regular expression for output."""
    parts = []
    for line in lines:
        if line == "…":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append(" *" + r"[^\n]*?".join(map(re.escape, line.strip(" ").split("…"))) + r"[ \r]*\n")
    return re.sub(r"(\\ ){2,}", " +", "".join(parts))  # columns


def differences(page: Path, shell_of: Callable[[str], Shell]) -> Iterator[str]:
    """Run a page; each command that did something else than the page says."""
    todo = commands(page)
    for command, following in zip(todo, [*todo[1:], None], strict=True):
        try:
            screen, status = shell_of(command.user).run(command)
        except Stuck as stuck:
            yield f"{page}:{command.line}: {command.typed}\ndoes not go on; the last that it printed:\n{stuck}"
            return
        if not re.fullmatch(pattern([line for line in command.output if line != "^C"]), screen):
            expected = "\n".join(command.output)
            yield f"{page}:{command.line}: {command.typed}\n--- the page:\n{expected}\n--- the machine:\n{screen}"
        elif status != 0 and "^C" not in command.output and not (following and following.typed == "echo $?"):
            yield f"{page}:{command.line}: {command.typed}\nended with {status}, and the page does not say so"
