"""Processes that a namesake has replaced, and whose output is still read, by name."""

from collections.abc import Iterator

from papa_dbus.service.process.hosted import HostedProcess


class Superseded:
    """Processes that have left the list and are still being read. All of one name are found at once."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[HostedProcess, None]] = {}
        self._count = 0

    def add(self, process: HostedProcess) -> None:
        """Note another one."""
        self._by_name.setdefault(process.spec.name, {})[process] = None
        self._count += 1

    def remove(self, process: HostedProcess) -> None:
        """Forget one that is there."""
        of_name = self._by_name[process.spec.name]
        del of_name[process]
        self._count -= 1
        if not of_name:
            del self._by_name[process.spec.name]

    def of(self, name: str) -> list[HostedProcess]:
        """Return those of a name."""
        return list(self._by_name.get(name, ()))

    def __contains__(self, process: HostedProcess) -> bool:
        return process in self._by_name.get(process.spec.name, ())

    def __iter__(self) -> Iterator[HostedProcess]:
        return (process for of_name in self._by_name.values() for process in of_name)

    def __len__(self) -> int:
        return self._count
