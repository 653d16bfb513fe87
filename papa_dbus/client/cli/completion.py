"""The names of what papad holds, completed while somebody types, and guessed at where one is not there."""

import asyncio
import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

import click
from click.shell_completion import CompletionItem, ZshComplete, add_completion_class

from papa_dbus.client.aio import Kernel
from papa_dbus.client.cli.command import Target
from papa_dbus.client.cli.printing import clean
from papa_dbus.errors import Limit, NotFound, PapaError
from papa_dbus.names import match

Kind = Literal["process", "socket", "value"]
KINDS: tuple[Kind, ...] = ("process", "socket", "value")
#: The command that shows one of each kind, and the one that removes it.
SHOWN: Mapping[Kind, str] = dict.fromkeys(KINDS, "papactl show")
REMOVED: Mapping[Kind, str] = {
    "process": "papactl remove",
    "socket": "papactl socket remove",
    "value": "papactl unset",
}
#: Seconds: somebody waits for the completion of a word.
_TIMEOUT = 2.0


async def names_of(kernel: Kernel, kind: Kind, patterns: Sequence[str] = ()) -> list[str]:
    """Return the names of a kind that match the patterns; all of them without one."""
    if kind == "process":
        return list(await kernel.list_processes(*patterns))
    if kind == "socket":
        return list(await kernel.list_sockets(*patterns))
    return list(await kernel.list_values(*patterns))


async def check(
    kernel: Kernel, kinds: Iterable[Kind], wanted: Sequence[str], elsewhere: Mapping[Kind, str] = SHOWN
) -> None:
    """Raise NotFound for a name or pattern that is none of any of these kinds, with what was probably meant.

    ``elsewhere`` has the command, before the name, if it is of another kind. Only if there is none, all names are asked
    for, of which there may be more than one answer takes.
    """
    _, error = await divide(kernel, kinds, wanted, elsewhere)
    if error is not None:
        raise error


async def divide(
    kernel: Kernel, kinds: Iterable[Kind], wanted: Sequence[str], elsewhere: Mapping[Kind, str] = SHOWN
) -> tuple[list[str], NotFound | None]:
    """Return what there is of it and what check() would raise, for a command that does first what it can."""
    every = {name for kind in kinds if wanted for name in await names_of(kernel, kind, wanted)}
    there = [
        name
        for name in wanted
        if match(name, every) or (name.isdecimal() and await _is_number_of_one(kernel, kinds, name))
    ]
    for name in wanted:
        if name not in there:
            meant = await _of_another_kind(kernel, kinds, name, elsewhere) or await _misspelt(kernel, kinds, name)
            return there, NotFound(f"there is no {' or '.join(kinds)} '{clean(name)}'; {meant}")
    return there, None


async def _of_another_kind(kernel: Kernel, kinds: Iterable[Kind], name: str, elsewhere: Mapping[Kind, str]) -> str:
    for kind in KINDS:
        if kind not in kinds and match(name, await names_of(kernel, kind, [name])):
            return f"there is a {kind}: '{elsewhere[kind]} {shlex.quote(clean(name))}'"
    return ""


async def _misspelt(kernel: Kernel, kinds: Iterable[Kind], name: str) -> str:
    every: set[str] = set()
    with suppress(Limit):
        every = {name for kind in kinds for name in await names_of(kernel, kind)}
    close = difflib.get_close_matches(name, every, n=1)
    return f"did you mean '{close[0]}'?" if close else "'papactl list' shows what there is"


async def _is_number_of_one(kernel: Kernel, kinds: Iterable[Kind], number: str) -> bool:
    """Return whether it is the PID of a process, or the file number of a socket."""
    return any([await names_of(kernel, kind, [number]) for kind in kinds if kind != "value"])


class AutoloadedZsh(ZshComplete):
    """click's script for zsh, which takes every call but the first for its being set up, so that every second TAB
    of an autoloaded one did nothing: zsh has the whole file as the function _papactl from then on (zshmisc(1)).
    """

    source_template = ZshComplete.source_template.replace(
        "$zsh_eval_context[-1] == loadautofunc", '"$funcstack[1]" == _%(prog_name)s'
    )


add_completion_class(AutoloadedZsh)


class Name(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """The name of something that papad holds."""

    name = "name"

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return what could be meant. Asks no papad that does not run, and none on another machine."""
        target = ctx.ensure_object(Target)
        if target.host is not None:
            return []
        try:
            found = asyncio.run(self._all(target))
        except (PapaError, OSError, TimeoutError):
            return []
        given = ctx.params.get(param.name or "") or ()
        return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete) and name not in given]

    async def _all(self, target: Target) -> set[str]:
        async with asyncio.timeout(_TIMEOUT), target.connect(needs_kernel=False, patience=_TIMEOUT) as kernel:
            if not kernel.link.present:
                return set()
            return {name for kind in self.kinds for name in await names_of(kernel, kind)}


PROCESS = Name("process")
SOCKET = Name("socket")
VALUE = Name("value")
ANYTHING = Name(*KINDS)
