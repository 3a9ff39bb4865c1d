"""A group of commands, with the settings that all groups have."""

from __future__ import annotations

import typer


class Group(typer.Typer):
    """Commands below one name; without a command it prints its help."""

    def __init__(self, about: str) -> None:
        super().__init__(
            help=about,
            no_args_is_help=True,
            rich_markup_mode="rich",
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
