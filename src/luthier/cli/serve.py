"""The commands about the server: `luthier serve` and `luthier keys`."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import options

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys with which clients call the server.")
app.add_typer(keys, name="keys")

Data = Annotated[Path, typer.Option(metavar="DIR", help="The folder for files, jobs, models and keys.")]
DATA = Path("luthier-data")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    data: Data = DATA,
    config: Annotated[
        list[Path] | None, typer.Option("--config", help="A YAML file of the server's settings; later files win.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder whose finished runs are models; runs, where it is there, when absent."
        ),
    ] = None,
    engine_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A vLLM server that answers in the place of Luthier's own engine.")
    ] = None,
) -> None:
    """Serve OpenAI's API for files, fine-tuning jobs, models and chat."""
    from luthier.config.serving import load_serving
    from luthier.server.main import serve as serve_until_stopped

    settings = load_serving(config or [])
    given = {"runs": None if runs is None else str(runs), "engine_url": engine_url}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    serve_until_stopped(settings, data, host, port)


@keys.command()
def create(
    data: Data = DATA,
    project: Annotated[str, typer.Option(help="The project whose files and jobs the key opens.")] = "default",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="After how many days it opens nothing; never when absent.")
    ] = None,
) -> None:
    """Make a key and print it; it is shown only now."""
    from luthier.jobs.opening import opened_keys

    with opened_keys(data) as opened:
        secret, _ = opened.mint(project, name, days)
    print(f"API key: {secret}")


@keys.command(name="list")
def list_keys(data: Data = DATA, json: options.Json = False) -> None:
    """List the keys by their ids; what opens anything is not shown."""
    from luthier.jobs.opening import opened_keys
    from luthier.jobs.words import as_json, as_lines

    with opened_keys(data) as opened:
        listed = opened.listed()
    print(json_module.dumps(as_json(listed), indent=1) if json else as_lines(listed))


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="The id of a key, as `luthier keys list` shows it.")],
    data: Data = DATA,
) -> None:
    """Make a key worthless at once."""
    from luthier.jobs.opening import opened_keys

    with opened_keys(data) as opened:
        opened.revoke(key)
    print(f"{key} is revoked")
