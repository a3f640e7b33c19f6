"""What commands put on the screen: results on standard output, words and progress on standard error."""

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from luthier.core.types import JsonObject, JsonValue
    from luthier.recipes.voice import Voice

_PIPE_WIDTH = 160


def show(value: "JsonValue | list[JsonObject] | RenderableType") -> None:
    """Print a result: texts as they are, objects and lists as JSON, everything else as rich draws it."""
    if isinstance(value, str):
        print(value)
    elif isinstance(value, dict | list):
        print(json.dumps(value, indent=1, ensure_ascii=False))
    else:
        from rich.console import Console

        # A pipe has no width of its own: rich would assume 80 columns and cut the table.
        Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(value)


def voice() -> "Voice":
    """Return what a recipe speaks with."""
    from luthier.recipes.voice import Voice

    hide_weight_bars()
    return Voice()


def hide_weight_bars() -> None:
    """Leave out transformers' own bars for loading and saving weights; downloads keep theirs."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    enable_progress_bars()
