"""Process output: the log that keeps it until it is acknowledged, and the watches on it."""
