"""Clients of the kernel."""
