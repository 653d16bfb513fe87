"""Names, patterns and the bus's names for errors."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papa_dbus import errors, names
from papa_dbus.service.dbus import objects
from papa_dbus.service.systemd.scopes import scope_name
from tests.support import PATIENCE

#: dbus-broker's one name for all that it could not start.
BY_BROKER = "org.freedesktop.DBus.Error.NameHasNoOwner"


@pytest.mark.parametrize("name", ["web", "web.0", "circus.web-1", "a/b", "1", "x=y", "ü", "n" * 200])
def test_good_names(name: str) -> None:
    assert names.name_error(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("a b", "white space"),
        ("a\tb", "white space"),
        ("a\nb", "white space"),
        ("a\u2003b", "white space"),
        ("a:b", "':'"),
        ("a*", "'*'"),
        ("a)", "')'"),
        ("a\x00b", "U+0000"),
        ("a\x1bb", "U+001B"),
        ("a\udc80", "U+DC80"),
        ("n" * 201, "200 bytes"),
        ("ü" * 101, "200 bytes"),
    ],
)
def test_bad_names(name: str, why: str) -> None:
    assert why in str(names.name_error(name))


def test_patterns() -> None:
    there = ["web.0", "web.1", "db", "w"]
    assert names.match("web.*", there) == ["web.0", "web.1"]
    assert names.match("*", there) == there
    assert names.match("web", there) == []


@given(st.text())
def test_any_text_is_a_name_or_has_a_fault(name: str) -> None:
    problem = names.name_error(name)
    assert problem is None or "a name may not" in problem or "a name may have" in problem


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_object_paths_lead_back_to_the_name(name: str) -> None:
    label = objects.escape(name)
    assert label.replace("_", "").isalnum() or set(label) == {"_"}
    assert objects.unescape(label) == name


def test_object_paths_are_those_of_systemd() -> None:
    """systemd writes its own unit names with sd_bus_path_encode(3): 'dbus.socket' is 'dbus_2esocket'."""
    assert objects.escape("dbus.socket") == "dbus_2esocket"
    assert objects.escape("1a") == "_31a"
    assert objects.escape("") == "_"
    assert objects.escape("ü") == "_c3_bc"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=200))
def test_scope_names_are_short_enough(name: str) -> None:
    assert len(scope_name(name)) <= 255
    assert scope_name(name, 4194304).endswith("-4194304.scope")


def test_systemd_takes_the_scope_names() -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "Debian package systemd"
    for name in ("web", "a/b", "ü", "x y", "a@b", "."):
        unit = scope_name(name)
        done = subprocess.run(
            ["systemd-escape", "--unescape", "--", unit], capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr


def test_errors_come_back_as_what_they_were() -> None:
    for cls, name in errors.DBUS_NAMES.items():
        again = errors.from_dbus(name, "why")
        assert type(again) is cls
        assert str(again) == "why"
    assert type(errors.from_dbus("org.example.Other", "x")) is errors.PapaError


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [  # as dbus-daemon with systemd 252 and dbus-broker 33 have it
        ("org.freedesktop.systemd1.UnitMasked", "Unit papa.service is masked.", "systemctl unmask papa"),
        ("org.freedesktop.systemd1.NoSuchUnit", "Unit papa.service not found.", "systemctl daemon-reload"),
        (BY_BROKER, "Could not activate remote peer: activation request failed: unit is masked.", "unmask papa"),
        (BY_BROKER, "Could not activate remote peer 'x': activation request failed: unknown unit", "daemon-reload"),
    ],
)
def test_what_systemd_refuses_for_good_says_what_to_do(name: str, message: str, remedy: str) -> None:
    error = errors.from_dbus(name, message)
    assert isinstance(error, errors.NotStarted)
    assert message.removesuffix(".") in str(error)
    assert remedy in str(error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (BY_BROKER, "Could not get owner of name 'org.papa.Kernel': no such name"),
        (BY_BROKER, "Could not activate remote peer: unit failed."),  # it is restarted
        ("org.freedesktop.systemd1.ShuttingDown", "Refusing activation, D-Bus is shutting down."),  # it restarts
    ],
)
def test_what_may_pass_is_tried_again(name: str, message: str) -> None:
    assert type(errors.from_dbus(name, message)) is errors.Unreachable
