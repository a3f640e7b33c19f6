"""The report: one HTML file that opens with the answer in a sentence and then shows what it rests on.

It holds everything it needs (style, drawings, examples), fetches nothing and runs no script, so it can
be mailed, printed and opened years later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from luthier.core.hashing import text_hash
from luthier.core.rundir import write_atomically
from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.answers import AnswerRow
from luthier.verdict.calibration_page import calibration_section
from luthier.verdict.closer_page import memory_and_distance, weak_spots
from luthier.verdict.conclude import arm_name, best_rival
from luthier.verdict.confusion_picture import confusion_picture
from luthier.verdict.cost_page import what_it_cost
from luthier.verdict.curves import axis_ends, axis_scale, dot_interval, loss_curves, loss_points
from luthier.verdict.figures import (
    Scale,
    agreement_words,
    also_scores,
    ends,
    key_metrics,
    metric,
    metric_name,
    number,
    objects,
    scale_of,
)
from luthier.verdict.forgotten import forgetting_words
from luthier.verdict.held_page import held_section
from luthier.verdict.marked import marked
from luthier.verdict.page import Line, clipped, folded, page, paragraph, preformatted, section, table, typeset
from luthier.verdict.tested import tested_words
from luthier.verdict.why_page import why

_EXAMPLES = 10
_OPEN_EXAMPLES = 4
_LONGEST_TEXT = 700
_LONGEST_LABEL = 80
_OPEN_LINES = 15
_CONFUSIONS = 10
_FATES = ("train", "validation", "test", "truncated", "replay", "dropped")


@dataclass(frozen=True)
class ReportInputs:
    """What the report shows beyond `verdict.json`.

    `answers` are the rows of each arm in one order, `metrics` the lines of metrics.jsonl, `settings` the
    resolved YAML, `notes` a sentence on what an arm is. `on_training` holds the score, interval and number
    of rows of the tuned model on training rows.
    """

    answers: Mapping[str, Sequence[AnswerRow]] = field(default_factory=dict)
    metrics: Sequence[JsonObject] = ()
    settings: str = ""
    model: str = ""
    grader_reason: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    on_training: JsonObject | None = None


def write_report(path: Path, verdict: JsonObject, extra: ReportInputs) -> None:
    """Write the report of a finished run; the file appears whole or not at all."""
    scale = scale_of(str(verdict["grader"]), bool(verdict.get("lower_is_better")))
    arms = objects(verdict["arms"])
    rival = best_rival(arms, scale)
    body = (
        _opening(verdict, extra)
        + _arms(verdict, arms, scale, extra)
        + why(verdict, scale)
        + _data(objects(verdict["data"]))
        + _learning(verdict, arms, scale, extra)
        + _details(arms, rival, extra)
        + weak_spots(verdict.get("slices"), rival, scale)
        + calibration_section(verdict.get("calibration"))
        + held_section(verdict.get("constraint"), scale)
        + _examples(rival, extra)
        + what_it_cost(verdict, arms)
        + section("Settings", folded("Every resolved setting, as YAML", preformatted(extra.settings)))
        + '<footer class="faint">Written by Luthier. Every answer of every arm lies beside this file in '
        "<code>answers/</code>, every figure in <code>verdict.json</code>.</footer>"
    )
    write_atomically(path, page(f"Luthier: {verdict['run']}", body).encode())


def _opening(verdict: JsonObject, extra: ReportInputs) -> str:
    facts = [str(verdict["run"]), extra.model, str(verdict["outcome"])]
    line = paragraph(" \u00b7 ".join(fact for fact in facts if fact), "run")
    answer, stop, caution = str(verdict["because"]).partition(". ")
    rest = paragraph(caution) if caution else ""
    return f"<header>{line}\n<h1>{typeset(answer + stop.rstrip())}</h1>{rest}</header>\n"


def _arms(verdict: JsonObject, arms: JsonObject, scale: Scale, extra: ReportInputs) -> str:
    if not arms:
        return ""
    words = f"{tested_words(verdict)} The bar is the 95 % interval of the {scale.name}"
    better = "; lower is better." if scale.lower_is_better else "."
    reason = f" Graded with {verdict['grader']}: {extra.grader_reason}" if extra.grader_reason else ""
    return section(
        "What each arm reached", paragraph(words + better + reason), _dots(arms, scale), _metrics(arms, extra),
        _differences(verdict["differences"], scale),
    )  # fmt: skip


def _dots(arms: JsonObject, scale: Scale) -> str:
    axis = axis_ends([ends(arm) for arm in arms.values()])
    lines = [_dot_line(name, arm, axis, scale) for name, arm in arms.items()]
    foot = axis_scale(axis, scale.score)
    lines.append(
        '<div class="arm foot"><span class="name"></span>'
        f'<span class="drawing">{foot}</span><span class="figure"></span></div>'
    )
    return f'<div class="arms">{"".join(lines)}</div>'


def _dot_line(name: str, arm: JsonValue, axis: tuple[float, float], scale: Scale) -> str:
    ours = name == "tuned"
    drawing = dot_interval(number(arm, "score"), ends(arm), axis, accent=ours)
    figures = f"<b>{scale.score(number(arm, 'score'))}</b><span>{scale.interval(ends(arm))}</span>"
    return (
        f'<div class="arm{" ours" if ours else ""}"><span class="name">{escape(arm_name(name))}</span>'
        f'<span class="drawing">{drawing}</span><span class="figure">{figures}</span></div>'
    )


def _metrics(arms: JsonObject, extra: ReportInputs) -> str:
    of_arms = {name: key_metrics(objects(objects(arm)["metrics"])) | also_scores(arm) for name, arm in arms.items()}
    names = list(dict.fromkeys(metric for metrics in of_arms.values() for metric in metrics))
    lines = [
        Line(
            [arm_name(arm), *(metric(name, metrics[name]) if name in metrics else "" for name in names)],
            ours=arm == "tuned",
        )
        for arm, metrics in of_arms.items()
    ]
    notes = [paragraph(f"The {arm_name(arm)}: {note}", "faint") for arm, note in extra.notes.items()]
    agreements = dict.fromkeys(agreement_words(objects(objects(arm)["metrics"])) for arm in arms.values())
    notes += [paragraph(words, "faint") for words in agreements]
    return (table(["arm", *map(metric_name, names)], lines) if names else "") + "".join(notes)


def _differences(differences: JsonValue, scale: Scale) -> str:
    assert isinstance(differences, list)
    lines = [
        Line([
            f"{arm_name(str(objects(entry)['a']))} less {arm_name(str(objects(entry)['b']))}",
            str(objects(entry)["outcome"]),
            scale.gap(number(entry, "value")),
            scale.gap_interval(ends(entry)),
        ])
        for entry in differences
    ]  # fmt: skip
    return table(["question by question", "outcome", "difference", "95 % interval"], lines, words=2)


def _examples(rival: str | None, extra: ReportInputs) -> str:
    if rival is None or not {"tuned", rival} <= set(extra.answers):
        return ""
    pairs = list(zip(extra.answers["tuned"], extra.answers[rival], strict=True))
    assert all(ours.id == theirs.id for ours, theirs in pairs), "answers of two arms must be in one order"
    pairs.sort(key=_widest_gap_first)
    won = [pair for pair in pairs if pair[0].score > pair[1].score]
    lost = [pair for pair in pairs if pair[0].score < pair[1].score]
    name = arm_name(rival)
    even = len(pairs) - len(won) - len(lost)
    counts = f"Against the {name} the tuned model won {len(won):,} rows, lost {len(lost):,} and was even on {even:,}."
    return section(
        "Won and lost", paragraph(f"{counts} Underlined is what differs from the wanted answer, struck out what is missing from it."),
        _cards(f"Won: {min(_EXAMPLES, len(won))} of {len(won):,}, the widest gaps first", won, name),
        _cards(f"Lost: {min(_EXAMPLES, len(lost))} of {len(lost):,}, the widest gaps first", lost, name),
    )  # fmt: skip


def _widest_gap_first(pair: tuple[AnswerRow, AnswerRow]) -> tuple[float, str]:
    # Files are often sorted by label: ties in the order of a hash show more than one kind of row.
    ours, theirs = pair
    return -abs(ours.score - theirs.score), text_hash(ours.id)


def _cards(heading: str, pairs: Sequence[tuple[AnswerRow, AnswerRow]], rival: str) -> str:
    if not pairs:
        return ""
    cards = [_card(ours, theirs, rival) for ours, theirs in pairs[:_EXAMPLES]]
    rest = folded(f"{len(cards) - _OPEN_EXAMPLES} more", "".join(cards[_OPEN_EXAMPLES:]))
    return f"<h3>{escape(heading)}</h3>{''.join(cards[:_OPEN_EXAMPLES])}{rest}"


def _card(ours: AnswerRow, theirs: AnswerRow, rival: str) -> str:
    wanted = clipped(ours.answer, _LONGEST_TEXT)
    asked = {"question": escape(clipped(ours.question, _LONGEST_TEXT)), "wanted": escape(wanted)}
    beside = {
        name: marked(clipped(row.completion, _LONGEST_TEXT), wanted)
        for name, row in (("tuned model", ours), (rival, theirs))
    }
    return (
        f'<div class="example"><dl>{_terms(asked)}</dl><dl class="beside">{_terms(beside)}</dl>'
        f'<p class="faint">{escape(f"{ours.file}:{ours.line}")}</p></div>'
    )


def _terms(shown: Mapping[str, str]) -> str:
    return "".join(
        f"<div><dt{' class=ours' if name == 'tuned model' else ''}>{escape(name)}</dt>"
        f"<dd>{text or '<span class=faint>nothing</span>'}</dd></div>"
        for name, text in shown.items()
    )


def _details(arms: JsonObject, rival: str | None, extra: ReportInputs) -> str:
    """The fields or labels of the tuned arm, worst first, with the best other arm beside it."""
    ours = objects(objects(arms.get("tuned")).get("metrics"))
    theirs = objects(objects(arms.get(rival or "")).get("metrics"))
    kind = "fields" if ours.get("fields") else "labels"
    found = objects(ours.get(kind))
    beside = objects(theirs.get(kind))
    lines = [
        Line([
            clipped(name, _LONGEST_LABEL),
            *(f"{100 * number(figures, part):.1f} %" for part in ("precision", "recall", "f1")),
            f"{100 * number(beside[name], 'f1'):.1f} %" if name in beside else "",
            f"{number(figures, 'support'):,.0f}",
        ])
        for name, figures in sorted(found.items(), key=lambda item: (number(item[1], "f1"), -number(item[1], "support")))
    ]  # fmt: skip
    other = f"F1 of {arm_name(rival)}" if rival else "F1 of others"
    headings = [kind.removesuffix("s"), "precision", "recall", "F1", other, "wanted"]
    rest = folded(f"{len(lines) - _OPEN_LINES:,} more", table(headings, lines[_OPEN_LINES:]))
    title = "Field by field, worst first" if kind == "fields" else "Label by label, worst first"
    return section(
        title, table(headings, lines[:_OPEN_LINES]), rest, confusion_picture(extra.answers.get("tuned", ())),
        _confusions(ours.get("confusions")),
    )  # fmt: skip


def _confusions(found: JsonValue) -> str:
    lines = [
        Line([
            clipped(str(objects(entry)["wanted"]), _LONGEST_LABEL),
            clipped(str(objects(entry)["predicted"]), _LONGEST_LABEL) or "nothing",
            f"{number(entry, 'times'):,.0f}",
        ])
        for entry in (found[:_CONFUSIONS] if isinstance(found, list) else [])
    ]  # fmt: skip
    shown = table(["wanted", "the tuned model said", "times"], lines, words=2)
    return f"<h3>Most often confused</h3>{shown}" if shown else ""


def _data(data: JsonObject) -> str:
    dropped = objects(data["dropped"])
    counts = {fate: int(number(data, fate)) for fate in _FATES if fate != "dropped" and fate in data}
    counts["dropped"] = sum(int(number(dropped, rule)) for rule in dropped)
    total = max(1, int(number(data, "read")))
    bars = "".join(f'<i class="fate-{fate}" style="flex-grow:{count}"></i>' for fate, count in counts.items() if count)
    lines = "".join(
        f'<tr><td><i class="swatch fate-{fate}"></i>{fate}</td><td class="n">{count:,}</td>'
        f'<td class="n">{100 * count / total:.1f}\u00a0%</td></tr>'
        for fate, count in counts.items()
    )
    rules = sorted(dropped, key=lambda rule: -number(dropped, rule))
    reasons = [Line([rule, f"{number(dropped, rule):,.0f}"]) for rule in rules]
    return section(
        "Where the rows went", paragraph(f"{total:,} rows were read, and each is accounted for."),
        f'<div class="bar" aria-hidden="true">{bars}</div>',
        f'<div class="scroll"><table><tbody>{lines}</tbody></table></div>',
        table(["dropped because", "rows"], reasons),
    )  # fmt: skip


def _learning(verdict: JsonObject, arms: JsonObject, scale: Scale, extra: ReportInputs) -> str:
    curves = loss_curves(loss_points(extra.metrics, "loss"), loss_points(extra.metrics, "validation_loss"))
    key = '<p class="faint"><span class="key">training</span><span class="key accent">validation</span>loss by step</p>'
    closer = memory_and_distance(verdict.get("overfit"), scale)
    return section(
        "How it learned",
        curves and curves + key,
        _train_test_gap(arms, scale, extra.on_training),
        closer,
        forgetting_words(verdict.get("forgetting")),
    )


def _train_test_gap(arms: JsonObject, scale: Scale, on_training: JsonObject | None) -> str:
    if on_training is None or "tuned" not in arms:
        return ""
    seen, unseen = number(on_training, "score"), number(arms["tuned"], "score")
    return paragraph(
        f"On {number(on_training, 'rows'):,.0f} rows that it was trained on the tuned model reaches {scale.score(seen)} "
        f"({scale.interval(ends(on_training))}), on the test rows {scale.score(unseen)}: a gap of {scale.gap(seen - unseen)}."
    )
