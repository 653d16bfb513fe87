"""Papa: a process kernel for Linux, on systemd and D-Bus."""

__version__ = "2.0.0.dev1"
