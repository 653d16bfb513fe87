"""Which calls are run and when: no sender, and nothing that goes wrong for one, holds up or locks out another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from papa_dbus.bus import Message, MessageFlag, Variant
from papa_dbus.errors import AccessDenied, Limit
from papa_dbus.service import limits
from papa_dbus.service.access.policy import Access, Right
from papa_dbus.service.caller import Caller
from papa_dbus.service.dbus.authorization import Authorization
from tests.support import PATIENCE, until

STRANGER = 65534


class FakeBus:
    """Says whose a sender is; its name begins with the user's number."""

    connected = True
    congested = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def call(self, *arguments: Any) -> Any:
        [name] = arguments[5]
        self.asked.append(name)
        await asyncio.sleep(0)
        uid = int(name.removeprefix(":").partition(".")[0])
        known = {"UnixUserID": Variant("u", uid), "ProcessID": Variant("u", 5)}
        return type("Reply", (), {"body": [known], "unix_fds": []})


class House:
    """An authorization, and what it has decided."""

    def __init__(self, access: Access) -> None:
        self.bus = FakeBus()
        self.served: list[Message] = []
        self.refused: list[tuple[Message, Exception]] = []
        self.serve: Callable[[Message, Caller], asyncio.Future[None] | None] = self._note
        self._something = asyncio.Event()
        self.authorization = Authorization(
            self.bus,  # type: ignore[arg-type]
            access,
            lambda call: (Right.MANAGE,),
            self._serve,
            self._refuse,
        )

    def _note(self, call: Message, caller: Caller) -> None:
        self.served.append(call)

    def _serve(self, call: Message, caller: Caller) -> asyncio.Future[None] | None:
        self._something.set()
        return self.serve(call, caller)

    def _refuse(self, call: Message, error: Exception) -> None:
        self.refused.append((call, error))
        self._something.set()

    def take(self, *calls: Message) -> None:
        """As the bus does it: some calls, and the end of its turn."""
        for call in calls:
            self.authorization.submit(call)
        self.authorization.go_on()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._something.clear()
                await self._something.wait()


def call(sender: str, flags: MessageFlag = MessageFlag.NONE, size: int = 100) -> Message:
    message = Message(destination="a.b", path="/a", interface="a.b", member="M", flags=flags)
    message.sender, message.size, message.rest = sender, size, None
    return message


class Polkit:
    """Answers a question that may not wait for a person, and holds up any other."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.answers = asyncio.Event()

    async def __call__(self, name: str, right: Right, interactive: bool) -> bool:
        self.asked.append((name, interactive))
        if interactive:
            await self.answers.wait()
        return False


@pytest.fixture
def polkit() -> Polkit:
    return Polkit()


@pytest.fixture
async def house(polkit: Polkit) -> AsyncIterator[House]:
    house = House(Access("no-group-of-that-name", polkit))
    yield house
    house.authorization.forget()
    await asyncio.sleep(0)  # so that what is cancelled ends


async def test_the_sender_that_was_used_last_is_not_forgotten(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KNOWN_SENDERS", 8)
    for number in range(40):
        house.take(call(f":0.{number}"), call(":0.busy"))
        await house.until(lambda number=number: len(house.served) == 2 * (number + 1))  # type: ignore[misc]
    assert house.bus.asked.count(":0.busy") == 1
    assert house.bus.asked.count(":0.1") == 1
    house.take(call(":0.1"))
    await house.until(lambda: house.bus.asked.count(":0.1") == 2)


async def test_whoever_is_known_or_new_finds_room_however_much_waits_for_polkit(house: House, polkit: Polkit) -> None:
    waiting = [call(f":{STRANGER}.{n % 4}", MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION) for n in range(20_000)]
    house.take(*waiting)
    await house.until(lambda: len(house.refused) > 1000)
    for sender in (":0.1", ":0.2"):
        house.take(call(sender))
        await house.until(lambda sender=sender: any(one.sender == sender for one in house.served))  # type: ignore[misc]
    assert len(polkit.asked) == 1  # one question at a time of one user
    assert {type(error) for _, error in house.refused} == {Limit}
    house.authorization.forget()


async def test_one_users_calls_that_wait_for_polkit_leave_room_for_anothers(house: House) -> None:
    for uid in range(1000, 1100):
        house.take(*(call(f":{uid}.1", MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION, 10_000) for _ in range(200)))
        await house.until(lambda uid=uid: f":{uid}.1" in house.bus.asked)  # type: ignore[misc]
    house.take(call(":5000.1"))
    await house.until(lambda: any(one.sender == ":5000.1" for one, _ in house.refused))
    [error] = [error for one, error in house.refused if one.sender == ":5000.1"]
    assert isinstance(error, AccessDenied)  # polkit was asked
    house.authorization.forget()


async def test_who_may_not_ask_a_person_does_not_wait_for_one_who_may(house: House, polkit: Polkit) -> None:
    house.take(call(f":{STRANGER}.1", MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION))
    await until(lambda: polkit.asked, "question to polkit")
    house.take(call(f":{STRANGER}.2"))
    await house.until(lambda: len(house.refused) == 1)
    expelled = asyncio.Event()
    house.authorization.on_revoked = lambda name: expelled.set()
    assert not house.authorization.may_hear(f":{STRANGER}.1")  # the same sender
    async with asyncio.timeout(PATIENCE):
        await expelled.wait()
    assert not house.served
    polkit.answers.set()
    await house.until(lambda: len(house.refused) == 2)


async def test_a_body_is_not_read_before_its_sender_may_call(polkit: Polkit) -> None:
    house = House(Access("no-group-of-that-name", polkit))

    def rights(message: Message) -> Any:
        yield Right.INSPECT
        raise AssertionError(f"{message.member} was read")

    house.authorization._rights = rights
    house.take(call(f":{STRANGER}.1"))
    await house.until(lambda: len(house.refused) == 1)
    assert isinstance(house.refused[0][1], AccessDenied)


async def test_whatever_goes_wrong_each_call_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access("no-group-of-that-name")
    house = House(access)

    async def belongs(caller: Caller) -> bool:
        raise RuntimeError("can't start new thread")

    def fail(call: Message, caller: Caller) -> None:
        raise RuntimeError(f"{call.member} of {caller}")

    monkeypatch.setattr(access, "belongs", belongs)
    house.take(*(call(f":{STRANGER}.1") for _ in range(3)))
    await house.until(lambda: len(house.refused) == 3)
    house.take(call(f":{STRANGER}.1"))
    await house.until(lambda: len(house.refused) == 4)
    assert {type(error) for _, error in house.refused} == {RuntimeError}
    expelled: list[str] = []
    house.authorization.on_revoked = expelled.append
    assert not house.authorization.may_hear(f":{STRANGER}.1")
    await until(lambda: expelled, "listener who is expelled")
    house.serve = fail
    house.take(call(":0.1"), call(":0.1"))
    await house.until(lambda: len(house.refused) == 6)
    house.serve = house._note
    house.take(call(":0.1"))
    await house.until(lambda: len(house.served) == 1)
    assert not house.authorization._turns


async def test_calls_of_one_sender_stay_in_their_order(house: House) -> None:
    calls = [call(":0.1") for _ in range(500)]
    house.take(*calls[:250])
    await house.until(lambda: bool(house.served))
    house.take(*calls[250:])
    await house.until(lambda: len(house.served) == 500)
    assert house.served == calls


async def test_a_turn_ends_by_time_and_senders_take_turns(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.take(call(":0.1"), call(":0.2"), call(":7.1"))
    await house.until(lambda: len(house.served) == 2)
    house.served.clear()
    monkeypatch.setattr("papa_dbus.service.dbus.authorization.SERVING_TURN", 0.0)
    house.take(*(call(":0.1") for _ in range(100)), call(":0.2"))
    assert len(house.served) == 1
    between = 0
    while len(house.served) < 101:
        await asyncio.sleep(0)
        between += 1
    assert between >= 100
    assert [one.sender for one in house.served[:3]] == [":0.1", ":0.2", ":0.1"]


async def test_nothing_is_run_while_the_bus_takes_no_answers(house: House) -> None:
    house.take(call(":0.1"))
    await house.until(lambda: len(house.served) == 1)
    house.bus.congested = True
    house.take(call(":0.1"), call(":0.1"))
    assert len(house.served) == 1
    house.bus.congested = False
    house.authorization.go_on_soon()
    await house.until(lambda: len(house.served) == 3)


async def test_an_answer_in_steps_holds_up_its_own_sender_only(house: House) -> None:
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def serve(call: Message, caller: Caller) -> asyncio.Future[None]:
        house._note(call, caller)
        return answer

    house.serve = serve
    house.take(call(":0.1"), call(":0.1"), call(":0.2"))
    await house.until(lambda: len(house.served) == 2)
    assert {one.sender for one in house.served} == {":0.1", ":0.2"}
    answer.set_result(None)
    await house.until(lambda: len(house.served) == 3)


class DeafBus(FakeBus):
    """Never says whose a sender is."""

    async def call(self, *arguments: Any) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("bound", "senders", "other"),
    [
        ("OF_SENDER", [":0.1"], ":0.2"),
        ("OF_USER", [":0.1", ":0.2"], ":7.1"),
        ("", [":0.1", ":1.1", ":2.1"], ""),
        ("OF_STRANGER", [":20000.1"], ":20001.1"),
        ("OF_STRANGERS", [":20000.1", ":20001.1", ":20002.1"], ""),
        ("OF_UNKNOWN", [":20000.1", ":20001.1", ":20002.1"], ""),
    ],
)
async def test_what_waits_is_bounded(
    monkeypatch: pytest.MonkeyPatch, polkit: Polkit, bound: str, senders: list[str], other: str
) -> None:
    """Of each sender, each user and all users, whichever kind of users they are; another's one call has room."""
    most = 20_000
    monkeypatch.setattr(limits, f"MAX_WAITING_{bound}".removesuffix("_"), most)
    access = Access("no-group-of-that-name", polkit)
    house = House(access)
    if bound == "OF_UNKNOWN":
        house.authorization._bus = house.bus = DeafBus()  # type: ignore[assignment]
    elif "STRANGER" not in bound:

        async def belongs(caller: Caller) -> bool:
            return True

        monkeypatch.setattr(access, "belongs", belongs)
        house.take(*(call(sender) for sender in [*senders, other] if sender))
        await house.until(lambda: len(house.served) == len(senders) + bool(other))
        house.bus.congested = True
    else:
        house.take(*(call(sender, MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION) for sender in senders))
        await until(lambda: len(polkit.asked) == len(senders), "a question to polkit for each")
    for _ in range(100):
        house.take(*(call(sender, MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION) for sender in senders))
    assert {type(error) for _, error in house.refused} == {Limit}
    waiting = 100 * len(senders) - len(house.refused)
    assert most / 2 - 2 * 1124 < waiting * 1124 <= most  # one alone has half of what several share
    if other:
        refused = len(house.refused)
        house.take(call(other))
        assert len(house.refused) == refused
    house.authorization.forget()


async def test_the_questions_to_polkit_are_bounded(
    house: House, polkit: Polkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_QUESTIONS", 2)
    for uid in (20000, 20001):
        house.take(call(f":{uid}.1", MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION))
    await until(lambda: len(polkit.asked) == 2, "two questions to polkit")
    house.take(call(":20002.1", MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION))
    await house.until(lambda: len(house.refused) == 1)
    assert "2 users wait for polkit already" in str(house.refused[0][1])
    house.take(call(":20003.1"))  # it does not wait for a person
    await house.until(lambda: len(house.refused) == 2)
    assert isinstance(house.refused[1][1], AccessDenied)
    house.authorization.forget()
