"""Forks: the fork server, what a child does from its fork to its program, and how it ended."""
