"""What to do about an error, as it is typed in a shell and on port 20202: whoever asked may sit at either."""

import shlex

from papa_dbus.names import DEFAULT_PORT


def typed(papactl: str, line: str, name: str) -> str:
    """Return both commands for an item, in parentheses."""
    return f"('papactl {papactl} {shlex.quote(name)}', or '{line} {name}' on port {DEFAULT_PORT})"
