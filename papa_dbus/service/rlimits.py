"""Resource limits, setrlimit(2): papad's own, which it raises, and those that a process may be given."""

import resource
from typing import Final

#: What papad was started with, of what it raises.
GIVEN: Final = {limit: resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)}
#: All that there are, by the names that a client uses.
BY_NAME: Final = {name[7:].lower(): getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
#: 64 bits of ones mean no limit, as in struct rlimit (getrlimit(2)).
INFINITY: Final = 2**64 - 1


def raise_own() -> None:
    """Raise papad's own: its sockets and pipes are many, and a log's offsets count all that was ever written."""
    for limit, (_, hard) in GIVEN.items():
        resource.setrlimit(limit, (hard, hard))


def give_back() -> None:
    """Set papad's own as it was started, before its new version is executed."""
    for limit, pair in GIVEN.items():
        resource.setrlimit(limit, pair)
