"""Hosted processes, real ones: what they get, what is kept of them, how they end."""

import asyncio
import json
import os
import pwd
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.errors import InvalidArgs, Limit, NotFound, Spawn
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.process.hosted import STATE, State
from papa_dbus.state_table import TransitionError
from tests.bus.scripted_child import ScriptedChild
from tests.state_tables import reachable
from tests.support import PATIENCE, Reader, alive, children, descriptors, ended, output_of, run, turns, until

#: Signals 32 and 33, which glibc keeps for itself: nobody can give them back who was started without them.
threads_own = 0b11 << 31
DUMP = "import sys, json; json.dump(sys.argv[1:], sys.stdout)"
#: Who forks makes no difference.
pytestmark = pytest.mark.usefixtures("forked_by")


# ------------------------------------------------------------------ what it gets


@pytest.mark.parametrize(
    "args", [[""], [" a", "a ", "a  b"], ["a\nb", "\n"], ["a=b", "--x=y"], ["\\", "a\\"], ["$(x)", "'", '"'], ["ü€"]]
)
async def test_defect_21_arguments_arrive_as_given(kernel: Kernel, args: list[str]) -> None:
    said = await output_of(kernel, sys.executable, "-c", DUMP, *args)
    assert json.loads(said) == args


async def test_defect_22_every_socket_reference_is_replaced(kernel: Kernel) -> None:
    one = await kernel.make_socket(SocketSpec("one"))
    two = await kernel.make_socket(SocketSpec("b.two"))
    said = await output_of(
        kernel, "echo", "$(socket.one.port)+$(socket.one.port)=$(socket.b.two.fileno)/$(socket.b.two.port)"
    )
    assert said == f"{one.port}+{one.port}={two.fileno}/{two.port}\n"


@pytest.mark.parametrize(
    ("arg", "error"),
    [
        ("$(socket.none.port)", NotFound),
        ("$(socket.one)", InvalidArgs),
        ("$(socket.one.path)", InvalidArgs),
        ("$(socket.one.port", InvalidArgs),
        ("$(socket.file.port)", InvalidArgs),
    ],
)
async def test_bad_socket_references(kernel: Kernel, tmp_path: Path, arg: str, error: type[Exception]) -> None:
    await kernel.make_socket(SocketSpec("one"))
    await kernel.make_socket(SocketSpec("file", path=str(tmp_path / "s")))
    with pytest.raises(error, match="socket"):
        await run(kernel, "echo", arg)
    assert kernel.process_count == 0


async def test_defect_11_a_child_inherits_what_its_command_names_and_nothing_else(kernel: Kernel) -> None:
    await kernel.make_socket(SocketSpec("other"))
    mine = await kernel.make_socket(SocketSpec("mine"))
    await run(kernel, "sleep", "60", name="bystander")
    script = "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd')))"
    said = await output_of(kernel, sys.executable, "-c", script, "$(socket.mine.fileno)")
    got = set(json.loads(said))
    assert got >= {0, 1, 2, mine.fileno}
    assert len(got) == 5, "the fifth is the listing's own"


async def test_listen_fds_protocol(kernel: Kernel) -> None:
    sockets = [await kernel.make_socket(SocketSpec(name)) for name in ("a", "b")]
    script = (
        "import os, socket; assert int(os.environ['LISTEN_PID']) == os.getpid(); n = int(os.environ['LISTEN_FDS']);"
        "print([socket.socket(fileno=3 + i).getsockname()[1] for i in range(n)])"
    )
    said = await output_of(kernel, sys.executable, "-c", script, sockets=("b", "a"))
    assert said == f"[{sockets[1].port}, {sockets[0].port}]\n"


async def test_numbers_do_not_collide_with_those_of_listen_fds(kernel: Kernel) -> None:
    """A socket that papad has at 3 must not be where the protocol puts another one."""
    made = [await kernel.make_socket(SocketSpec(f"s{n}")) for n in range(8)]
    low = min(made, key=lambda info: info.fileno)
    script = "import sys, socket; print(socket.socket(fileno=int(sys.argv[1])).getsockname()[1])"
    said = await output_of(
        kernel,
        sys.executable,
        "-c",
        script,
        f"$(socket.{low.name}.fileno)",
        sockets=tuple(info.name for info in made if info.name != low.name) * 3,
    )
    assert said == f"{low.port}\n"


@pytest.mark.root
async def test_defect_33_a_login_like_environment(kernel: Kernel) -> None:
    said = await output_of(
        kernel, "sh", "-c", "umask; pwd; env -u PWD -u SHLVL -u _ | cut -d= -f1 | sort | tr '\\n' ' '"
    )
    umask, directory, names = said.splitlines()
    assert umask == "0022"
    assert directory == os.path.expanduser("~")
    assert names.split() == ["HOME", "LANG", "LOGNAME", "PATH", "USER"]


async def test_a_given_environment_is_the_whole_environment(kernel: Kernel) -> None:
    said = await output_of(kernel, "/usr/bin/env", env={"A": "1", "EMPTY": "", "EQUALS": "a=b", "LINES": "x\ny"})
    assert sorted(said.splitlines()) == sorted("A=1\nEMPTY=\nEQUALS=a=b\nLINES=x\ny".splitlines())


async def test_directory_umask_and_limits(kernel: Kernel, tmp_path: Path) -> None:
    said = await output_of(
        kernel,
        "sh",
        "-c",
        "pwd; umask; ulimit -n; ulimit -c",
        working_dir=str(tmp_path),
        umask=0o77,
        rlimits={"nofile": 77, "core": 0},
    )
    assert said.splitlines() == [str(tmp_path), "0077", "77", "0"]


async def test_the_descriptor_limit_is_the_one_papad_was_started_with_or_the_usual(
    kernel: Kernel, many_descriptors: tuple[int, int]
) -> None:
    soft, hard = many_descriptors
    said = (await output_of(kernel, "sh", "-c", "ulimit -Sn; ulimit -Hn")).split()
    assert [int(number) for number in said] == [min(soft, 1024), hard]


@pytest.mark.root
async def test_user_and_groups(kernel: Kernel) -> None:
    assert os.geteuid() == 0, "these tests change users: run them as root"
    by_name = await output_of(kernel, "id", uid="nobody")
    by_number = await output_of(kernel, "id", uid=65534)
    assert by_name == by_number == "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n"
    assert "gid=6(disk)" in await output_of(kernel, "id", uid="nobody", gid="disk")
    assert await output_of(kernel, "id", uid=4242, gid=6) == "uid=4242 gid=6(disk) groups=6(disk)\n"


@pytest.mark.root
async def test_supplementary_groups(kernel: Kernel) -> None:
    groups = os.getgrouplist("www-data", 33)
    said = await output_of(kernel, "sh", "-c", "id -G", uid="www-data")
    assert {int(group) for group in said.split()} == set(groups)


async def test_its_own_session_and_no_input(kernel: Kernel) -> None:
    script = "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '', os.isatty(0))"
    assert await output_of(kernel, sys.executable, "-c", script) == "True True False\n"


async def test_signals_are_as_a_shell_would_leave_them(kernel: Kernel) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        said = await output_of(kernel, "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
    finally:
        signal.signal(signal.SIGUSR1, before)
    blocked, ignored = (int(line.split()[1], 16) for line in said.splitlines())
    assert blocked == 0
    assert ignored & ~threads_own == 0


async def test_the_program_is_looked_for_in_its_own_path(kernel: Kernel, tmp_path: Path) -> None:
    program = tmp_path / "here=and there"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert await output_of(kernel, program.name, env={"PATH": f"{tmp_path}:/bin"}) == "found\n"


# --------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("command", "options", "error", "says"),
    [
        (["/nope"], {}, Spawn, "process 'p': cannot execute /nope: No such file or directory"),
        (["nope"], {}, Spawn, "cannot execute nope: No such file or directory"),
        (["/etc"], {}, Spawn, "cannot execute /etc: Permission denied"),
        (["/etc/passwd"], {}, Spawn, "cannot execute /etc/passwd: Permission denied"),
        (
            ["true"],
            {"working_dir": "/nope"},
            Spawn,
            "/nope (option 'working_dir'): No such file",
        ),
        (["true"], {"working_dir": "/etc/passwd"}, Spawn, "/etc/passwd (option 'working_dir'): Not a directory"),
        (["true"], {"uid": "nobody", "working_dir": "/root"}, Spawn, "/root (option 'working_dir'): Permission denied"),
        (["true"], {"uid": "no-such-user"}, InvalidArgs, "option 'uid': there is no user 'no-such-user'"),
        (["true"], {"uid": 4242}, InvalidArgs, "there is no user 4242, so option 'gid' must be given"),
        (["true"], {"gid": "no-such-group"}, InvalidArgs, "option 'gid': there is no group 'no-such-group'"),
        (["true"], {"sockets": ("none",)}, NotFound, "socket 'none' is not there"),
        (["true", *["x" * 130_000] * 16], {"rlimits": {"stack": 65536}}, Spawn, "Argument list too long"),
    ],
)
@pytest.mark.root
async def test_what_cannot_be_started_says_why_and_leaves_nothing(
    kernel: Kernel, command: list[str], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=".") as caught:
        await run(kernel, *command, **options)
    assert says in str(caught.value)
    assert kernel.process_count == 0
    assert not children()


async def test_a_limit_above_the_hard_one_is_refused(kernel: Kernel) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = Path("/proc/sys/fs/nr_open").read_text()
    with pytest.raises(Spawn, match="cannot set option 'rlimits nofile' to"):
        await run(kernel, "true", rlimits={"nofile": int(before) + 1 + hard})


# ------------------------------------------------------------- output and the end


async def test_both_streams_in_one_sequence(kernel: Kernel, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path)
    await run(kernel, *scripted_child.command)
    reader = Reader(kernel, ["p"])
    for number in ("1", "2", "3"):
        scripted_child.say(f"o{number}")
        await reader.until(f"o{number}")
        scripted_child.complain(f"e{number}")
        await reader.until(f"e{number}")
    scripted_child.end()
    await reader.until_exited()
    assert reader.data("out") == b"o1\no2\no3\n"
    assert reader.data("err") == b"e1\ne2\ne3\n"
    assert reader.data() == b"o1\ne1\no2\ne2\no3\ne3\n"


async def test_streams_can_be_joined_or_thrown_away(kernel: Kernel) -> None:
    both = "echo out; echo err >&2"
    await run(kernel, "sh", "-c", both, name="joined", stderr="stdout")
    await run(kernel, "sh", "-c", both, name="out", stderr="null")
    await run(kernel, "sh", "-c", both, name="err", stdout="null")
    await run(kernel, "sh", "-c", both, name="none", bufsize=0)
    reader = Reader(kernel, [])
    await reader.until_exited(4)
    assert reader.data("out", "joined") == b"out\nerr\n"
    assert reader.data(name="out") == b"out\n"
    assert reader.data(name="err") == b"err\n"
    assert reader.data(name="none") == b""


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -TERM $$", -15)])
async def test_exit_codes(kernel: Kernel, script: str, code: int) -> None:
    await run(kernel, "sh", "-c", script)
    reader = Reader(kernel, ["p"], acknowledge=False)
    await reader.until_exited()
    assert (reader.ends[0].exit_code, reader.ends[0].known) == (code, True)
    assert kernel.list_processes()[0].exit_code == code
    reader.watch.acknowledge_taken()
    assert kernel.list_processes() == []


async def test_defect_05_the_end_of_one_stream_does_not_end_the_other(kernel: Kernel, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path, code=3)
    await run(kernel, *scripted_child.command)
    reader = Reader(kernel, ["p"])
    scripted_child.close_stdout()
    await until(lambda: len(kernel._processes.listed["p"]._pipes.fds) == 1, "the end of stdout")
    for text in ("still", "here"):
        scripted_child.complain(text)
        await reader.until(text)
    scripted_child.end()
    await reader.until_exited()
    assert reader.data("err") == b"still\nhere\n"
    assert reader.ends[0].exit_code == 3


async def test_defect_06_removing_a_process_does_not_kill_it(kernel: Kernel, gate: Path) -> None:
    info = await run(kernel, "sh", "-c", f"echo before; read x < {gate}; head -c 200000 /dev/zero")
    reader = Reader(kernel, ["p"])
    await reader.until("before")
    assert kernel.remove_processes(["p"]) == ["p"]
    assert kernel.list_processes()[0].running
    gate.write_text("go\n")
    await reader.until_exited()
    assert reader.ends[0].exit_code == 0
    assert kernel.list_processes() == []
    assert not alive(info.pid)


async def test_defect_07_a_grandchild_does_not_hide_the_end_and_is_still_heard(kernel: Kernel, gate: Path) -> None:
    await run(kernel, "sh", "-c", f"(read x < {gate}; echo late) & echo early; exit 4")
    reader = Reader(kernel, ["p"], acknowledge=False)
    await reader.until_exited()
    info = kernel.list_processes()[0]
    assert (info.running, info.exit_code) == (False, 4)
    gate.write_text("go\n")
    await reader.until("late")
    assert reader.data() == b"early\nlate\n"
    assert kernel.list_processes()[0].buffered == len(b"early\nlate\n")


async def test_a_process_whose_descendant_writes_stays_until_all_is_read(kernel: Kernel, gate: Path) -> None:
    await run(kernel, "sh", "-c", f"(read x < {gate}; echo late) & exit 4")
    first = Reader(kernel, ["p"])
    await first.until_exited()
    await asyncio.wait_for(first.done.wait(), PATIENCE)
    assert kernel.process_count == 1
    second = Reader(kernel, ["p"])
    gate.write_text("go\n")
    await second.until("late")
    await until(lambda: not kernel.process_count, "the process is forgotten")


# ----------------------------------------------------------- a name's next process


async def test_a_failed_start_leaves_no_descriptor(kernel: Kernel) -> None:
    before = descriptors()
    for _ in range(5):
        with pytest.raises(NotFound):
            await run(kernel, "echo", "$(socket.none.port)")
    assert descriptors() == before


async def test_a_start_that_nobody_waits_for_any_more_leaves_nothing(kernel: Kernel) -> None:
    for _ in range(5):
        start = asyncio.ensure_future(run(kernel, "sleep", "600"))
        async with asyncio.timeout(PATIENCE):
            while not children():  # at once, before it has started
                await turns()
        start.cancel()
        await asyncio.wait([start])
        if not start.cancelled():
            kernel.remove_processes(["p"])
            os.kill(start.result().pid, signal.SIGKILL)
            await ended(kernel)
    assert not children()
    assert kernel.process_count == 0


async def test_a_child_that_is_killed_at_its_gate_leaves_nothing(kernel: Kernel) -> None:
    async def kill(pid: int, name: str, resources: Mapping[str, int]) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    kernel.assign_scope = kill
    await run(kernel, "true")
    reader = Reader(kernel, ["p"])
    await reader.until_exited()
    assert reader.ends[0].exit_code == -9


# -------------------------------------------------------------------------- hands


async def test_a_process_is_placed_before_it_runs(kernel: Kernel, tmp_path: Path) -> None:
    """The gate holds until the placement is done, and a failed placement runs nothing."""
    marker = tmp_path / "ran"

    async def place(pid: int, name: str, resources: Mapping[str, int]) -> str:
        stat = Path(f"/proc/{pid}/stat")
        await until(lambda: stat.read_text().rpartition(") ")[2][0] == "S", "it waits")  # it would end otherwise
        assert not marker.exists()
        return f"papa-{name}.scope"

    async def fail(pid: int, name: str, resources: Mapping[str, int]) -> str:
        raise RuntimeError("no scope")

    kernel.assign_scope = fail
    with pytest.raises(RuntimeError, match="no scope"):
        await run(kernel, "touch", str(marker))
    assert not children()
    kernel.assign_scope = place
    info = await run(kernel, "touch", str(marker))
    assert info.unit == "papa-p.scope"
    await Reader(kernel, ["p"]).until_exited()
    assert marker.exists()


@pytest.mark.root
async def test_a_user_without_a_home_has_the_root_directory(kernel: Kernel) -> None:
    user = next(entry.pw_name for entry in pwd.getpwall() if not Path(entry.pw_dir).exists())
    made = await run(kernel, "pwd", uid=user, name="homeless")
    reader = Reader(kernel, ["homeless"])
    await reader.until_exited()
    assert (reader.data(), made.working_dir) == (b"/\n", "/")


async def test_a_child_that_somebody_has_stopped_at_its_gate_ends_with_the_request(kernel: Kernel) -> None:
    async def stop(pid: int, name: str, resources: Mapping[str, int]) -> None:
        os.kill(pid, signal.SIGSTOP)
        raise Limit("no scope")

    kernel.assign_scope = stop
    with pytest.raises(Limit, match="no scope"):
        await run(kernel, "true")
    assert not children()


# ------------------------------------------------------------------ its states


async def test_what_runs_is_not_disposed_of(kernel: Kernel) -> None:
    assert reachable(STATE, [State.RUNNING]) == set(State) == set(STATE)
    await run(kernel, "sleep", "60")
    with pytest.raises(TransitionError, match="State RUNNING: DISPOSE cannot happen"):
        kernel._processes.listed["p"].dispose()
    assert kernel.list_processes()[0].running
