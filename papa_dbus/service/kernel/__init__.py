"""The registries and their rules; knows no protocol, no bus and no systemd."""
