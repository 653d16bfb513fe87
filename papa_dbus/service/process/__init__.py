"""Hosted processes: how one is started, read and ended."""
