"""What is stored of consumers does not grow with those that come, watch everything, and leave."""

import pytest

from papa_dbus.service.kernel import Kernel
from papa_dbus.service.output import OTHERS
from papa_dbus.service.specs import WatchSpec
from papa_dbus.service.store import Facts
from papa_dbus.service.watches import Output, Watch
from tests.support import Reader, run, turns


def watch(kernel: Kernel, who: str) -> Watch:
    return kernel.watch(["p"], WatchSpec(), lambda: None, who=who)


async def test_consumers_that_come_and_go_cost_little(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(kernel, "sh", "-c", "echo one; exec sleep 600")
    stays = Reader(kernel, ["p"], acknowledge=False)
    await stays.until("one")
    stored: list[tuple[tuple[str, int, int], ...]] = []

    def note(key: int, facts: Facts, state: str) -> None:
        stored.append(facts.consumers)

    monkeypatch.setattr(kernel._store, "update_process", note)
    guests = [watch(kernel, f":1.{n}") for n in range(20)]
    assert stored == [((OTHERS, 0, 0),)]  # the second one has made the log a shared one
    [event] = guests[0].take(1 << 20)
    assert isinstance(event, Output)
    guests[0].acknowledge({"p": 1})
    assert stored[1:] == [((OTHERS, 0, 0), (":1.0", 1, 4))]  # it alone has come further
    again = watch(kernel, ":1.0")
    assert stored[2:] == [((OTHERS, 0, 0),)]  # after a restart both its watches begin where the later one is
    again.close()
    await turns()
    assert stored[3:] == stored[1:2]
    for guest in guests:
        guest.close()
    await turns()
    assert stored[-1] == ()
    assert len(stored) < 8
    stays.watch.close()
    kernel.remove_processes(["p"])
