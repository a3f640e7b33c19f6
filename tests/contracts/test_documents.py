"""Settings and commands are a promise: their list is frozen, and each is described and documented."""

from pathlib import Path

import pytest

from luthier.cli.docs import commands, settings_page, with_checks, with_help, with_models, with_serving
from luthier.config.load import dotted, dump, load, parse
from luthier.config.settings import Settings
from luthier.core.errors import SettingsError

ROOT = Path(__file__).parents[2]
FROZEN = Path(__file__).with_name("settings.txt")
COMMANDS = (
    "check",
    "split",
    "run",
    "train",
    "resume",
    "compare",
    "distill",
    "bases",
    "chat",
    "export",
    "runs",
    "show",
    "doctor",
    "schema",
    "serve",
    "keys",
    "backup",
    "migrate",
    "plan",
)


def test_the_list_of_settings_is_frozen():
    now, then = list(dotted()), FROZEN.read_text(encoding="utf-8").split()
    gone, new = sorted(set(then) - set(now)), sorted(set(now) - set(then))
    assert not gone, (
        f"settings that people have in their files are gone: {gone}. Keep them, or take them out of {FROZEN.name} knowingly."
    )
    assert not new, f"new settings: {new}. Add them to {FROZEN.name}."
    assert now == then, f"the order in {FROZEN.name} is another; it is the order of config.yaml."


@pytest.mark.parametrize("key", list(dotted()))
def test_every_setting_is_described(key: str):
    description = dotted()[key]
    assert len(description) > 10 and description.endswith("."), f"{key}: write a sentence under the field"


def test_a_dumped_tree_is_read_back_as_it_was():
    settings = load(assignments=["train.lr=2e-4", "model.name=x/y", "data.output=[a, b]", "train.betas=[0.8, 0.9]"])
    import yaml

    assert parse(yaml.safe_load(dump(settings))) == settings


def test_an_unknown_setting_gets_the_nearest_name_and_all_problems_come_at_once():
    with pytest.raises(SettingsError) as caught:
        load(assignments=["train.learning_rat=1", "train.epochs=-1", "modle.name=x"])
    message = str(caught.value)
    assert "train.learning_rat: there is no such setting." in message
    assert "modle: there is no such setting. Did you mean 'model'?" in message
    assert "train.epochs: input should be greater than 0" in message


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 2  # type: ignore[misc]


def test_the_commands_are_those_that_were_promised():
    assert set(COMMANDS) <= set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_a_page_with_its_current_help(name: str):
    page = ROOT / "docs" / "commands" / f"{name}.md"
    assert page.exists(), "there is no page; write it with: python -m luthier.cli.docs"
    text = page.read_text(encoding="utf-8")
    assert text == with_help(text, name, commands()[name]), (
        "its help is old; bring it up to date with: python -m luthier.cli.docs"
    )


def test_the_table_of_checks_is_current():
    text = (ROOT / "docs" / "commands" / "check.md").read_text(encoding="utf-8")
    assert text == with_checks(text), "it is old; bring it up to date with: python -m luthier.cli.docs"
    assert "| `duplicates` | unique |" in text


def test_the_table_of_the_servers_settings_is_current():
    text = (ROOT / "docs" / "commands" / "serve.md").read_text(encoding="utf-8")
    assert text == with_serving(text), "it is old; bring it up to date with: python -m luthier.cli.docs"
    assert "| `unfinished_jobs` |" in text


def test_the_table_of_models_is_current():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert text == with_models(text), "it is old; bring it up to date with: python -m luthier.cli.docs"
    assert "| Gemma 4 | `gemma4_text` |" in text


def test_the_reference_of_settings_is_current():
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert text == settings_page(), "bring it up to date with: python -m luthier.cli.docs"
    assert all(f"`{key}`" in text for key, _ in _leaves())


def _leaves() -> list[tuple[str, str]]:
    keys = dotted()
    return [(key, text) for key, text in keys.items() if not any(other.startswith(key + ".") for other in keys)]
