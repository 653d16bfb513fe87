"""D-Bus addresses, as the specification has them."""

import pytest
from dbus_next import InvalidAddressError

from papa_dbus.bus import BusLost, address_of
from papa_dbus.bus.address import parse


def test_an_address_has_transports_with_options() -> None:
    assert parse("unix:path=/a%20b,guid=1;;tcp:host=h,port=1;unix:") == [
        ("unix", {"path": "/a b", "guid": "1"}),
        ("tcp", {"host": "h", "port": "1"}),
        ("unix", {}),
    ]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "the address is empty"),
        (";", "the address is empty"),
        ("nonsense", "'nonsense' names no transport"),
        ("unix:path=/a;nonsense", "'nonsense' names no transport"),
        ("unix:path", "option 'path' has no value"),
        ("unix:path=/a b", "option 'path': '/a b' must be escaped"),
    ],
)
def test_what_is_no_address(address: str, why: str) -> None:
    with pytest.raises(InvalidAddressError, match=why):
        parse(address)


def test_the_buses_that_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert address_of("system") == "unix:path=/run/dbus/system_bus_socket"
    assert address_of("unix:path=/a") == "unix:path=/a"
    with pytest.raises(BusLost, match="there is no session bus"):
        address_of("session")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/5")
    assert address_of("session") == "unix:path=/run/user/5/bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/b")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/c")
    assert (address_of("session"), address_of("system")) == ("unix:path=/b", "unix:path=/c")
