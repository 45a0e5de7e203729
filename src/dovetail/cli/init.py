"""``dovetail init``: a first run file."""

from __future__ import annotations

from pathlib import Path

import click

from dovetail.cli.text import examples


@click.command(
    short_help="Write a run file that trains in under a minute, offline.",
    epilog=examples("dovetail init", "dovetail init first.toml && dovetail run first.toml"),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("digits.toml"))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def init(file: Path, *, force: bool) -> None:
    """Write a commented run file (digits.toml by default) that trains in under a minute, offline.

    It learns scikit-learn's handwritten digits: pip install 'dovetail[digits]'.
    """
    from importlib import resources

    text = resources.files("dovetail.cli").joinpath("digits.toml").read_text(encoding="utf-8")
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        msg = f"{file} is already there; --force replaces it"
        raise click.ClickException(msg) from None
    except OSError as error:
        msg = f"{file} cannot be written: {error.strerror}"
        raise click.ClickException(msg) from None
    click.echo(f"{file}: written\n\nNext:\n  dovetail config check {file}\n  dovetail run {file}")
