"""`papa_endpoint` says where Papa is: each Circus finds the same process there by all ways, without systemd."""

from pathlib import Path

import pytest

from tests.circus.environments import VERSIONS
from tests.circus.machine import bare_machine
from tests.support import wait_until

INI = "/srv/web/endpoint.ini"
SECTIONS = """
[circus]
papa_endpoint = {endpoint}
logoutput = /srv/web/log/circus.log

[watcher:it]
cmd = /usr/bin/sleep infinity
use_papa = true
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_papa_endpoint(version: str, wheel: Path) -> None:
    papad = ["--port", "20299", "--socket", "/run/papa.sock"]
    with bare_machine(wheel, version, "papa-circusd", *papad) as machine:
        ways = ["tcp://127.0.0.1:20299", "ipc:///run/papa.sock", f"dbus:{machine.use_no_bus()}"]
        pids = []
        for endpoint in ways:
            machine.path(INI).write_text(SECTIONS.format(endpoint=endpoint))
            machine.begin(INI)
            pids += machine.pids("it")
            machine.quit()
        assert len(pids) == 3
        assert len(set(pids)) == 1

        machine.path(INI).write_text(SECTIONS.format(endpoint="papa"))
        machine.launch(INI)
        wait_until(lambda: "papa_endpoint: 'papa' is none of" in machine.words(), machine.words)
        machine.wait_gone(1)

        machine.path(INI).write_text(SECTIONS.format(endpoint=ways[0]).replace("= true", "= perhaps"))
        machine.launch(INI)
        said = "papa-circusd: [watcher:it] use_papa: 'perhaps' is not a boolean; write true or false"
        if version == "0.17.2":  # it has the option itself, and says so before us
            said = "'perhaps' is not a boolean"
        wait_until(lambda: said in machine.words(), machine.words)
        machine.wait_gone(1)
