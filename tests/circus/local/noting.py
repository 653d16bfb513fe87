"""Hooks that write down how they were called."""

import gc
import json
from pathlib import Path
from typing import Any


def note(watcher: Any, arbiter: Any, hook_name: str, **said: Any) -> bool:
    """Note it in the folder that the watcher's environment names."""
    del arbiter
    said = {key: value for key, value in said.items() if key in ("exit_code", "signum")}
    folder = Path(watcher.env["NOTES"])
    with (folder / f"{watcher.name}.hooks").open("a") as file:
        file.write(json.dumps([hook_name, said]) + "\n")
    return True


def note_circusd(watcher: Any, **_: Any) -> bool:
    """Note how circusd itself is set."""
    (Path(watcher.env["NOTES"]) / "circusd").write_text(str(gc.get_debug()))
    return True
