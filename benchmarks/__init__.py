"""Papa measured beside Papa 1.0.6, and beside what the machine itself can do. `make bench` runs it."""
