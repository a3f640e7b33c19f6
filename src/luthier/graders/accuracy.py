"""Labels: is the answer the wanted one of a fixed set?

Labels are compared after `normalized`. Macro-F1 is scikit-learn's `f1_score(average="macro")`
over the labels that are wanted or predicted anywhere, so that an invented label costs a class.
"""

from collections import Counter
from collections.abc import Sequence

from luthier.core.counts import Counts
from luthier.core.types import Grade, JsonValue
from luthier.graders.exact import normalized

_MOST_CONFUSIONS = 20


class Grader:
    """1 if the answer is the wanted label, else 0."""

    meaning = "accuracy: share of answers that are the wanted label"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one predicted label against the wanted one."""
        predicted, wanted = normalized(completion), normalized(answer)
        return Grade(float(predicted == wanted), {"predicted": predicted, "wanted": wanted})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return accuracy, macro-F1, the share of answers that are no label, figures per label, and confusions."""
        pairs = Counter((str(grade.marks["wanted"]), str(grade.marks["predicted"])) for grade in grades)
        counts = _label_counts(pairs)
        labels = {wanted for wanted, _ in pairs}
        unknown = sum(times for (_, predicted), times in pairs.items() if predicted not in labels)
        return {
            "accuracy": sum(grade.score for grade in grades) / len(grades),
            "macro_f1": sum(label.f1 for label in counts.values()) / len(counts),
            "unknown_labels": unknown / len(grades),
            "labels": {label: counts[label].as_metrics() for label in sorted(labels)},
            "confusions": _confusions(pairs),
        }


def _label_counts(pairs: Counter[tuple[str, str]]) -> dict[str, Counts]:
    counts: dict[str, Counts] = {}
    for (wanted, predicted), times in pairs.items():
        hits = times if wanted == predicted else 0
        counts[wanted] = counts.get(wanted, Counts()).plus(Counts(hits, 0, times))
        counts[predicted] = counts.get(predicted, Counts()).plus(Counts(0, times, 0))
    return counts


def _confusions(pairs: Counter[tuple[str, str]]) -> list[JsonValue]:
    wrong = [(times, wanted, predicted) for (wanted, predicted), times in pairs.items() if wanted != predicted]
    wrong.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [
        {"wanted": wanted, "predicted": predicted, "times": times}
        for times, wanted, predicted in wrong[:_MOST_CONFUSIONS]
    ]
