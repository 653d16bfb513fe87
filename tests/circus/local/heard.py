"""A plugin that writes down what it hears of watchers."""

from pathlib import Path
from typing import Any

from circus.plugins import CircusPlugin  # type: ignore[import-not-found, unused-ignore]


class Heard(CircusPlugin):  # type: ignore[misc, unused-ignore]
    """Notes each topic once it is heard, in the file that its section names."""

    name = "heard"

    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        self._file = Path(config["file"])
        self._file.touch()

    def handle_recv(self, data: list[bytes]) -> None:
        """Note it."""
        with self._file.open("a") as file:
            file.write(data[0].decode() + "\n")
