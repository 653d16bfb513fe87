"""papactl: the person's tool for papad. Each command is thin: it asks papa_dbus.client.aio, and prints.

Its libraries, click and rich, are the extra `papa-dbus[ctl]`: what serves and who links to the client do without them.
"""

import sys


def main() -> int:
    """Run papactl; returns its exit status."""
    try:
        from papa_dbus.client.cli.commands import papactl  # noqa: PLC0415 (they may be missing)
        from papa_dbus.client.cli.exit_status import run  # noqa: PLC0415
    except ImportError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(f"papactl: the Python package {error.name} is missing: pip install 'papa-dbus[ctl]'\n")
        return 1
    return run(papactl)
