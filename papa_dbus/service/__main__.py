"""papad's command line: arguments, logging, and what is there before the loop. The rest is in app.py."""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from setproctitle import setproctitle

from papa_dbus import __version__, names
from papa_dbus.errors import PapaError
from papa_dbus.service import audit, rlimits
from papa_dbus.service.app import LAST_WORDS_SECONDS, STATE_FILE, Papad
from papa_dbus.service.fork.fork import ForkServer
from papa_dbus.service.items.store_file import check_file
from papa_dbus.service.journal.socket import Journal, OwnLog
from papa_dbus.service.line.server import PortFor
from papa_dbus.service.private_bus import OwnBus
from papa_dbus.service.systemd import fd_store as systemd_fd_store
from papa_dbus.service.systemd import journal_handler as systemd_journal_handler

log = logging.getLogger("papad")


def parser() -> argparse.ArgumentParser:
    """Return what papad's command line may be."""
    parser = argparse.ArgumentParser(
        prog="papad",
        description="The Papa daemon: holds sockets, values and processes for managers that come and go.",
        epilog="Under systemd: systemctl start papa. See also busctl(1) and telnet(1).",
    )
    parser.add_argument(
        "--bus",
        default="system",
        metavar="BUS",
        help="message bus to serve: system, session, own (a private one is started) or an address (default: system)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=names.DEFAULT_PORT,
        help="loopback TCP port of the line protocol, 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--port-for",
        choices=[callers.value for callers in PortFor],
        default=PortFor.MEMBERS.value,
        metavar="CALLERS",
        help="callers to serve on that port: members (root, papad's own user and the group papa), root (root and"
        " papad's own user) or none (the port is kept, and each caller is told so); the message bus and the Unix"
        " socket serve members in any case (default: %(default)s)",
    )
    parser.add_argument("--socket", metavar="PATH", help="Unix socket of the line protocol, as well")
    parser.add_argument("--verbose", action="store_true", help="log debugging details")
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say whether this version can go on with the state in RUNTIME_DIRECTORY: what a reload asks first",
    )
    parser.add_argument("--version", action="version", version=f"papad {__version__}")
    return parser


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """papad's command line."""
    of_papad = parser()
    options = of_papad.parse_args(argv)
    if options.socket is not None and not os.path.isabs(options.socket):
        of_papad.error(f"argument --socket: {options.socket!r} is not an absolute path")
    return options


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run papad until it is told to stop. Returns its exit status."""
    options = arguments(argv)
    # papad has one thread. Python 3.12 and up counts them in /proc/self/stat by its spaces, and the title has some.
    warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)
    setproctitle(f"papa daemon from {os.path.basename(sys.argv[0])}")
    journal = Journal()
    own_log = OwnLog(journal, systemd_journal_handler.LOG_IDENTIFIER)
    _set_up_logging(options.verbose, own_log)
    if options.check:
        return _check()
    _keep_descriptors_from_children()
    fork_server = _fork_server()
    rlimits.raise_own()
    own = None
    try:
        if options.bus == "own":
            own = OwnBus()
        return asyncio.run(Papad(options, own, fork_server, journal, own_log).run())
    except PapaError as error:
        log.error("%s", error)
        return 1
    finally:
        if own is not None:
            own.close()
        if fork_server is not None:
            fork_server.close()
        own_log.finish(LAST_WORDS_SECONDS)


def _fork_server() -> ForkServer | None:
    try:
        return ForkServer()
    except OSError as error:
        log.warning(
            "the fork server cannot be started (%s): papad forks for itself, which takes longer", error.strerror
        )
        return None


def _check() -> int:
    """Run by the unit's ExecReload=, in its environment, before the papad that runs gives its place up."""
    folder = systemd_fd_store.runtime_directory()
    if folder is None:
        log.error("papad --check is for the unit's ExecReload=: RUNTIME_DIRECTORY, which says whose state, is not set")
        return 1
    try:
        check_file(folder / STATE_FILE)
    except PapaError as error:
        log.error("papad %s cannot take over: %s", __version__, error)
        return 1
    return 0


def _set_up_logging(verbose: bool, own_log: OwnLog) -> None:
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    audit.log_always()
    if not systemd_journal_handler.log_to_journal(own_log):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("papad: %(message)s"))
        root.addHandler(handler)


def _keep_descriptors_from_children() -> None:
    """Keep from children whatever papad was started with."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own
                os.set_inheritable(int(name), False)


if __name__ == "__main__":
    sys.exit(main())
