"""`make install` and `make uninstall`, on a running system and into a packager's folder."""

from tests.systemd.container import Container
from tests.systemd.machines import OFFLINE
from tests.systemd.test_starting import CALL

# All that is on the system but what runs and what is logged. Caches are not anybody's belongings.
LIST = (
    "find / -xdev -not -name __pycache__ -not -path '*/__pycache__/*' \\( -path /proc -o -path /sys -o -path /dev "
    "-o -path /run -o -path /tmp -o -path /var/log -o -path /var/tmp -o -path /var/cache -o -path /root "
    "-o -path /var/lib/systemd -o -path /var/lib/apt -o -path /srv/wheels "
    "-o -name .hypothesis -o -name .pytest_cache \\) -prune -o -print | sort"  # other tests run meanwhile
)
INTERFACES = ("org.papa.Kernel", "org.papa.Kernel.Process", "org.papa.Kernel.Socket")
# The group stays, and with it what groupadd writes beside it.
GROUP_FILES = {"/etc/group-", "/etc/gshadow-", "/etc/.pwd.lock"}


def test_installed_on_a_running_system_and_uninstalled_again(bare: Container) -> None:
    before = set(bare.run(LIST).stdout.splitlines())
    bare.run(f"cd /root/papa && {OFFLINE} make install")
    assert bare.run("systemctl is-active papa.socket").stdout == "active\n"
    assert bare.run(CALL).stdout == "a{ss} 0\n"  # the bus knows it: no reboot, no reload by hand
    bare.run("papad --help")
    for interface in INTERFACES:
        bare.run(f"cmp /usr/local/share/dbus-1/interfaces/{interface}.xml /root/papa/papa_dbus/{interface}.xml")
    again = bare.run(f"cd /root/papa && {OFFLINE} make install").stdout
    assert "systemctl reload papa" in again  # the one that runs is left alone

    bare.run("papactl socket make left --path /var/lib/left.sock && test -S /var/lib/left.sock")
    bare.run("cd /root/papa && make uninstall")
    assert set(bare.run(LIST).stdout.splitlines()) - GROUP_FILES == before - GROUP_FILES
    assert (
        bare.run(
            "systemctl list-units --plain --no-legend 'papa*' && ls /etc/systemd/system | grep papa || true"
        ).stdout
        == ""
    )
    assert "not provided" in bare.run(CALL, check=False).stderr + bare.run(CALL, check=False).stdout
    assert "papa" in bare.run("getent group papa").stdout
    bare.run("cd /root/papa && make uninstall")  # nothing to do, and no error


def test_installed_into_a_packagers_folder(bare: Container) -> None:
    bare.run(f"cd /root/papa && {OFFLINE} make install PREFIX=/opt/papa DESTDIR=/tmp/package")
    assert bare.run("systemctl is-active papa.socket", check=False).stdout == "inactive\n"
    assert bare.run("grep --recursive --files-with-matches /tmp/package /tmp/package", check=False).stdout == ""

    # Unpacked elsewhere, as a package is, and its folder gone.
    bare.run("cp -a /tmp/package/. / && rm -r /tmp/package && systemd-sysusers && systemctl daemon-reload")
    bare.run("systemctl reload dbus && systemctl start papa")
    assert "/opt/papa/bin/papad" in bare.run("systemctl show --property=ExecStart papa").stdout
    assert bare.run(CALL).stdout == "a{ss} 0\n"
