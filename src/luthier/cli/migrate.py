"""The command `luthier migrate openai`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import options, screen

app = typer.Typer()
migrate = typer.Typer(
    no_args_is_help=True, help="Leave a hosted fine-tuning service, with proof that nothing got worse."
)
app.add_typer(migrate, name="migrate")

_NO_KEY = (
    "the environment variable {name} holds no key; put it there (it is written nowhere), or name another with --key."
)


@migrate.callback()
def sources() -> None:
    """Leave a hosted fine-tuning service, with proof that nothing got worse."""


@migrate.command()
def openai(
    key: Annotated[
        str, typer.Option(metavar="VARIABLE", help="The environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="The address up to /v1, of OpenAI or of a server that speaks as it does.")
    ] = "https://api.openai.com/v1",
    job: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A finished job; may be repeated; all when absent.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="What is tuned here: a hub id, a local folder, or `starter`.")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, help="The most questions that each tuned model is asked there.")
    ] = 500,
    money: Annotated[
        float | None, typer.Option(min=0, help="The most that all answers together may cost there; needs --price.")
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="FILE", help="A YAML file with prices, as for `luthier compare`.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much worse a replacement may be and still count as none.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write; the same command goes on in it.")] = Path("migration"),
    set: options.Set = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Tune replacements for your models at OpenAI, and compare them with the incumbents while those still answer."""
    from luthier.core.errors import SettingsError
    from luthier.recipes import migrate as recipe
    from luthier.recipes.migrate_account import Account

    secret = os.environ.get(key)
    if not secret:
        raise SettingsError(_NO_KEY.format(name=key if key.isidentifier() else "that --key names"))
    account = Account(base_url, secret)
    wish = recipe.Wish(tuple(job or ()), model, requests, margin, key, tuple(set or ()), money, price)
    found = recipe.migrate(account, wish, out, screen.voice()) if yes else recipe.look(account, wish, out)
    screen.show([one.as_json() for one in found] if json else recipe.as_text(found, wish, out))
