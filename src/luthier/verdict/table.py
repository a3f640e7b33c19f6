"""The verdict as a table on the screen."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import (
    ARM_NAMES,
    Scale,
    also_scores,
    duration,
    ends,
    key_metrics,
    metric,
    metric_name,
    number,
    objects,
    scale_of,
)

_MOST_METRICS = 4
_ONLY_IN_THE_REPORT = {"cut_off", "precision", "recall", "f1", "unknown_labels", "exact_normalized"}


def terminal_table(verdict: JsonObject) -> Table:
    """Return the arms, then their differences, then the sentence and what to do next, as one table."""
    scale = scale_of(str(verdict["grader"]), bool(verdict.get("lower_is_better")))
    arms = objects(verdict["arms"])
    metrics = _shown_metrics(arms)
    said = "\n".join(str(verdict[key]) for key in ("because", "next") if key in verdict)
    table = Table(caption=Text(said), caption_justify="left", caption_style="bold")
    table.add_column("arm", no_wrap=True)
    for heading in (scale.name, "95 % interval", *map(metric_name, metrics), "tokens in", "tokens out", "time"):
        table.add_column(heading, justify="right")
    for name, arm in arms.items():
        table.add_row(*_arm_cells(name, arm, metrics, scale), style="bold" if name == "tuned" else None)
    table.add_section()
    differences = verdict["differences"]
    assert isinstance(differences, list)
    for difference in differences:
        table.add_row(*_difference_cells(objects(difference), scale))
    return table


def _shown_metrics(arms: Mapping[str, JsonValue]) -> list[str]:
    """Choose the metrics that some arm has and that do not repeat the score."""
    chosen: dict[str, None] = {}
    for arm in arms.values():
        for name in also_scores(arm):
            chosen[name] = None
        for name, value in key_metrics(objects(objects(arm)["metrics"])).items():
            if name not in _ONLY_IN_THE_REPORT and value != number(arm, "score"):
                chosen[name] = None
    return list(chosen)[:_MOST_METRICS]


def _arm_cells(name: str, arm: JsonValue, metrics: list[str], scale: Scale) -> list[Text]:
    of_arm = key_metrics(objects(objects(arm)["metrics"])) | also_scores(arm)
    cells = [ARM_NAMES.get(name, name), scale.score(number(arm, "score")), scale.interval(ends(arm))]
    cells += [metric(shown, of_arm[shown]) if shown in of_arm else "" for shown in metrics]
    cells += [f"{number(arm, side):,.0f}" for side in ("tokens_in", "tokens_out")]
    return [Text(cell) for cell in (*cells, duration(number(arm, "seconds")))]


def _difference_cells(difference: JsonObject, scale: Scale) -> list[Text]:
    first, second = (ARM_NAMES.get(str(difference[side]), str(difference[side])) for side in ("a", "b"))
    value, interval = scale.gap(number(difference, "value")), scale.gap_interval(ends(difference))
    return [Text(f"{first} - {second}"), Text(value), Text(interval), Text(str(difference["outcome"]))]
