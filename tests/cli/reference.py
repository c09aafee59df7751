"""docs/cli.md shows the ``--help`` of every command. ``python -m tests.cli.reference`` writes it anew."""

import re
from pathlib import Path

from click.testing import CliRunner

from signalr_upstream.cli import main

GUIDE = Path(__file__).parents[2] / "docs" / "cli.md"

_HELP = re.compile(
    r"(?<=^```text\n)(signalr-upstream ([a-z]+) --help\n).*?(?=^```$)", re.MULTILINE | re.DOTALL
)


def help_of(command: str) -> str:
    """What ``--help`` prints on a terminal of 100 columns."""
    result = CliRunner().invoke(main, [command, "--help"], prog_name="signalr-upstream", terminal_width=100)
    assert result.exit_code == 0
    return result.output


def commands_in(text: str) -> list[str]:
    """The commands whose help is shown."""
    return [found[2] for found in _HELP.finditer(text)]


def with_help(text: str) -> str:
    """The guide with the help of today."""
    return _HELP.sub(lambda found: found[1] + "\n" + help_of(found[2]), text)


if __name__ == "__main__":
    GUIDE.write_text(with_help(GUIDE.read_text()))
