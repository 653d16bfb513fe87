"""A hosted program reads no key of another user's program, nor one of papad's, in its session keyring."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from papa_dbus.bus import Variant
from tests.bus.client import Client, connected
from tests.bus.daemon import Papad, start_papad

pytestmark = pytest.mark.root

PROGRAM = Path(__file__).parents[2] / "keyring.py"


@pytest.fixture
def keyring_papad(bus_address: str, tmp_path: Path) -> Papad:
    """Give a papad with a session keyring, as systemd gives it (KeyringMode=private)."""
    return start_papad(bus_address, tmp_path / "line", prefix=[sys.executable, str(PROGRAM), "join"])


@pytest.fixture
async def keyring_client(keyring_papad: Papad) -> AsyncIterator[Client]:
    """Give a client of that papad, which ends afterwards."""
    async for client in connected(keyring_papad.address):
        yield client
    assert "Traceback" not in keyring_papad.stop()


async def said(client: Client, name: str, uid: int, *what: str) -> str:
    """Return what the program says as a user."""
    program = ["/usr/bin/python3", "-I", "-c", PROGRAM.read_text(), *what]
    who = {"uid": Variant("u", uid), "gid": Variant("u", uid)}
    await client.make_process(name, *program, working_dir=Variant("s", "/"), **who)
    await client.watch(name)
    await client.wait(lambda: client.output(name).endswith(b"\n"), name)
    return client.output(name).decode()


@pytest.mark.parametrize("reader", [1, 65534])
async def test_a_program_reads_no_key_of_another(keyring_client: Client, reader: int) -> None:
    assert (await said(keyring_client, "a", 65534, "put", "programs", "secret")).startswith("put as ")
    for owner in ("programs", "papads"):
        assert await said(keyring_client, f"b.{owner}", reader, "read", owner) == "Required key not available\n"
