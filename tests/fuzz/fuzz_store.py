"""Coverage-guided: whatever is in the registries' file, papad comes up, hosts what can be made out, and can store anew.

The first half of an input is a text for the rows, the rest is written over a good file at a place that the input says.
Run by test_fuzz.py, or by hand: python -m tests.fuzz.fuzz_store -max_total_time=600
"""

import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from papa_dbus.service.items.rows import ProcessRecord
    from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
    from papa_dbus.service.items.store import Store
    from papa_dbus.service.items.store_file import TooNew
    from papa_dbus.service.kernel.kernel import Kernel

_folder = Path(tempfile.mkdtemp(prefix="papa-fuzz-"))
_path = _folder / "state.sqlite"


def good_file() -> bytes:
    """A file with something of each kind in it."""
    store = Store(_path)
    store.set_value("v", "kept")
    store.add_socket(SocketSpec("s"), 1, 0)
    key = store.begin_process(ProcessSpec("p", ("/bin/true",)), {}, [])
    store.process_runs(key, ProcessRecord(1, 2, 0, 0, "/"), 0)
    store._db.execute("PRAGMA journal_mode = DELETE").close()
    store.close()
    return _path.read_bytes()


def clear() -> None:
    """Leave nothing of the last one."""
    for file in _folder.iterdir():
        file.unlink()


_GOOD = good_file()


def try_bytes(data: bytes) -> None:
    """One input."""
    clear()
    provider = atheris.FuzzedDataProvider(data)
    place, length = provider.ConsumeIntInRange(0, len(_GOOD)), provider.ConsumeIntInRange(0, 64)
    text = provider.ConsumeUnicodeNoSurrogates(provider.ConsumeIntInRange(0, 200))
    _path.write_bytes(_GOOD)
    spoil_rows(text, provider.ConsumeIntInRange(0, 7))
    patch = provider.ConsumeBytes(length)
    with open(_path, "r+b") as file:
        file.seek(place)
        file.write(patch)
        if provider.ConsumeBool():
            file.truncate(place)
    asyncio.run(recover())


def spoil_rows(text: str, which: int) -> None:
    """Put a text in the place of a row's."""
    columns = ("sockets SET spec", "processes SET spec", "processes SET facts", "processes SET pipes",
               "processes SET state", '"values" SET value', "keys SET last")  # fmt: skip
    if which < len(columns):
        store = Store(_path)
        store._db.execute(f"UPDATE {columns[which]} = ?", (text,))
        store._db.execute("PRAGMA journal_mode = DELETE").close()
        store.close()


async def recover() -> None:
    """Come up with it as papad does."""
    try:
        store = Store(_path)
    except TooNew:
        return
    kernel = Kernel(store=store)
    kernel.recover({})
    kernel.host_passed({})
    kernel.list_processes()
    kernel.list_sockets()
    kernel.set_value("new", "x")
    assert kernel.get_value("new") == "x"
    kernel.close()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()
