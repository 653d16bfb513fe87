"""How `make docs` makes the site: Sphinx with MyST, of the Markdown here, of the manual's source and of docstrings."""

import sys
from pathlib import Path

from docutils import nodes
from pygments.lexer import RegexLexer, bygroups, using
from pygments.lexers.shell import BashLexer
from pygments.token import Generic, Text
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import papa_dbus

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import manual

project = "Papa"
version = release = papa_dbus.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["man"]
myst_heading_anchors = 3  # as on other sites that show Markdown: a heading's text is its anchor
smartquotes = False  # "--" begins an option here
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Types in signatures that have no page here: Python's own, and what stands behind the client's public classes.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections\.abc|socket|types)\..*|Self|Event"),
    (r"py:class", r"papa_dbus\.client\.(records\._Item|compat\.watcher\.Watch)|KernelConnection|Subscription|_Item"),
]

html_theme = "furo"
html_title = "Papa"
html_static_path = ["_static"]
html_css_files = ["papa.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


class ManualPage(SphinxDirective):
    """``{manual} PAGE``: what tools/manual.py writes that manual page of."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The page's sections, with anchors."""
        page = manual.PAGES[self.arguments[0]]().document
        for section in page.findall(nodes.section):
            title = section.next_node(nodes.title)
            if section.parent is page:
                title[:] = [nodes.Text(title.astext().capitalize())]
            section["names"] = [nodes.fully_normalize_name(title.astext())]
            self.state.document.note_implicit_target(section)
        return [node for node in page.children if isinstance(node, nodes.section)]


class Console(RegexLexer):
    """A console block as the test reads it (tests/systemd/console.py): the rest of a here-document is typed as well."""

    name = "console"
    tokens = {  # noqa: RUF012 (how Pygments has it)
        "root": [
            (r"^([#$] )(.*\n)", bygroups(Generic.Prompt, using(BashLexer))),
            (r"^([>\]] ?)(.*\n)", bygroups(Generic.Prompt, Text)),
            (r".*\n", Generic.Output),
        ]
    }


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("manual", ManualPage)
    app.add_lexer("console", Console)
