"""However many users are refused on the port, the log has a bounded number of records about it."""

import os
import socket
from pathlib import Path

import pytest

from papa_dbus.service.log_budget import MAX_RECORDS
from tests.bus.lineclient import Papad
from tests.support import PATIENCE

pytestmark = pytest.mark.root


def test_19_a_users_subordinate_uids_share_one_budget(tmp_path: Path) -> None:
    papad = Papad(tmp_path)
    for uid in range(100_000, 100_100):
        with socket.socket() as sock:
            os.fchown(sock.fileno(), uid, -1)  # as if that user had made it
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", papad.port))
            assert f"you are user {uid}".encode() in sock.recv(4096)
    assert papad.stop() == 0
    records = [line for line in papad.log.read_text().splitlines() if "was refused" in line]
    assert len(records) == MAX_RECORDS
    assert "uid 100000 " in records[0]
