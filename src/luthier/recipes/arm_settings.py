"""The settings of arms: what may still change after a run, and what must be there before anything is asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.config.load import with_values, yaml_value
from luthier.config.settings import CompareSettings, Settings
from luthier.core.endpoint import address
from luthier.core.errors import DataError, SettingsError
from luthier.core.types import JsonObject, JsonValue
from luthier.data.knowledge import read_documents
from luthier.graders.making.spec import graders_named
from luthier.recipes.decode import refuse_contradictions, refuse_unusable_form
from luthier.recipes.prompt_sources import read_prompt
from luthier.verdict.cost import read_prices

# What may change beside `compare`; answers decoded in another way are not kept.
_DECODING = ("generate.constrain", "generate.decode")
# What stands in the questions of a training with passages.
_TRAINED_WITH = {"knowledge", "dense", "added_tokens"}
# What a user gives for certain arms, and those arms; the first of them is added where none is named.
_USED_BY: dict[str, tuple[str, ...]] = {
    "compare.prompts": ("prompt", "endpoint"),
    "compare.knowledge": ("retrieval", "tuned_retrieval", "endpoint"),
    "compare.endpoint.url": ("endpoint",),
}


def changed(settings: Settings, changes: Mapping[str, JsonValue], assignments: Sequence[str] = ()) -> Settings:
    """Return the settings with changes to `compare` and to decoding; raise SettingsError for others, and for what no arm would use."""
    given: JsonObject = {key: value for key, value in changes.items() if value is not None}
    given |= _assigned(assignments)
    wrong = [key for key in given if not key.startswith("compare.") and key not in _DECODING]
    if wrong:
        raise SettingsError(
            f"{wrong[0]}: the run is trained; only settings under compare, and {' and '.join(_DECODING)}, can still change."
        )
    if given.get("compare.folds", settings.compare.folds) != settings.compare.folds:
        raise SettingsError(
            "compare.folds: rows are dealt into folds before anything is trained; start a new run with it."
        )
    _refuse_other_passages(settings, given)
    if "compare.arms" not in given:
        named = list(settings.compare.arms)
        missing = [arms[0] for key, arms in _USED_BY.items() if key in given and not {*arms} & {*named}]
        given["compare.arms"] = [*named, *missing]
    result = with_values(settings, given)
    for key, arms in _USED_BY.items():
        if key in given and not {*arms} & {*result.compare.arms}:
            raise SettingsError(f"{key} is used by {' and '.join(arms)} alone, and compare.arms has none of them.")
    refuse_missing(result.compare)
    refuse_contradictions(result.generate)
    refuse_unusable_form(result.generate)
    return result


def refuse_missing(settings: CompareSettings) -> None:
    """Raise SettingsError or DataError where an arm's address, a file that is named, or a grader is not there or cannot be used."""
    if "endpoint" in settings.arms:
        address(settings.endpoint)
    graders_named([*([settings.grader] if settings.grader else []), *settings.also])
    for name in (*settings.prompts, *([settings.knowledge] if settings.knowledge else [])):
        if not Path(name).exists():
            key = "compare.prompts" if name in settings.prompts else "compare.knowledge"
            raise DataError(f"{key}: there is no file or folder {name}.")
    for name in settings.prompts:
        read_prompt(Path(name))
    if settings.knowledge:
        read_documents(Path(settings.knowledge))
    if settings.price:
        read_prices(Path(settings.price))


def with_its_arm(settings: Settings) -> Settings:
    """Add the arm that asks a model which is trained with passages; raise SettingsError where arms are named without it."""
    compare, arm = settings.compare, "tuned_retrieval"
    if not settings.train.retrieved or arm in compare.arms:
        return settings
    if "arms" in compare.model_fields_set:
        raise SettingsError(
            f"train.retrieved trains a model that the arm {arm} asks with passages, and compare.arms has it not; add it there."
        )
    return with_values(settings, {"compare.arms": [*compare.arms, arm]})


def _refuse_other_passages(settings: Settings, given: JsonObject) -> None:
    """Raise SettingsError where passages would be other ones than those of the training."""
    if not settings.train.retrieved:
        return
    before = settings.compare.model_dump(mode="json", include=_TRAINED_WITH)
    for name, value in before.items():
        if given.get(f"compare.{name}", value) != value:
            raise SettingsError(
                f"compare.{name}: the model is trained with passages that were found with {value!r} (train.retrieved); "
                "start a new run with another."
            )


def _assigned(assignments: Sequence[str]) -> JsonObject:
    values: JsonObject = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: expected section.key=value")
        values[key.strip()] = yaml_value(text, f"--set {key}")
    return values
