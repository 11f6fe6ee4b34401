"""Writes the CLI's reference: ``python -m tools.cli_reference > docs/cli.md``."""

from __future__ import annotations

import sys

import click

from edge_client.cli import cli

_WIDTH = 100


def reference() -> str:
    """Return the reference as Markdown, made from the commands' own help."""
    parts = [
        "# edge-client\n\nMade by `python -m tools.cli_reference > docs/cli.md`.\n",
        _block(_help(cli, "edge-client", None)),
    ]
    root = click.Context(cli, info_name="edge-client")
    for name, command in sorted(cli.commands.items()):
        parts += _chapter(command, name, root, "##")
    return "\n".join(parts)


def _chapter(command: click.Command, name: str, parent: click.Context, mark: str) -> list[str]:
    """Return a command's help and, below it, that of its own commands."""
    parts = [f"{mark} {name}\n", _block(_help(command, name, parent))]
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name, parent=parent)
        for inner, its in sorted(command.commands.items()):
            parts += _chapter(its, inner, context, mark + "#")
    return parts


def _help(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )
    return command.get_help(context)


def _block(text: str) -> str:
    return f"```\n{text}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
