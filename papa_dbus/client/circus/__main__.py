"""The command papa-circusd: circusd's own options, and ``use_papa`` works."""

import sys

from papa_dbus.client import install_as_papa

#: The versions whose insides this was written for and is tested with.
KNOWN = ("0.17.2", "0.18.0", "0.19.0")


def main() -> int:
    """Run circusd. Returns its exit status, or 1 where this Circus is not known."""
    install_as_papa()  # 0.17.2 lets nobody say use_papa where there is no module papa
    try:
        import circus
    except ImportError:
        print(f"papa-circusd: Circus is not installed here: {_pip()}", file=sys.stderr)
        return 1
    if circus.__version__ not in KNOWN:
        print(
            f"papa-circusd: this is Circus {circus.__version__}; known are {', '.join(KNOWN)}, and what is put into"
            f" Circus must fit it: {_pip()}",
            file=sys.stderr,
        )
        return 1
    from circus import circusd

    from papa_dbus.client.circus import additions

    additions.install()
    circusd.main()
    return 0


def _pip() -> str:
    if sys.prefix != sys.base_prefix:
        return f"{sys.executable} -m pip install circus=={KNOWN[-1]}"
    # The system's own Python, as with the Debian package: pip is to leave that one alone (PEP 668).
    venv = "/opt/circus"
    return (
        f"{sys.executable} -m venv --system-site-packages {venv} && {venv}/bin/pip install circus=={KNOWN[-1]},"
        f" and then {venv}/bin/python -m papa_dbus.client.circus"
    )


if __name__ == "__main__":
    sys.exit(main())
