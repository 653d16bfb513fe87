"""Whom a process is to be: the user and groups that were asked for, and the environment that goes with them."""

import grp
import os
import pwd

from papa_dbus.errors import InvalidArgs, Spawn
from papa_dbus.service import limits
from papa_dbus.service.caller import acting_user
from papa_dbus.service.fork.child import Identity
from papa_dbus.service.group_list import groups_of
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.lookups import Lookups

#: The PATH that systemd gives to services, systemd.exec(5).
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def identify(spec: ProcessSpec, lookups: Lookups) -> Identity:
    """Return the user and groups that were asked for. Raises InvalidArgs if there is no such user or group.

    The user database may be a directory on another machine: it is asked in a thread, and not at all for papad's own
    user if /etc/passwd has that one. Raises Spawn if there is no answer in time.
    """
    if spec.uid is None and spec.gid is None and (own := _local_user(os.geteuid())) is not None:
        return Identity(os.geteuid(), os.getegid(), None, *own)
    try:
        return await lookups.ask(acting_user(), lambda: _look_up(spec), limits.LOOKUP_TIMEOUT)
    except TimeoutError:
        option = "uid" if spec.uid is not None else "gid"
        asked = spec.uid if spec.uid is not None else spec.gid
        seconds = f"{limits.LOOKUP_TIMEOUT:.0f} s"
        raise Spawn(f"option '{option}': no word of {asked!r} from the user database in {seconds}; try again") from None


def _local_user(uid: int) -> tuple[str, str] | None:
    """Return the name and home of a user in /etc/passwd (passwd(5))."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) == 7 and fields[2] == str(uid):
                    return fields[0], fields[5]
    except OSError:
        pass
    return None


def _look_up(spec: ProcessSpec) -> Identity:
    """Ask the user database. Waits for it."""
    entry = _user(spec.uid)
    gid = _gid(spec.gid)
    if gid is None:
        if entry is None and spec.uid is not None:
            raise InvalidArgs(f"option 'uid': there is no user {spec.uid}, so option 'gid' must be given, too")
        gid = os.getegid() if spec.uid is None or entry is None else entry.pw_gid
    if entry is None and spec.uid is None:
        return Identity(os.geteuid(), gid, None, str(os.geteuid()), "/")
    if entry is None:
        return Identity(int(str(spec.uid)), gid, (gid,), str(spec.uid), "/")
    changed = spec.uid is not None or spec.gid is not None
    groups = tuple(groups_of(entry.pw_name, gid)) if changed and os.geteuid() == 0 else None
    return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def _user(uid: str | int | None) -> pwd.struct_passwd | None:
    try:
        if isinstance(uid, str):
            return pwd.getpwnam(uid)
        return pwd.getpwuid(os.geteuid() if uid is None else uid)
    except KeyError:
        if isinstance(uid, str):
            raise InvalidArgs(f"option 'uid': there is no user {uid!r}; 'getent passwd' lists them") from None
        return None


def _gid(gid: str | int | None) -> int | None:
    if not isinstance(gid, str):
        return gid
    try:
        return grp.getgrnam(gid).gr_gid
    except KeyError:
        raise InvalidArgs(f"option 'gid': there is no group {gid!r}; 'getent group' lists them") from None


def environment(spec: ProcessSpec, identity: Identity) -> dict[str, str]:
    """Return what was asked for, or a login-like minimum as systemd gives it (systemd.exec(5))."""
    if spec.env is not None:
        return dict(spec.env)
    return {
        "PATH": _DEFAULT_PATH,
        "HOME": identity.home,
        "USER": identity.user,
        "LOGNAME": identity.user,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }
