"""status, list, show and exit-if-idle: what papad holds."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from papa_dbus import __version__
from papa_dbus.client.aio import Kernel, KernelInfo, Process, Socket
from papa_dbus.client.cli import completion, printing
from papa_dbus.client.cli.columns import PROCESSES, SOCKETS, VALUES, state, state_style
from papa_dbus.client.cli.command import Command, Target, missing, with_kernel
from papa_dbus.client.cli.exit_status import Status
from papa_dbus.client.cli.printing import Column

JSON = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
_SINGULAR: dict[str, completion.Kind] = {"sockets": "socket", "processes": "process", "values": "value"}
_KINDS = tuple(_SINGULAR)


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, metavar="[NAME]...", type=completion.PROCESS)
@JSON
@with_kernel(needs_kernel=False)
async def status(kernel: Kernel, patterns: tuple[str, ...], as_json: bool) -> int:
    """Show papad, or some processes, on one screen.

    Of papad: its version, how long it is up, what it holds, what was dropped, what has failed. Of a process: whether it
    runs or how it ended, since when, its output.

    Starts no papad: if none runs it says so, with exit status 3. With a NAME it is 0 if all of these processes run,
    3 if one has ended, and 4 if one is not there, after the others are shown: as systemctl's.

    \b
    Examples:
      papactl status
      papactl status web
    """
    where = click.get_current_context().ensure_object(Target).described
    if problem := await missing(kernel.link, where):
        printing.say(problem)
        return Status.NOT_RUNNING
    if patterns:
        return await _status_of(kernel, patterns, as_json)
    info, processes = await kernel.info(), list((await kernel.list_processes()).values())
    if as_json:
        printing.as_json(asdict(info) | {"dropped_bytes": sum(p.dropped for p in processes)})
        return Status.OK
    _print_status(info, processes, where)
    return Status.OK


async def _status_of(kernel: Kernel, patterns: Sequence[str], as_json: bool) -> int:
    _, missed = await completion.divide(kernel, ("process",), patterns)
    processes = await _listed(kernel, "processes", patterns)
    if as_json and (processes or missed is None):
        printing.as_json(_as_json(processes, "processes"))
    elif not as_json:
        for number, process in enumerate(processes):
            if number:
                printing.line()
            _print_process(process)
    if missed is not None:
        raise missed
    return Status.OK if all(process.running for process in processes) else Status.NOT_RUNNING


def _print_process(process: Process) -> None:
    printing.line(f"● {process.name}: {state(process)}", f"bold {state_style(process)}".strip())
    up = f", up {printing.duration(time.time() - process.started / 1_000_000)}" if process.running else ""
    dropped = f", {printing.size(process.dropped)} dropped" if process.dropped else ""
    buffered = f"{printing.size(process.buffered)} buffered"
    printing.facts(
        (
            ("PID", process.pid),
            ("Started", f"{printing.moment(process.started)}{up}"),
            ("Unit", process.unit or None),
            ("Output", f"{buffered}{dropped}; papactl logs {shlex.quote(process.name)}"),
            ("Command", shlex.join(process.args)),
        )
    )


def _print_status(info: KernelInfo, processes: Sequence[Process], where: str) -> None:
    printing.line(f"● Papa {info.version}{where}", "bold green")
    up = time.time() - info.started / 1_000_000
    running = sum(p.running for p in processes)
    dropped = sum(p.dropped for p in processes)
    counts = (_count(info.sockets, "socket"), _count(info.processes, "process", "es"), _count(info.values, "value"))
    failed = [f"{p.name} ({state(p)})" for p in processes if p.exit_known and p.exit_code != 0]
    unknown = [p.name for p in processes if p.state == "unknown"]
    lossy = [f"{p.name} ({printing.size(p.dropped)})" for p in processes if p.dropped]
    printing.facts(
        (
            ("Up", f"{printing.duration(up)}, since {printing.moment(info.started)}"),
            ("Holds", ", ".join(counts)),
            ("Processes", f"{running} running, {len(processes) - running} ended" if processes else None),
            ("Output", f"{printing.size(info.buffered_bytes)} buffered, {printing.size(dropped)} dropped"),
            ("Failed", ", ".join(failed) or None),
            ("Unknown", f"{', '.join(unknown)} ended, and nobody saw how" if unknown else None),
            ("Dropped", ", ".join(lossy) or None),
            ("Note", _other_version(info.version)),
        ),
        lambda key: {"Failed": "red", "Unknown": "yellow", "Dropped": "yellow", "Note": "yellow"}.get(key, ""),
    )


def _other_version(version: str) -> str | None:
    if version == __version__:
        return None
    return f"papactl is {__version__}; if that is newer, 'systemctl reload papa' upgrades papad in place"


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else plural}"


class _Kind(click.Choice):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """What is listed: one of the kinds, or one of them in the singular."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the kind; say how a single item is listed."""
        kind = {singular: kind for kind, singular in _SINGULAR.items()}.get(value, value)
        if kind not in _KINDS:
            meant = f"papactl list processes '{value}'" if "*" in value else f"'papactl show {value}' shows one item"
            self.fail(f"{value!r} is none of {', '.join(map(repr, _KINDS))}; {meant}", param, ctx)
        return super().convert(kind, param, ctx)


@click.command("list", cls=Command)
@click.argument("kind", required=False, type=_Kind(_KINDS))
@click.argument("patterns", nargs=-1, metavar="[NAME]...", type=completion.ANYTHING)
@JSON
@click.option("--no-legend", is_flag=True, help="Without the columns' names.")
@with_kernel()
async def list_(kernel: Kernel, kind: str | None, patterns: tuple[str, ...], as_json: bool, no_legend: bool) -> None:
    """List sockets, processes and values.

    On a terminal it is a table; in a pipe it has plain columns, sizes in bytes and times like 2026-12-24T18:00:00+0100,
    the last column being the one that may have spaces in it. With --json times are in µs since 1970. Except with
    --json, a whole NAME that is not there is an error, after what is there.

    \b
    Examples:
      papactl list
      papactl list processes 'web*'
      papactl list processes --json | jq '.[].pid'
    """
    kinds = (kind,) if kind is not None else _KINDS
    found = {each: await _listed(kernel, each, patterns) for each in kinds}
    if as_json:
        printing.as_json(_as_json(found[kind], kind) if kind else {k: _as_json(found[k], k) for k in kinds})
        return
    names = [name for name in patterns if not name.endswith("*")]
    _, missed = await completion.divide(kernel, (_SINGULAR[kind],), names) if kind is not None else ([], None)
    for each in kinds:
        if kind is None and not found[each]:
            continue
        if kind is None and each != next(k for k in kinds if found[k]):
            printing.line()
        if found[each] or missed is None:
            printing.table(_columns(each), found[each], legend=not no_legend)
    if missed is not None:
        raise missed


async def _listed(kernel: Kernel, kind: str, patterns: Sequence[str]) -> list[Any]:
    if kind == "values":
        return sorted((await kernel.list_values(*patterns)).items())
    listed = kernel.list_sockets if kind == "sockets" else kernel.list_processes
    return [item for _, item in sorted((await listed(*patterns)).items())]


def _columns(kind: str) -> Sequence[Column]:
    return {"sockets": SOCKETS, "processes": PROCESSES, "values": VALUES}[kind]


def _as_json(found: list[Any], kind: str) -> Any:
    return dict(found) if kind == "values" else [asdict(item) for item in found]


@click.command(cls=Command)
@click.argument("name", type=completion.ANYTHING)
@JSON
@with_kernel()
async def show(kernel: Kernel, name: str, as_json: bool) -> None:
    """Show all that is known of one item.

    That is what has this name, be it a process, a socket or a value, or all of them.
    """
    await completion.check(kernel, completion.KINDS, [name])
    found = {kind: await _listed(kernel, kind, [name]) for kind in ("processes", "sockets")}
    values = await kernel.list_values(name)
    if as_json:
        printing.as_json({kind: _as_json(items, kind) for kind, items in found.items()} | {"values": values})
        return
    blocks = [_facts_of(item) for kind in found for item in found[kind]]
    blocks += [[("value", key), ("content", value)] for key, value in values.items()]
    for number, block in enumerate(blocks):
        if number:
            printing.line()
        printing.facts(block)


def _facts_of(item: Process | Socket) -> list[tuple[str, object]]:
    if isinstance(item, Socket):
        return [("socket", item.name), *((k, v) for k, v in asdict(item).items() if k != "name")]
    facts = asdict(item)
    facts |= {"args": shlex.join(item.args), "started": printing.moment(item.started)}
    if item.exit_timestamp is not None:
        facts["exit_timestamp"] = printing.moment(item.exit_timestamp)
    left_out = ("name", "running", "state", "exit_known")
    return [("process", item.name), ("state", item.state), *((k, v) for k, v in facts.items() if k not in left_out)]


@click.command("exit-if-idle", cls=Command)
@with_kernel()
async def exit_if_idle(kernel: Kernel) -> int:
    """Have papad exit if it holds nothing.

    If it does hold something it stays, and the exit status is 1.
    """
    if await kernel.exit_if_idle():
        printing.line("papad exits")
        return Status.OK
    printing.say("papad holds something, so it stays; 'papactl list' shows what")
    return Status.FAILED
