"""What stands in a control group's files, of both versions, and whether it is the limit that was asked for."""

import os

import pytest

from papa_dbus.errors import Spawn
from papa_dbus.service.systemd import cgroups


@pytest.mark.parametrize(
    ("option", "asked", "file", "holds"),
    [
        ("memory_max", 64 << 20, "67108864", True),
        ("memory_max", 10_000_000, "9998336", True),  # whole pages
        ("memory_max", 5000, "4096", True),
        ("memory_max", 5000, "max", False),
        ("memory_max", 64 << 20, "9223372036854771712", False),  # version 1's "max"
        ("memory_max", 64 << 20, "33554432", False),
        ("tasks_max", 5, "5", True),
        ("tasks_max", 5, "max", False),
        ("tasks_max", 5, "6", False),
        ("cpu_quota", 50, "50000 100000", True),
        ("cpu_quota", 150, "150000 100000", True),
        ("cpu_quota", 50, "5000 10000", True),  # CPUQuotaPeriodSec=
        ("cpu_quota", 50, "max 100000", False),
        ("cpu_quota", 50, "-1 100000", False),  # version 1
        ("cpu_quota", 50, "60000 100000", False),
    ],
)
def test_what_holds(option: str, asked: int, file: str, holds: bool) -> None:
    assert cgroups._holds(option, asked, file.split()) == holds


@pytest.mark.parametrize("option", ["memory_max", "cpu_quota", "tasks_max"])
def test_of_a_process_that_nobody_limits_it_is_said(option: str) -> None:
    cgroups.check(os.getpid(), {})
    with pytest.raises(Spawn, match=f"option '{option}': systemd has "):
        cgroups.check(os.getpid(), {option: 4097})
