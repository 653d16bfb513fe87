"""The drop-in for the ``papa`` module of Papa 1.0.6. New code uses papa_dbus.client.aio.

The drop-in is loaded when it is first asked for: the asyncio client does without it.
"""

import sys
from importlib import import_module
from typing import Any

__all__ = [
    "DEVNULL", "PIPE", "STDOUT", "Error", "Papa", "ProcessOutput", "Watcher", "install_as_papa", "set_debug_mode",
    "set_default_connection_timeout", "set_default_path", "set_default_port",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("papa_dbus.client.compat.papa"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install_as_papa() -> None:
    """Make ``import papa`` find this module, for a program that was written for Papa 1.0.6."""
    sys.modules["papa"] = sys.modules[__name__]
