"""The licence of a base model, as the model's own card states it."""

import yaml

from luthier.models.load import ModelFolder


def license_of(folder: ModelFolder) -> str | None:
    """Return the licence in the front matter of the model's card; None where there is no card, or it states none."""
    card = folder.path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---\n"):
        return None
    try:
        front = yaml.safe_load(text.removeprefix("---\n").partition("\n---")[0])
    except yaml.YAMLError:
        return None
    stated = front.get("license") if isinstance(front, dict) else None
    return None if stated is None else str(stated)
