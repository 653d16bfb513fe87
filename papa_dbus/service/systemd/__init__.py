"""What systemd gives: readiness, passed sockets, the descriptor store, scopes."""
