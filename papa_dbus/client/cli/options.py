"""papactl's options for those of a request: how each is called and read, and what help says, as the schema has it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from papa_dbus.forms import FLAG, Form
from papa_dbus.schema import Option, options

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: An option as papad names it in an error.
_NAMED = re.compile(r"\boption '(\w+)")


class Value(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A value as text. ``problem`` says what is wrong with one that was read."""

    def __init__(self, form: Form, problem: Callable[[object], str] = lambda value: "") -> None:
        self.name = form.metavar.lower()
        self._form = form
        self._problem = problem

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the text says."""
        try:
            read = self._form.read(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if problem := self._problem(read):
            self.fail(problem, param, ctx)
        return read


def _settings(option: Option) -> dict[str, Any]:
    told = {"help": f"{option.help[0].upper()}{option.help[1:]}.", "words": [f"--{option.name.replace('_', '-')}"]}
    if option.form is FLAG:
        return told | {"is_flag": True, "default": None}
    if option.choices:
        return told | {"type": click.Choice(option.choices)}
    if option.signature.startswith("a"):
        return told | {"multiple": True}
    return told | {"type": Value(option.form, option.problem), "metavar": option.form.metavar}


def options_of(request: type, **own: dict[str, Any]) -> Callable[[_Function], _Function]:
    """Give a command the options of a request. ``own``: what click is told otherwise, and the ``words`` on the line."""

    def decorate(function: _Function) -> _Function:
        for name, option in reversed(options(request).items()):
            settings = _settings(option) | own.get(name, {})
            function = click.option(name, *settings.pop("words"), **settings)(function)
        return function

    return decorate


def as_typed(message: str, command: click.Command) -> str:
    """Return what papad says, with its options named as they are on this command's line."""
    words = {param.name: param.opts[0] for param in command.params if isinstance(param, click.Option)}
    return _NAMED.sub(lambda found: f"option '{words.get(found[1], found[1])}", message)
