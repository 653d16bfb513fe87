"""doctor: asks everything that Papa stands on, and says what to do about what is missing."""

import asyncio
import sys

import click

from papa_dbus.client.cli import doctor_checks, printing
from papa_dbus.client.cli.command import Command, Target
from papa_dbus.client.cli.exit_status import Status

_MARKS = {
    doctor_checks.Grade.GOOD: ("ok", "green"),
    doctor_checks.Grade.NOTE: ("note", "yellow"),
    doctor_checks.Grade.BAD: ("BAD", "bold red"),
}


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def doctor(as_json: bool) -> None:
    """Check the installation and say what to do.

    Bus, policy, group, units, descriptor store, Linux.

    Each line says what is right, or what is missing and what to do. Starts nothing. The exit status is 1 where
    something is bad, else 0.
    """
    findings = asyncio.run(doctor_checks.all_findings(click.get_current_context().ensure_object(Target)))
    if as_json:
        printing.as_json([{"check": f.check, "grade": f.grade.value, "message": f.message} for f in findings])
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            mark, style = _MARKS[finding.grade]
            printing.line(f"{mark:<4}  {finding.check:<{width}}  {finding.message}", style)
    sys.exit(Status.FAILED if any(f.grade is doctor_checks.Grade.BAD for f in findings) else Status.OK)
