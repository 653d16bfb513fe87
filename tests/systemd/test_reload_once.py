"""A reload is one reload, however many clients call meanwhile."""

from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot

DROP_IN = "/run/systemd/system/papa.service.d/late.conf"
#: A command that ends long after papad has had its signal, as on a busy machine.
LATE = """[Service]
ExecReload=
ExecReload=/bin/sh -c 'kill -HUP $$MAINPID; sleep 1'
"""
CALLING = "/run/calling"
PING = "busctl call org.papa.Kernel /org/papa/Kernel org.freedesktop.DBus.Peer Ping"
RELOADS = 3


@pytest.fixture(params=["dbus-daemon", "dbus-broker"])
def called(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give a container with four clients that call all the time; the bus starts papad for them whenever it is away."""
    container = as_after_boot(containers(request.param))
    container.run(f"mkdir -p $(dirname {DROP_IN}) && cat >{DROP_IN} <<'EOF'\n{LATE}EOF\nsystemctl daemon-reload")
    container.run(f"systemctl start papa && touch {CALLING}")
    container.run(f"for n in 1 2 3 4; do (while test -e {CALLING}; do {PING}; done) >/dev/null 2>&1 & done")
    yield container
    container.run(f"rm {CALLING} {DROP_IN} && systemctl daemon-reload")


def test_a_reload_is_done_once(called: Container) -> None:
    cursor = called.journal_cursor()
    for _ in range(RELOADS):
        before = called.journal_cursor()
        called.run("systemctl reload papa")
        called.wait_for_journal("is ready", before)
        called.wait_until("test $(systemctl show --property=ActiveState --value papa) = active")
        called.wait_until('test -z "$(systemctl list-jobs --no-legend papa.service)"')
    said = called.journal(f"--after-cursor={cursor}", "--unit=papa.service")
    assert said.count("papad becomes its new version") == RELOADS
