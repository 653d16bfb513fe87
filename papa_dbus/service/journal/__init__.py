"""Process output on its way to the systemd journal."""
