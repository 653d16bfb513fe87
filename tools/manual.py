#!/usr/bin/env python3
"""The manual: papactl(1) and papad(8) of what their help says, org.papa.Kernel(5) of the contract; papa-circusd(1).

`make man` runs it, which writes the pages into docs/man; a test holds what is committed against it. `make docs` takes
the same pages for the site (docs/conf.py).
"""

import argparse
import inspect
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from docutils import nodes
from docutils.core import publish_from_doctree
from docutils.utils import new_document

from papa_dbus.client.circus.__main__ import KNOWN
from papa_dbus.client.cli.commands import papactl
from papa_dbus.client.cli.exit_status import MEANINGS
from papa_dbus.service.__main__ import parser as papad
from papa_dbus.service.line.help import COMMANDS, help_text

PROJECT = Path(__file__).resolve().parents[1]
CONTRACT = PROJECT / "papa_dbus/org.papa.Kernel.xml"
#: The interfaces of objects, by the titles of their sections.
OBJECTS = {
    f"{kind.upper()} OBJECTS": PROJECT / f"papa_dbus/org.papa.Kernel.{kind}.xml" for kind in ("Process", "Socket")
}

PAPACTL_ENVIRONMENT = {
    "PAPA_BUS_ADDRESS": "The message bus of papad: system, session or an address.",
    "NO_COLOR": "If it is set and not empty, nothing is coloured (no-color.org).",
}
CIRCUSD = """
The process manager Circus, with its own options, and with use_papa in watchers and sockets: what they start and bind is
held by Papa, and goes on while papa-circusd is away, with all its output.

Two options of [circus] are its own: papa_endpoint says which papad, and papa_prefix what this circusd's names in Papa
begin with (circus). Two circusds on a machine cannot have the same; the second does not start, and says so.

papa-circusd --help lists the options. Circus has to be installed for the same Python: {versions}.
"""
PAPAD_SIGNALS = {
    "SIGTERM, SIGINT": "End. Under systemd what papad holds is kept for the next one, unless the service is stopped.",
    "SIGHUP": "Execute papad again, with all that it holds: how a new version takes over (systemctl reload papa).",
}
PAPAD_LOG = """
Under systemd papad logs to the journal, else to stderr: what goes wrong, and who had what made or removed.

`systemctl service-log-level papa debug` has it log more, until its next start or reload; any level of syslog(3) will
do. Who had what made or removed is logged at every level. So is the change of the level.
"""
PAPAD_FILES = {
    "/run/papa/state.sqlite": "What papad holds, for the papad that comes after it.",
    "papa.service, papa.socket": "How systemd starts it.",
    "/etc/default/papa": "More options for the system's papad, as `PAPAD_OPTIONS=--port-for root`; they count from the"
    " next start on.",
}


#: When the pages were last read as a whole (man(7) wants a date).
_DATE = "2026-11-24"
#: docutils begins a section with an empty line that man's macros make anyway.
_EMPTY_LINE = re.compile(r"^(\.S[HS] .*\n)\.sp\n", re.MULTILINE)


_FIRST_LINE = '.\\" Made by `make man`, of what --help says and of the D-Bus contract: change those.\n'


class Page:
    """One page: sections of docutils' nodes, from which its own writer makes the page."""

    def __init__(self, name: str, section: int, summary: str) -> None:
        self.document = new_document(name)
        self.document += nodes.title("", name)
        self.document += nodes.subtitle("", summary)
        fields = (("manual_section", str(section)), ("manual_group", "Papa"), ("date", _DATE))
        info = nodes.docinfo()
        for key, value in fields:
            field = nodes.field("", nodes.field_name("", key), nodes.field_body("", nodes.paragraph("", value)))
            field["classes"].append(key)
            info += field
        self.document += info

    def section(self, title: str, *content: nodes.Node) -> None:
        """A section of the page."""
        self.document += nodes.section("", nodes.title("", title), *content)

    def text(self) -> str:
        """The page as troff."""
        settings = {"output_encoding": "unicode", "generator": False, "datestamp": None}
        written = publish_from_doctree(self.document, writer="manpage", settings_overrides=settings)
        return (
            '.\\" Made by `make man`, of what --help says and of the D-Bus contract: change those.\n'
            + _EMPTY_LINE.sub(r"\1", written)
        )


def paragraphs(text: str) -> Iterator[nodes.Node]:
    """A help text: paragraphs, and what stands behind click's \\b as it is."""  # noqa: D301
    for block in inspect.cleandoc(text).split("\n\n"):
        if block.startswith("\b\n"):
            yield verbatim(block.removeprefix("\b\n"))
        else:
            yield paragraph(" ".join(block.split()))


def paragraph(text: str) -> nodes.Node:
    """A paragraph; what stands between two backticks is a literal."""
    parts = [nodes.literal("", part) if odd % 2 else nodes.Text(part) for odd, part in enumerate(text.split("`"))]
    return nodes.paragraph("", "", *parts)


def verbatim(text: str) -> nodes.Node:
    """Text as it stands."""
    return nodes.literal_block(text, text)


def definitions(pairs: Iterable[tuple[str, str]]) -> nodes.Node:
    """What is meant by what."""
    return nodes.definition_list("", *(defined(term, paragraphs(meaning)) for term, meaning in pairs))


def see_also(*pages: str) -> nodes.Node:
    """The last section's text."""
    return nodes.paragraph("", ", ".join(pages))


def options_of(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """A command's options, as its help has them; those that every command has are papactl's own."""
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    return [record for record in records if record is not None]


def commands(group: click.Group, above: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """All commands, those of groups included."""
    for name, command in group.commands.items():
        context = click.Context(command, parent=above, info_name=name)
        if isinstance(command, click.Group):
            yield from commands(command, context)
        else:
            yield command, context


def papactl_page() -> Page:
    """papactl(1)."""
    page = Page("papactl", 1, "inspect and control the Papa daemon")
    top = click.Context(papactl, info_name="papactl")
    page.section("SYNOPSIS", nodes.paragraph("", "papactl [OPTIONS] COMMAND [ARGUMENTS]"))
    page.section("DESCRIPTION", *paragraphs(papactl.help or ""))
    page.section("OPTIONS", definitions(options_of(papactl, top)))
    described = []
    for command, context in commands(papactl, top):
        section = nodes.section("", nodes.title("", context.command_path.removeprefix("papactl ")))
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        section += [nodes.paragraph("", "", nodes.strong("", usage)), *paragraphs(command.help or "")]
        if options := options_of(command, context):
            section += definitions(options)
        described.append(section)
    page.section("COMMANDS", *described)
    page.section("EXIT STATUS", definitions((str(int(status)), meaning) for status, meaning in MEANINGS.items()))
    page.section("ENVIRONMENT", definitions(PAPACTL_ENVIRONMENT.items()))
    page.section("SEE ALSO", see_also("papad(8)", "org.papa.Kernel(5)", "systemctl(1)", "journalctl(1)", "ssh(1)"))
    return page


def papad_page() -> Page:
    """papad(8)."""
    parser = papad()
    page = Page("papad", 8, "the Papa daemon")
    page.section("SYNOPSIS", nodes.paragraph("", " ".join(parser.format_usage().split()).removeprefix("usage: ")))
    page.section("DESCRIPTION", *paragraphs(parser.description or ""), *paragraphs(parser.epilog or ""))
    page.section("OPTIONS", definitions(map(papad_option, parser._actions)))  # noqa: SLF001 (there is no public list)
    page.section("LINE PROTOCOL", *line_protocol())
    page.section("SIGNALS", definitions(PAPAD_SIGNALS.items()))
    page.section("LOG", *paragraphs(PAPAD_LOG))
    page.section("FILES", definitions(PAPAD_FILES.items()))
    page.section("SEE ALSO", see_also("papactl(1)", "org.papa.Kernel(5)", "systemd.service(5)", "telnet(1)"))
    return page


def line_protocol() -> Iterator[nodes.Node]:
    """What port 20202 and the Unix socket understand: help's own words."""
    yield nodes.paragraph("", "On port 20202 and on the Unix socket a command is a line. telnet(1) will do:")
    yield verbatim(help_text([]))
    for words in COMMANDS:
        usage, _, text = help_text(words).partition("\n")
        title = nodes.title("", " ".join(usage.split()[: len(words)]))
        yield nodes.section(
            "", title, nodes.paragraph("", "", nodes.strong("", usage)), verbatim(inspect.cleandoc(text))
        )


def circusd_page() -> Page:
    """papa-circusd(1). Its --help is circusd's own."""
    page = Page("papa-circusd", 1, "circusd, with processes and sockets in the Papa daemon")
    page.section("SYNOPSIS", nodes.paragraph("", "papa-circusd [OPTIONS] [CONFIG]"))
    page.section("DESCRIPTION", *paragraphs(CIRCUSD.format(versions=", ".join(KNOWN))))
    page.section("SEE ALSO", see_also("papactl(1)", "papad(8)"))
    return page


def papad_option(action: argparse.Action) -> tuple[str, str]:
    """One of papad's options."""
    names = ", ".join(action.option_strings)
    metavar = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"{names}{metavar}", (action.help or "").replace("%(default)s", str(action.default))


def contract_page() -> Page:
    """org.papa.Kernel(5)."""
    page = Page("org.papa.Kernel", 5, "the D-Bus interface of the Papa daemon")
    text, interface = read(CONTRACT)
    page.section("DESCRIPTION", *prose(text), definitions(_ERROR.findall(text)))
    for title, content in described(interface):
        page.section(title, *content)
    for title, file in OBJECTS.items():
        text, interface = read(file)
        [(_, content)] = described(interface)
        page.section(title, *prose(text), *content)
    page.section("SEE ALSO", see_also("papactl(1)", "papad(8)", "busctl(1)"))
    return page


def read(file: Path) -> tuple[str, ElementTree.Element]:
    """An interface's file: its first comment, and the interface."""
    builder = ElementTree.TreeBuilder(insert_comments=True)
    text = file.read_text()
    interface = ElementTree.fromstring(text, ElementTree.XMLParser(target=builder)).find("interface")
    assert interface is not None
    return text.partition("<!--")[2].partition("-->")[0], interface


def described(interface: ElementTree.Element) -> Iterator[tuple[str, list[nodes.Node]]]:
    """What is in an interface, section by section; a comment that is a heading begins one."""
    title, content, comment = "", list[nodes.Node](), list[nodes.Node]()
    for child in interface:
        if child.tag is ElementTree.Comment:
            heading = re.search(r"=== (\w+) ===", child.text or "")
            if heading is None:
                comment = list(prose(child.text or ""))
                continue
            if content:
                yield title, content
            title, content = heading[1].upper(), []
            continue
        inside = [text for note in child.iter(ElementTree.Comment) for text in prose(note.text or "")]
        content.append(nodes.definition_list("", defined(signature(child), [*comment, *inside])))
        comment = []
    yield title, content


#: An error's name and what it means, two columns of them in the contract's first comment.
_ERROR = re.compile(r"(org\.papa\.Error\.\w+) +(.+?)(?=\s{3,}|$)", re.MULTILINE)


_NEW_PARAGRAPH = r"\n\s*\n|\n\s*- |\n\s*(?=options: |result keys: |Asking again)"


def prose(comment: str) -> Iterator[nodes.Node]:
    """A comment's text: an empty line, a dash or a new subject begins a paragraph."""
    for text in re.split(
        r"\n\s*\n|\n\s*- |\n\s*(?=options: |result keys: |Asking again)", _ERROR.sub("", comment).strip()
    ):
        yield paragraph(" ".join(text.split()).removesuffix(", and"))


def defined(term: str, meaning: Iterable[nodes.Node]) -> nodes.Node:
    """A term, and what is meant by it."""
    return nodes.definition_list_item("", nodes.term("", "", nodes.strong("", term)), nodes.definition("", *meaning))


def signature(element: ElementTree.Element) -> str:
    """A method, signal or property as a line: its arguments' types are D-Bus's."""
    name = element.get("name")
    if element.tag == "property":
        return f"property {name} {element.get('type')}"
    given = [a for a in element.findall("arg") if a.get("direction", "in") == "in"]
    result = [a for a in element.findall("arg") if a.get("direction") == "out"]
    gives = f" -> {arguments(result)}" if result else ""
    return f"{element.tag} {name}({arguments(given)}){gives}"


def arguments(elements: list[ElementTree.Element]) -> str:
    """Arguments with their types."""
    return ", ".join(f"{element.get('name')} {element.get('type')}" for element in elements)


#: The pages by the names of their files.
PAGES: dict[str, Callable[[], Page]] = {
    "papactl.1": papactl_page, "papad.8": papad_page, "org.papa.Kernel.5": contract_page,
    "papa-circusd.1": circusd_page,
}  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs/man"
    for file, make in PAGES.items():
        (folder / file).write_text(make().text())
