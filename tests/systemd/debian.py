"""Fresh Debian trees, made by debootstrap and kept for the next run; what they need to reach the package registries."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Where the trees are kept. They are only ever read; deleting them costs the next run some time.
TREES = Path("/var/tmp/papa-containers")

# A machine as a user has it before Papa: systemd, a message bus, user sessions, and git for the checkout.
_PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,dbus-user-session,git,ca-certificates"

#: What apt and pip need to know of this machine: how names are resolved, whom to trust, where pip looks.
FILES = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/apt/apt.conf.d")
_VARIABLES = (
    "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_PROXY", "PIP_TRUSTED_HOST",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


def variables() -> dict[str, str]:
    """Give the environment variables that belong to `FILES`."""
    return {key: os.environ[key] for key in _VARIABLES if key in os.environ}


def tree(suite: str) -> Path:
    """Give the folder of a fresh Debian; made now if no earlier run has left it."""
    kept = TREES / suite
    TREES.mkdir(parents=True, exist_ok=True)
    with alone():
        if not kept.exists():
            _make(suite, kept)
    return kept


@contextmanager
def alone() -> Iterator[None]:
    """Keep other test runs from making the same thing meanwhile."""
    with (TREES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(suite: str, kept: Path) -> None:
    building = Path(tempfile.mkdtemp(prefix=f"{suite}.", dir=TREES))
    try:
        _debootstrap(suite, building)
        building.chmod(0o755)
        building.rename(kept)  # whole or not at all
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _debootstrap(suite: str, folder: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise OSError(f"debootstrap {suite} ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr}")
