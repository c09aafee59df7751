"""docs/cli.md and ``--help`` say the same, and every flag can be set in the environment."""

import click
import pytest

from signalr_upstream.cli import main

from .reference import GUIDE, commands_in, help_of, with_help

LOOSENING = {"allow_remote", "lenient"}


def test_the_guide_shows_the_help_of_every_command() -> None:
    text = GUIDE.read_text()

    assert sorted(commands_in(text)) == sorted(main.commands)
    assert with_help(text) == text, "write it anew: python -m tests.cli.reference"


@pytest.mark.parametrize("name", main.commands)
def test_help_names_the_variable_of_the_app(name: str) -> None:
    takes_app = any(parameter.name == "app" for parameter in main.commands[name].params)

    assert ("SIGNALR_UPSTREAM_APP." in help_of(name)) == takes_app


@pytest.mark.parametrize("name", main.commands)
def test_every_flag_has_an_environment_variable_that_help_names(name: str) -> None:
    shown = help_of(name).replace("\n", " ")

    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option):
            variable = parameter.envvar or f"SIGNALR_UPSTREAM_{name}_{parameter.name}".upper()
            assert (str(variable) in "".join(shown.split())) == (parameter.name not in LOOSENING), (
                parameter.name
            )
