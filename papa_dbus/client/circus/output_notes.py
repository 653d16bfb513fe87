"""Notes about a process's output for the next circusd, kept in Papa beside the process."""

import contextlib
import json
from typing import Any

from circus import logger

from papa_dbus.client.compat import papa


class OutputNotes:
    """Two values: of which lines the beginning has been passed on, and how much of the records that come again."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._begun: dict[str, float] = {}
        self._has_passed = False

    def recall(self) -> tuple[list[int] | None, dict[str, int]] | None:
        """Return which record the last circusd had in hand first, and the bytes passed on from there, by stream.

        The value stays: whatever comes later is another record. An older circusd did not say which it is.
        """
        said = self._process.kernel.get(self._passed)
        if not said:
            return None
        self._has_passed = True
        value = json.loads(said)
        if "first" in value:
            return value["first"], value["passed"]
        self.forget()
        return None, value

    def recall_begun(self) -> dict[str, float]:
        """Return the lines of which the last circusd has passed on the beginning: their times, by stream."""
        self._begun = json.loads(self._process.kernel.get(self._begun_lines) or "{}")
        return dict(self._begun)

    def note_begun(self, begun: dict[str, float]) -> None:
        """Note of which lines the beginning alone has been passed on."""
        if begun != self._begun:
            self._begun = dict(begun)
            with contextlib.suppress(papa.Error):  # at worst the rest of the line is stamped as well
                self._process.kernel.set(self._begun_lines, json.dumps(begun) if begun else None)

    def note_passed(self, first: list[int], passed: dict[str, int]) -> None:
        """Note how much of the records that come again has been passed on, from the first of them on."""
        try:
            self._process.kernel.set(self._passed, json.dumps({"first": first, "passed": passed}))
        except papa.Error as error:
            logger.warning("%s: what was logged of a begun line may be logged again: %s", self._process.name, error)

    def forget(self) -> None:
        """Remove them: the process has ended."""
        self.note_begun({})
        if self._has_passed:
            self._has_passed = False
            with contextlib.suppress(papa.Error):
                self._process.kernel.set(self._passed)

    @property
    def _passed(self) -> str:
        return f"{self._process.papa_name}.passed"

    @property
    def _begun_lines(self) -> str:
        return f"{self._process.papa_name}.begun"
