"""papad's own log on its way to the journal."""

import logging
import os
from collections.abc import Callable

from systemd import journal

#: What papad's own log is called in the journal.
LOG_IDENTIFIER = "papad"


def log_target() -> str:
    """Return where papad's log goes, as org.freedesktop.LogControl1 calls it."""
    return "journal" if "JOURNAL_STREAM" in os.environ else "console"


def log_to_journal(write: Callable[..., None]) -> bool:
    """Send the log to the journal, with its fields, where systemd has connected papad to it.

    ``write`` takes a record's fields in the place of systemd-python's ``journal.send``, which may wait.
    """
    if log_target() != "journal":
        return False
    logging.getLogger().addHandler(journal.JournalHandler(sender_function=write, SYSLOG_IDENTIFIER=LOG_IDENTIFIER))
    return True
