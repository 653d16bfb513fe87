"""A web page in a browser of a user who may talk to the kernel: nothing that it can send is run."""

import json
from pathlib import Path

import pytest

from tests.systemd.container import Container
from tests.systemd.test_access import PYTHON, people_of_machine
from tests.systemd.test_starting import CALL

__all__ = ["people_of_machine"]

BROWSER = (Path(__file__).parent / "browser.py").read_text()


@pytest.mark.usefixtures("people_of_machine")
def test_defect_02_a_web_page_runs_nothing(machine: Container) -> None:
    machine.run("systemctl start papa && rm -f /tmp/pwned")
    told = json.loads(machine.run([PYTHON, "-c", BROWSER, "mary"], timeout=120).stdout)
    # The browser does send commands, by a form and by script, and opens what is to become TLS, WebSockets and TURN.
    sent = "".join(told["received"])
    for way in ("form", "fetch", "address"):
        assert f"\r\nset pwned {way}\r\nmake process pwned" in sent, told
    assert "Upgrade: websocket" in sent
    assert any(data.startswith("\x16\x03") for data in told["received"])
    # The kernel has run nothing of it, and has answered nothing that a page could take for an answer.
    assert machine.run(CALL).stdout == "a{ss} 0\n"
    assert machine.run([*CALL[:5], "ListProcesses", "as", "0"]).stdout == "a{sa{sv}} 0\n"
    assert machine.run("test -e /tmp/pwned", check=False).returncode == 1
    assert "open" not in told["seen"]["kernel"].values()
    assert "answered" not in told["seen"]["kernel"].values()
    # The page's user could have: it is the protocol that was refused, not the user.
    line = "import socket; s = socket.create_connection(('127.0.0.1', 20202), 20); s.sendall(b'set v 1\\nq\\n');"
    machine.run([PYTHON, "-c", line + "[None for _ in iter(lambda: s.recv(99), b'')]"], "mary")
    assert machine.run(CALL).stdout == 'a{ss} 1 "v" "1"\n'
