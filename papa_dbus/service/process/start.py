"""The start of a process: pipes, row, fork, scope, gate. What is needed to find it again is stored before it exists."""

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from papa_dbus.errors import InvalidArgs, Limit, NotFound, PapaError, Spawn
from papa_dbus.service.clock import now
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.fork.child import ExecPlan, Identity
from papa_dbus.service.fork.fork import Fork
from papa_dbus.service.items.rows import ProcessRecord, StoredProcess
from papa_dbus.service.items.sockets import HostedSocket
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.lookups import Lookups
from papa_dbus.service.output.files import LogFiles
from papa_dbus.service.output.records import Stream
from papa_dbus.service.process.gate import PendingChild, Status
from papa_dbus.service.process.hosted import HostedProcess, ProcessCallbacks, ProcessFds, ScopeAssigner
from papa_dbus.service.process.identity import environment, identify
from papa_dbus.service.remedies import typed

log = logging.getLogger(__name__)

_DEFAULT_UMASK = 0o022
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_SOCKET_REFERENCE = re.compile(r"\$\(socket\.(?P<name>[^()]*)\.(?P<part>[^().]*)\)")


async def start(
    spec: ProcessSpec,
    sockets: Mapping[str, HostedSocket],
    fork: Fork,
    assign_scope: ScopeAssigner,
    callbacks: ProcessCallbacks,
    store: Store,
    lookups: Lookups,
) -> HostedProcess:
    """Start a process. After an error nothing of it is left.

    Raises InvalidArgs (no such user, a bad reference), NotFound (no such socket), Spawn and Limit.
    """
    identity = await identify(spec, lookups)
    with ExitStack() as ours, ExitStack() as undo:
        try:
            plan, pipes, files = _prepare(spec, identity, sockets, ours, undo)
        except OSError as error:
            raise Limit(f"process '{spec.name}': {error.strerror}") from None
        crash_point("pipes created")
        status = Status()
        ours.callback(status.close)
        key = store.begin_process(spec, {**pipes, "status": status.read}, [files.output, files.index])
        undo.callback(store.withdraw_process, key, spec)
        await store.kept()
        crash_point("process stored")
        with _named(spec):
            child = await PendingChild.forked(plan, fork, status)
        crash_point("process forked")
        try:
            facts = await _placed(child, spec, identity, assign_scope)
            store.process_runs(key, facts, child.pidfd)
            await store.kept()
        except BaseException:
            await child.cancel()
            raise
        crash_point("process placed")
        child.open_gate()
        crash_point("gate opened")
        facts = await _executed(child, spec, key, facts, store)
        undo.pop_all()
    crash_point("process runs")
    stored = StoredProcess(key, spec, facts, dict.fromkeys(pipes, 0), "running")
    return HostedProcess(stored, ProcessFds(child.pidfd, pipes, files), callbacks)


@contextmanager
def _named(spec: ProcessSpec) -> Iterator[None]:
    """Put the process's name before what cannot be done."""
    try:
        yield
    except (Spawn, Limit) as error:
        raise type(error)(f"process '{spec.name}': {error}") from None


async def _placed(
    child: PendingChild, spec: ProcessSpec, identity: Identity, assign_scope: ScopeAssigner
) -> ProcessRecord:
    """Put a process that waits at its gate into its scope; returns what is known of it then."""
    with _named(spec):
        unit = await assign_scope(child.pid, spec.name, spec.resources)
        if unit is None and spec.resources:
            option = next(iter(spec.resources))
            raise Spawn(f"option '{option}': there is no systemd that could limit it; ask without it")
    where = identity.home if spec.working_dir is None else spec.working_dir
    return ProcessRecord(child.pid, now(), identity.uid, identity.gid, where, unit)


async def _executed(
    child: PendingChild, spec: ProcessSpec, key: int, facts: ProcessRecord, store: Store
) -> ProcessRecord:
    """Wait until it has executed its program; returns what is known of it then."""

    def without_home() -> None:
        nonlocal facts
        facts = note_no_home(store, key, spec.name, facts)

    with _named(spec):
        await child.execute(without_home, lambda: store.withdraw_process(key, spec))
    return facts


def note_no_home(store: Store, key: int, name: str, facts: ProcessRecord) -> ProcessRecord:
    """Store that a process runs in /, since its user's home is not there; returns its facts."""
    elsewhere = replace(facts, working_dir="/")
    try:
        store.update_process(key, elsewhere, "running")
    except PapaError as error:
        log.error("process '%s': the next papad takes its working_dir for %s: %s", name, facts.working_dir, error)
    return elsewhere


def _prepare(
    spec: ProcessSpec, identity: Identity, sockets: Mapping[str, HostedSocket], ours: ExitStack, undo: ExitStack
) -> tuple[ExecPlan, dict[Stream, int], LogFiles]:
    """Make all that the child needs, the read ends of its pipes, and the files for what comes out of them.

    ``ours`` closes what only the child keeps, ``undo`` what papad keeps unless the start fails.
    """
    references = [_hosted(sockets, name) for name in _referenced(spec)]
    passed = [_hosted(sockets, name) for name in spec.sockets]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    ours.callback(os.close, null)
    pipes: dict[Stream, int] = {}
    out = err = null
    if spec.bufsize and spec.stdout == "pipe":
        pipes["out"], out = _pipe(ours, undo)
    if spec.stderr == "stdout":
        err = out
    elif spec.bufsize and spec.stderr == "pipe":
        pipes["err"], err = _pipe(ours, undo)
    descriptors, numbers = _plan_descriptors(
        out,
        err,
        null,
        [ours.enter_context(sock.for_process()) for sock in passed],
        {sock.spec.name: (sock.fileno, ours.enter_context(sock.for_process())) for sock in references},
    )
    plan = ExecPlan(
        argv=[_substitute(arg, numbers, sockets) for arg in spec.command],
        env=environment(spec, identity),
        identity=identity,
        working_dir=spec.working_dir,
        umask=_DEFAULT_UMASK if spec.umask is None else spec.umask,
        rlimits=spec.rlimits,
        descriptors=descriptors,
        listen_names=spec.sockets,
    )
    files = LogFiles.create()
    undo.callback(files.close)
    return plan, pipes, files


def _plan_descriptors(
    out: int, err: int, null: int, passed: Sequence[socket.socket], named: Mapping[str, tuple[int, socket.socket]]
) -> tuple[dict[int, int], dict[str, int]]:
    """Return the child's descriptor numbers, and those of the sockets its command names.

    ``passed`` come first, by the LISTEN_FDS protocol. A named one keeps papad's number, as Papa's clients expect,
    unless that is taken.
    """
    placed = {0: null, 1: out, 2: err}
    for number, sock in enumerate(passed, _LISTEN_FDS_START):
        placed[number] = sock.fileno()
    numbers: dict[str, int] = {}
    for name, (wanted, sock) in named.items():
        number = wanted if wanted not in placed else max(placed) + 1
        placed[number] = sock.fileno()
        numbers[name] = number
    return placed, numbers


def _pipe(ours: ExitStack, undo: ExitStack) -> tuple[int, int]:
    read, write = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, write)
    undo.callback(os.close, read)
    os.set_blocking(read, False)
    return read, write


def _hosted(sockets: Mapping[str, HostedSocket], name: str) -> HostedSocket:
    if name not in sockets:
        raise NotFound(f"socket '{name}' is not there; make it first {typed('socket make', 'make socket', name)}")
    return sockets[name]


def _referenced(spec: ProcessSpec) -> list[str]:
    """Return the sockets that the command names by file number. Raises InvalidArgs for a reference that is none."""
    names: dict[str, None] = {}
    for arg in spec.command:
        if _SOCKET_REFERENCE.sub("", arg).find("$(socket.") >= 0:
            raise InvalidArgs(f"command: {arg!r}: a reference is written $(socket.NAME.fileno) or $(socket.NAME.port)")
        for found in _SOCKET_REFERENCE.finditer(arg):
            if found["part"] not in ("fileno", "port"):
                raise InvalidArgs(f"command: {found[0]!r}: after the name comes .fileno or .port")
            if found["part"] == "fileno":
                names[found["name"]] = None
    return list(names)


def _substitute(arg: str, numbers: Mapping[str, int], sockets: Mapping[str, HostedSocket]) -> str:
    def value(found: re.Match[str]) -> str:
        if found["part"] == "fileno":
            return str(numbers[found["name"]])
        port = _hosted(sockets, found["name"]).port
        if port is None:
            raise InvalidArgs(f"command: {found[0]!r}: a Unix socket has no port; write .fileno")
        return str(port)

    return _SOCKET_REFERENCE.sub(value, arg)
