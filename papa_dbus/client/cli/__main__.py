"""python -m papa_dbus.client.cli is papactl."""

import sys

from papa_dbus.client.cli import main

sys.exit(main())
