"""The command `luthier backup`: a consistent copy of a server's data folder, and the way back."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import screen

app = typer.Typer()


@app.command()
def backup(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The data folder of the server.")],
    target: Annotated[Path, typer.Argument(metavar="DEST", help="The folder of the backup.")],
    restore: Annotated[
        bool, typer.Option("--restore", help="Make DATA, which must be absent or empty, from the backup in DEST.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Copy a server's data folder while it runs, and check the copy; or put a copy back."""
    from luthier.recipes import backup as recipe

    kept = recipe.restore(target, data) if restore else recipe.backup(data, target)
    screen.show(kept.as_json() if json else kept.as_text())
