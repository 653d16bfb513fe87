"""org.papa.Kernel on a real message bus: the contract, its calls, its errors and its signals."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papa_dbus import __version__, errors
from papa_dbus.bus import Bus, BusLost, Message, Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service.dbus import log_control
from tests.bus.client import Client, connected
from tests.bus.daemon import Papad, start_papad
from tests.bus.findings.inside import papad_inside
from tests.bus.lineclient import LineClient
from tests.bus.scripted_child import ScriptedChild
from tests.support import PATIENCE, turns, until

CONTRACT = Path(__file__).parents[2] / "papa_dbus" / "org.papa.Kernel.xml"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER = "org.freedesktop.DBus.ObjectManager"


def members(xml: str) -> dict[str, list[tuple[str, ...]]]:
    """Every method, signal and property of org.papa.Kernel, with the types and names of what it carries."""
    root = ElementTree.fromstring(xml)  # noqa: S314 (our own)
    interface = next(i for i in root.iter("interface") if i.get("name") == BUS_NAME)
    found: dict[str, list[tuple[str, ...]]] = {}
    for member in interface:
        if member.tag in ("method", "signal"):
            found[f"{member.tag} {member.get('name')}"] = [
                (a.get("name", ""), a.get("type", ""), a.get("direction", "")) for a in member.iter("arg")
            ]
        elif member.tag == "property":
            found[f"property {member.get('name')}"] = [(member.get("type", ""), member.get("access", ""))]
    return found


async def test_live_introspection_is_the_contract(client: Client) -> None:
    xml = await client.call("Introspect", interface="org.freedesktop.DBus.Introspectable")
    assert members(xml) == members(CONTRACT.read_text())


async def test_a_defect_of_papads_is_an_internal_error_without_a_traceback(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*of: object) -> None:
        raise ZeroDivisionError(f"secret {of}")

    async def fail_later(*of: object) -> None:
        fail(*of)

    async with papad_inside(bus_address) as papad:
        monkeypatch.setattr(papad.kernel, "set_value", fail)
        monkeypatch.setattr(papad.kernel, "make_process", fail_later)
        async for client in connected(bus_address):
            for call in (client.call("SetValue", "ss", "a", "b"), client.make_process("p", "true")):
                with pytest.raises(errors.PapaError, match="^internal error; the journal of papad has the details$"):
                    await call
            assert await client.call("ListValues", "as", []) == {}
    assert caplog.text.count("ZeroDivisionError: secret") == 2


async def test_descriptors_that_the_bus_passes_with_credentials_are_closed(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dbus-daemon 1.16 passes a pidfd of each sender."""
    passed: list[int] = []
    async with papad_inside(bus_address) as papad:
        call = papad.bus.call

        async def call_and_pass(*asked: Any, **more: Any) -> Message:
            reply = await call(*asked, **more)
            if asked[3] == "GetConnectionCredentials":
                passed.append(os.open(os.devnull, os.O_RDONLY))
                reply.unix_fds.append(passed[-1])
            return reply

        monkeypatch.setattr(papad.bus, "call", call_and_pass)
        async for client in connected(bus_address):
            assert await client.call("ListValues", "as", []) == {}
    for fd in passed:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert passed


def test_what_was_agreed_on_is_in_the_contract() -> None:
    """More may be in it; what is there keeps its name, types and meaning (agreed.xml is how it was given)."""
    agreed, ours = members(Path(__file__).with_name("agreed.xml").read_text()), members(CONTRACT.read_text())
    assert {name: ours.get(name) for name in agreed} == agreed


async def test_every_method_of_the_contract_is_answered(client: Client) -> None:
    for member in members(CONTRACT.read_text()):
        kind, name = member.split()
        if kind == "method" and name != "ExitIfIdle":
            with pytest.raises(errors.InvalidArgs, match=f"{name} takes '.*', not 'v'"):
                await client.call(name, "v", Variant("s", "x"))


# ------------------------------------------------------------------------ calls


async def test_sockets(client: Client) -> None:
    made = await client.call("MakeSocket", "sa{sv}", "web", {"backlog": Variant("u", 64)})
    assert made["name"] == "web"
    assert made["backlog"] == 64
    assert set(made) == {"name", "family", "type", "backlog", "host", "port", "reuseport", "fileno", "object_path"}
    assert await client.call("ListSockets", "as", []) == {"web": made}
    assert await client.call("ListSockets", "as", [str(made["fileno"])]) == {"web": made}
    fd = await client.call("OpenSocket", "s", "web")
    with socket.socket(fileno=fd) as sock:
        assert sock.getsockname() == ("127.0.0.1", made["port"])
    assert await client.call("RemoveSockets", "as", ["web"]) == ["web"]
    assert await client.call("ListSockets", "as", []) == {}


async def test_results_say_where_the_object_is(client: Client) -> None:
    made = {
        "Socket": await client.call("MakeSocket", "sa{sv}", "web.0", {}),
        "Process": await client.make_process("ü-1", "sleep", "1000"),
    }
    assert made["Socket"]["object_path"] == f"{OBJECT_PATH}/socket/web_2e0"
    assert made["Process"]["object_path"] == f"{OBJECT_PATH}/process/_c3_bc_2d1"
    for kind, plural in (("Socket", "Sockets"), ("Process", "Processes")):
        [listed] = (await client.call(f"List{plural}", "as", [])).values()
        assert listed["object_path"] == made[kind]["object_path"]
        shown = await client.call("GetAll", "s", f"{BUS_NAME}.{kind}", interface=PROPERTIES, path=listed["object_path"])
        assert shown["Name"] == listed["name"]


@pytest.mark.parametrize("wrap", [lambda plain: plain, lambda plain: Variant("v", plain)], ids=["plain", "nested"])
@pytest.mark.parametrize("user", [Variant("s", "daemon"), Variant("u", 1)], ids=["name", "number"])
async def test_an_id_is_plain_or_in_a_variant_of_its_own(
    client: Client, user: Variant, wrap: Callable[[Variant], Variant]
) -> None:
    made = await client.make_process("p", "sleep", "1000", uid=wrap(user), gid=wrap(user))
    assert (made["uid"], made["gid"]) == (1, 1)
    for wrong in (Variant("i", 1), Variant("v", Variant("v", user))):
        with pytest.raises(errors.InvalidArgs, match="option 'uid': it has type [iv]"):
            await client.make_process("q", "sleep", "1000", uid=wrong)


async def test_values(client: Client) -> None:
    await client.call("SetValue", "ss", "a.1", "one\ntwo")
    await client.call("SetValue", "ss", "a.2", "")
    assert await client.call("GetValue", "s", "a.1") == "one\ntwo"
    assert await client.call("ListValues", "as", ["a.*"]) == {"a.1": "one\ntwo", "a.2": ""}
    assert await client.call("RemoveValues", "as", ["a.1"]) == ["a.1"]
    with pytest.raises(errors.NotFound, match=r"value 'a.1' is not there"):
        await client.call("GetValue", "s", "a.1")
    for patterns in ([], ["*"]):
        with pytest.raises(errors.InvalidArgs):
            await client.call("RemoveValues", "as", patterns)


async def test_a_process_with_every_option(client: Client, tmp_path: Path) -> None:
    await client.call("MakeSocket", "sa{sv}", "s", {})
    made = await client.make_process(
        "all",
        "sh",
        "-c",
        "pwd; id -u; id -g; umask; ulimit -c; echo $A $LISTEN_FDS; echo err >&2",
        env=Variant("a{ss}", {"A": "1", "PATH": "/bin:/usr/bin"}),
        working_dir=Variant("s", str(tmp_path)),
        uid=Variant("s", "root"),
        gid=Variant("u", 6),
        rlimits=Variant("a{st}", {"core": 0}),
        umask=Variant("u", 0o27),
        stdout=Variant("s", "pipe"),
        stderr=Variant("s", "stdout"),
        bufsize=Variant("t", 4096),
        overflow=Variant("s", "block"),
        sockets=Variant("as", ["s"]),
    )
    assert (made["uid"], made["gid"], made["bufsize"], made["working_dir"]) == (0, 6, 4096, str(tmp_path))
    await client.watch("all")
    await client.until("Exited")
    assert client.output("all", "out").decode().split("\n") == [str(tmp_path), "0", "6", "0027", "0", "1 1", "err", ""]


async def test_output_as_signals_with_timestamps_in_order(client: Client, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path, "p", code=7)
    await client.make_process("p", *scripted_child.command)
    number = await client.watch("p")
    moments = [time.time_ns() // 1000]
    for text in ("1", "2", "3"):
        scripted_child.say(text)
        await client.until_output(text.encode())
        moments.append(time.time_ns() // 1000)
    scripted_child.end()
    (exited,) = await client.until("Exited")
    records = [record for signal in client.of("Output") for record in signal[2]]
    assert [(seq, stream, data) for seq, _, stream, data in records] == [
        (1, "out", b"1\n"),
        (2, "out", b"2\n"),
        (3, "out", b"3\n"),
    ]
    times = [record[1] for record in records]
    assert all(begin <= at <= end for (begin, end), at in zip(pairwise(moments), times, strict=True))
    assert exited[:3] == [number, "p", 4]
    assert exited[4:] == [7, True]
    assert times[2] <= exited[3] <= time.time_ns() // 1000
    await client.call("Acknowledge", "ta{st}", number, {"p": 4})
    assert await client.call("ListProcesses", "as", []) == {}
    with pytest.raises(errors.NotFound, match=f"watch {number} is not there"):
        await client.call("Unwatch", "t", number)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
async def test_exit_codes(client: Client, script: str, code: int) -> None:
    await client.make_process("p", "sh", "-c", script)
    await client.watch("p")
    assert (await client.until("Exited"))[0][4:] == [code, True]
    info = (await client.call("ListProcesses", "as", ["p"]))["p"]
    assert (info["running"], info["exit_code"]) == (False, code)


async def test_a_pidfd(client: Client) -> None:
    await client.make_process("p", "sleep", "60")
    fd = await client.call("OpenProcess", "s", "p")
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
    await client.watch("p")
    assert (await client.until("Exited"))[0][4] == -9


# ------------------------------------------------------------------------ watches


async def test_output_goes_to_its_watcher_and_to_no_one_else(client: Client, other: Client) -> None:
    rule = "type='signal',interface='org.papa.Kernel'"
    await other.bus.call(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule]
    )
    await client.make_process("p", "echo", "secret")
    await client.watch("p")
    await client.until("Exited")
    await other.call("ListValues", "as", [])  # whatever was sent before this reply has arrived
    assert other.of("Output") == []


async def test_another_client_cannot_touch_a_watch(client: Client, other: Client) -> None:
    await client.make_process("p", "echo", "x")
    number = await client.watch("p")
    await client.until("Exited")
    with pytest.raises(errors.NotFound, match=f"watch {number} is not there"):
        await other.call("Acknowledge", "ta{st}", number, {"p": 1})
    with pytest.raises(errors.NotFound):
        await other.call("Unwatch", "t", number)


async def test_a_watch_that_was_ended_makes_room_for_another(client: Client) -> None:
    await client.make_process("p", "sleep", "60")
    number = 0
    for _ in range(1030):
        number = await client.watch("p")
        await client.call("Unwatch", "t", number)
    with pytest.raises(errors.NotFound, match=f"watch {number} is not there"):
        await client.call("Unwatch", "t", number)


async def test_an_answer_that_no_message_can_carry_is_a_limit(client: Client) -> None:
    for n in range(40):
        await client.call("SetValue", "ss", f"v{n}", "x" * 1_000_000)
    with pytest.raises(errors.Limit, match="ask for less, with patterns"):
        await client.call("ListValues", "as", [])
    assert len(await client.call("ListValues", "as", ["v1*"])) == 11


async def test_a_client_that_dies_leaves_its_output_for_the_next(papad: Papad, client: Client) -> None:
    await client.make_process("p", "echo", "kept")
    first = Client(papad.address)
    await first.bus.start()
    await first.watch("p")
    await first.until("Exited")
    await first.bus.close()
    await client.watch("p")
    await client.until("Exited")
    assert client.output() == b"kept\n"


async def test_a_client_that_leaves_at_once_is_noticed(papad: Papad, client: Client) -> None:
    """It asks for a watch and is gone before papad can know when it leaves."""
    await client.make_process("p", "cat", "/dev/zero", overflow=Variant("s", "block"))
    for _ in range(5):
        first = Client(papad.address)
        await first.bus.start()
        asked = asyncio.ensure_future(first.watch("p"))
        await turns()
        asked.cancel()
        await first.bus.close()
    before = (await client.listed("p"))["dropped"]

    async def drops() -> bool:
        return bool((await client.listed("p"))["dropped"] > before)

    await until(drops, "output is dropped: with a consumer left over, the process would wait for ever")


async def test_the_window_holds_until_it_is_acknowledged(client: Client, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path, "p")
    await client.make_process("p", *scripted_child.command)
    number = await client.watch("p", window=Variant("t", 10))
    for count in range(1, 5):
        scripted_child.say(f"aaaaa{count}")
        await client.until_written("p", 7 * count)  # each is a record of its own
    scripted_child.end()
    await client.until_ended("p")
    assert client.output() == b"aaaaa1\n"
    await client.call("Acknowledge", "ta{st}", number, {"p": 1})
    await client.until_output(b"aaaaa2\n")
    assert client.output() == b"aaaaa1\naaaaa2\n"


async def test_dropped_is_said_before_the_output_that_follows(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "seq 1 100000; echo end", bufsize=Variant("t", 1000))
    total = len("".join(f"{n}\n" for n in range(1, 100001))) + 4
    await client.until_written("p", total)  # it may be listed as ended before all that it wrote is read
    await client.watch("p")
    await client.until("Exited")
    assert [signal.member for signal in client.signals if signal.member in ("Dropped", "Output", "Exited")] == [
        "Dropped",
        "Output",
        "Exited",
    ]
    _, _, first, last, size = client.of("Dropped")[0]
    assert first == 1
    assert client.of("Output")[0][2][0][0] == last + 1
    assert size + len(client.output()) == total


async def test_an_observer_steals_nothing(client: Client, other: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo one; sleep 0.2; echo two")
    await other.watch(mode=Variant("s", "observe"), follow=Variant("b", True))
    await client.watch("p")
    await asyncio.gather(client.until("Exited"), other.until("Exited"))
    assert client.output() == other.output() == b"one\ntwo\n"


# ----------------------------------------------------------------- objects, signals


async def test_objects_come_change_and_go(client: Client, other: Client) -> None:
    rule = f"type='signal',path_namespace='{OBJECT_PATH}'"
    await other.bus.call(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule]
    )
    await client.make_process("web.0", "sh", "-c", "echo never in a signal; read x < /dev/zero; exit 3")
    await client.call("MakeSocket", "sa{sv}", "9", {})
    added = await other.until("InterfacesAdded", 2)
    assert [body[0] for body in added] == [f"{OBJECT_PATH}/process/web_2e0", f"{OBJECT_PATH}/socket/_39"]
    managed = await client.call("GetManagedObjects", interface=MANAGER)
    assert set(managed) == {f"{OBJECT_PATH}/process/web_2e0", f"{OBJECT_PATH}/socket/_39"}
    process = managed[f"{OBJECT_PATH}/process/web_2e0"]["org.papa.Kernel.Process"]
    assert (process["Name"], process["Running"]) == ("web.0", True)
    os.kill(process["PID"], signal.SIGKILL)
    changed = await other.wait(lambda: [b for b in other.of("PropertiesChanged") if "Running" in b[1]], "Running")
    assert changed[0][0] == "org.papa.Kernel.Process"
    assert (changed[0][1]["Running"].value, changed[0][1]["ExitCode"].value) == (False, -9)
    await client.call("RemoveProcesses", "as", ["web.0"])
    await client.call("RemoveSockets", "as", ["9"])
    removed = await other.until("InterfacesRemoved", 2)
    assert removed[0] == [f"{OBJECT_PATH}/process/web_2e0", ["org.papa.Kernel.Process"]]
    counts = await other.wait(lambda: [b for b in other.of("PropertiesChanged") if "SocketCount" in b[1]], "counts")
    assert counts[0][0] == BUS_NAME
    assert not any(
        b"never" in repr(signal.body).encode() and signal.member != "InterfacesAdded" for signal in other.signals
    )


async def test_properties(client: Client) -> None:
    everything = await client.call("GetAll", "s", BUS_NAME, interface=PROPERTIES)
    assert everything["Version"] == __version__
    assert abs(everything["Started"] - time.time_ns() // 1000) < 60_000_000
    assert (everything["SocketCount"], everything["ValueCount"], everything["ProcessCount"]) == (0, 0, 0)
    await client.call("SetValue", "ss", "v", "1")
    assert await client.call("Get", "ss", BUS_NAME, "ValueCount", interface=PROPERTIES) == 1


@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "body", "error"),
    [
        ("/nowhere", BUS_NAME, "GetValue", "s", ["x"], "UnknownObject"),
        (f"{OBJECT_PATH}/process/none", PROPERTIES, "GetAll", "s", ["x"], "UnknownObject"),
        (OBJECT_PATH, "org.example.No", "GetValue", "s", ["x"], "UnknownInterface"),
        (OBJECT_PATH, BUS_NAME, "NoSuch", "", [], "UnknownMethod"),
        (OBJECT_PATH, PROPERTIES, "Get", "ss", ["org.example.No", "Version"], "UnknownInterface"),
        (OBJECT_PATH, PROPERTIES, "Get", "ss", [BUS_NAME, "NoSuch"], "UnknownProperty"),
        (OBJECT_PATH, PROPERTIES, "Set", "ssv", [BUS_NAME, "Version", Variant("s", "9")], "PropertyReadOnly"),
        ("/org", BUS_NAME, "GetValue", "s", ["x"], "UnknownInterface"),
    ],
)
async def test_what_is_not_there(
    client: Client, path: str, interface: str, member: str, signature: str, body: list[Any], error: str
) -> None:
    call = Message(destination=BUS_NAME, path=path, interface=interface, member=member, signature=signature, body=body)
    assert client.bus._connection is not None
    reply = await client.bus._connection.ask(call)
    assert reply is not None
    assert reply.error_name == f"org.freedesktop.DBus.Error.{error}"
    assert "Traceback" not in reply.body[0]


async def test_busctl_shows_a_good_service(client: Client) -> None:
    await client.make_process("web.0", "sleep", "60")
    await client.call("MakeSocket", "sa{sv}", "s", {})
    busctl = ["busctl", f"--address={client.bus.address}"]
    tree = subprocess.run([*busctl, "tree", "--list", BUS_NAME], capture_output=True, text=True, check=True, timeout=20)
    assert tree.stdout.split() == [
        "/",
        "/org",
        "/org/freedesktop",
        log_control.PATH,
        "/org/papa",
        OBJECT_PATH,
        f"{OBJECT_PATH}/process",
        f"{OBJECT_PATH}/process/web_2e0",
        f"{OBJECT_PATH}/socket",
        f"{OBJECT_PATH}/socket/s",
    ]
    for path in tree.stdout.split():
        shown = subprocess.run(
            [*busctl, "introspect", BUS_NAME, path], capture_output=True, text=True, check=True, timeout=20
        )
        assert "org.freedesktop.DBus.Introspectable" in shown.stdout
        assert shown.stderr == ""


# ----------------------------------------------------------------------- bad input


OPTION_NAMES = st.sampled_from(
    ["port", "path", "env", "uid", "rlimits", "stdout", "bufsize", "sockets", "nonsense", ""]
)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
VARIANTS = st.one_of(
    TEXT.map(lambda value: Variant("s", value)),
    st.integers(0, 2**32 - 1).map(lambda value: Variant("u", value)),
    st.integers(0, 2**16 - 1).map(lambda value: Variant("q", value)),
    st.integers(-(2**31), 2**31 - 1).map(lambda value: Variant("i", value)),
    st.integers(0, 2**64 - 1).map(lambda value: Variant("t", value)),
    st.booleans().map(lambda value: Variant("b", value)),
    st.lists(TEXT, max_size=3).map(lambda value: Variant("as", value)),
    st.dictionaries(TEXT, TEXT, max_size=3).map(lambda value: Variant("a{ss}", value)),
    st.dictionaries(TEXT, st.integers(0, 2**64 - 1), max_size=3).map(lambda value: Variant("a{st}", value)),
)


def test_bad_input_gets_an_error_and_leaves_the_kernel_unharmed(papad: Papad) -> None:
    """Any name, any option of any type: the right error or a result, and the kernel answers as before."""
    loop = asyncio.new_event_loop()
    client = Client(papad.address)
    loop.run_until_complete(client.bus.start())
    expected = (errors.InvalidArgs, errors.NotFound, errors.Exists, errors.Bind, errors.Spawn, errors.Limit)

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TEXT, st.lists(TEXT, max_size=3), st.dictionaries(OPTION_NAMES, VARIANTS, max_size=4))
    def throw(name: str, words: list[str], options: dict[str, Variant]) -> None:
        for call in (
            client.call("MakeSocket", "sa{sv}", name, options),
            client.call("MakeProcess", "sasa{sv}", name, ["/nope" + "".join(words[:1]), *words], options),
            client.call("Watch", "asa{sv}", words, options),
            client.call("RemoveSockets", "as", words),
            client.call("RemoveProcesses", "as", words),
            client.call("Acknowledge", "ta{st}", 7, dict.fromkeys(words, 1)),
        ):
            try:
                loop.run_until_complete(call)
            except expected as error:
                assert "internal" not in str(error), error  # noqa: PT017
        assert loop.run_until_complete(client.call("ListProcesses", "as", [])) == {}

    throw()
    loop.run_until_complete(client.bus.close())
    loop.close()


async def test_errors_name_what_was_wrong(client: Client) -> None:
    for options, says in (
        ({"prt": Variant("q", 1)}, "unknown option 'prt'; there are: family, type, host, port"),
        ({"port": Variant("s", "1")}, "option 'port': it has type s, not q"),
    ):
        with pytest.raises(errors.InvalidArgs) as caught:
            await client.call("MakeSocket", "sa{sv}", "s", options)
        assert says in str(caught.value)
    with pytest.raises(errors.InvalidArgs, match="option 'uid': it has type b, not s or u"):
        await client.make_process("p", "true", uid=Variant("b", True))
    with pytest.raises(errors.Spawn, match="process 'p': cannot execute /nope: No such file or directory"):
        await client.make_process("p", "/nope")


# -------------------------------------------------------------------- the bus itself


async def test_defect_30_a_full_socket_is_waited_for_with_three_thousand_calls(client: Client) -> None:
    """dbus-next's own writer dies of it (issue 153 of python-dbus-next)."""
    await asyncio.gather(*(client.call("SetValue", "ss", f"v{n}", "x" * 500) for n in range(3000)))
    assert await client.call("Get", "ss", BUS_NAME, "ValueCount", interface=PROPERTIES) == 3000
    assert len(await client.call("ListValues", "as", [])) == 3000


async def test_a_slow_client_delays_nobody(papad: Papad, client: Client) -> None:
    """It watches a flood and reads nothing; the others are answered as ever, and papad's memory stays."""
    slow = Client(papad.address)
    await slow.bus.start()
    await client.make_process("flood", "cat", "/dev/zero")
    await slow.watch("flood", window=Variant("t", 1 << 20))
    assert slow.bus._connection is not None
    asyncio.get_running_loop().remove_reader(slow.bus._connection.fileno())
    for _ in range(50):
        await client.call("ListProcesses", "as", [])
    status = Path(f"/proc/{papad.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 150_000, f"{resident} KiB"
    await slow.bus.close()


async def test_a_second_papad_says_who_has_the_name(papad: Papad, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"org.papa.Kernel is taken on .*: PID {papad.process.pid} serves it"):
        start_papad(papad.address, tmp_path / "second")


async def test_a_bus_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be reached: No such file or directory"):
        start_papad(f"unix:path={tmp_path}/none", tmp_path / "line")
    bus = Bus(f"unix:path={tmp_path}/none")
    with pytest.raises(BusLost, match="cannot be reached"):
        await bus.start()
    with pytest.raises(BusLost, match="is not there"):
        await bus.call(BUS_NAME, OBJECT_PATH, BUS_NAME, "ExitIfIdle")


async def test_exit_if_idle(papad: Papad, client: Client) -> None:
    await client.call("SetValue", "ss", "v", "1")
    assert await client.call("ExitIfIdle") is False
    await client.call("RemoveValues", "as", ["v"])
    assert await client.call("ExitIfIdle") is True
    assert papad.process.wait(PATIENCE) == 0


async def test_a_line_cannot_throw_papad_off_the_bus(client: Client, papad: Papad) -> None:
    """A bus ends the connection of whoever sends it a text with a NUL, which the line protocol can carry."""
    with LineClient(socket.socket(socket.AF_UNIX)) as line:
        line.sock.connect(str(papad.socket))
        line.reply()
        assert "NUL" in line.fault(b"set v a\0b")
    assert await client.call("ListValues", "as", []) == {}
