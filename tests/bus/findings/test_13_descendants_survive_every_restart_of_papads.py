"""A descendant that prints is not ended by SIGPIPE when papad is restarted, whatever has become of its process."""

from functools import partial
from pathlib import Path

import pytest

from tests.bus.consumer import consumer
from tests.bus.isolated import SupervisedPapad, ended
from tests.support import alive, until


async def until_file(path: Path) -> int:
    """Wait for a number in a file."""
    return int(await until(lambda: path.exists() and path.read_text().strip(), f"number in {path}"))


def has_printed(descendant: int, count: Path, size: int) -> bool:
    """Return whether it has counted so far; it must be there."""
    assert alive(descendant)
    return count.stat().st_size >= size


@pytest.mark.parametrize("how", ["reload", "restart", "kill"])
@pytest.mark.parametrize("what", ["removed", "replaced"])
async def test_a_descendant_prints_on(bus_address: str, tmp_path: Path, how: str, what: str) -> None:
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    pid_file, count = tmp_path / "pid", tmp_path / "count"
    script = tmp_path / "script"
    prints = f"echo $$ > {pid_file}; while echo tick; do echo >> {count}; sleep 0.01; done"
    script.write_text(f"(exec sh -c '{prints}') & exit 0")
    try:
        async with consumer(bus_address) as client:
            await client.make_process("web", "sh", str(script))
            descendant = await until_file(pid_file)
            with ended(descendant):
                client.holds.add("web")
                number = await client.consume("web")
                await client.wait(lambda: client.exits, "end")
                if what == "replaced":
                    await client.make_process("web", "sleep", "600")
                    await client.call("Acknowledge", "ta{st}", number, {"web": client.last["web"]})
                else:
                    await client.call("RemoveProcesses", "as", ["web"])
                for _ in range(2):  # the next papad's successor, too
                    if how == "reload":
                        papad.reload()
                    else:
                        papad.kill() if how == "kill" else papad.terminate()
                        papad.start()
                    written = count.stat().st_size
                    await until(partial(has_printed, descendant, count, written + 5), papad.log.read_text)
    finally:
        papad.stop()


async def test_what_is_kept_for_it_goes_with_it(bus_address: str, tmp_path: Path) -> None:
    """The descriptors of a process that is gone are given up once its last descendant is."""
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    pid_file = tmp_path / "pid"
    try:
        async with consumer(bus_address) as client:
            await client.make_process(
                "web", "sh", "-c", f"(exec sh -c 'echo $$ > {pid_file}; exec sleep 600') & exit 0"
            )
            descendant = await until_file(pid_file)
            with ended(descendant):
                await client.until_ended("web")
                await client.call("RemoveProcesses", "as", ["web"])
                await until(lambda: papad.kept, "descriptors that are kept")
                papad.kill()
                papad.start()
                assert papad.kept
            await until(lambda: not papad.kept, "end of what is kept")
    finally:
        papad.stop()
