"""One label written in several ways: case, separators and slips of the keys; white space is for `characters`.

The right spelling is the one that most rows use; where a label stands in one spelling only, the others tell the
house's style. A rare label one key away from another is taken for a slip.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from luthier.data.answers_kind import Labels, spelling_key, with_answer_value
from luthier.data.deviations import Deviation
from luthier.data.gathered import shown

_HOUSE_SHARE = 0.9
_FEWEST_LABELS = 5
_MOST_LABELS = 3_000
_SHORTEST_SLIP = 6
_RARE = 0.02
_COMMON_ROWS = 20
_WORD = re.compile(r"[^\W_]+")


class Style(NamedTuple):
    """How labels are written: what stands between words, and their case."""

    separator: str
    case: str


def spelling_deviations(labels: Labels, path: str = "") -> Iterator[Deviation]:
    """Yield the spellings to change, one deviation for each; `path` names the field of JSON answers."""
    counts = _stripped_counts(labels)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text in counts:
        groups[spelling_key(text)].append(text)
    house = house_style(counts)
    right = {key: max(texts, key=lambda text: (counts[text], _follows(text, house))) for key, texts in groups.items()}
    for key, texts in groups.items():
        for text in texts:
            if text != right[key]:
                yield _deviation("label-spelling", labels, path, text, right[key], 0.9)
    total = {right[key]: sum(counts[text] for text in texts) for key, texts in groups.items()}
    slips = _slips(total)
    for text, intended in slips.items():
        yield _deviation("label-slip", labels, path, text, intended, 0.7)
    mean = sum(total.values()) / max(1, len(total))
    for text, count in total.items():
        if house is not None and text not in slips and not _follows(text, house):
            yield _deviation("label-style", labels, path, text, restyled(text, house), 0.6, rare=count < mean)


def house_style(counts: Mapping[str, int]) -> Style | None:
    """Return the style that the labels of nine in ten rows follow, or None where there is none."""
    separators: Counter[str] = Counter()
    cases: Counter[str] = Counter()
    for text, count in counts.items():
        if (style := _style(text)) is not None:
            cases[style.case] += count
            separators.update({style.separator: count} if style.separator else {})
    if len(counts) < _FEWEST_LABELS or not cases:
        return None
    separator = separators.most_common(1)[0][0] if separators else ""
    house = Style(separator, cases.most_common(1)[0][0])
    followed = sum(count for text, count in counts.items() if _follows(text, house))
    return house if followed >= _HOUSE_SHARE * sum(counts.values()) else None


def restyled(text: str, house: Style) -> str:
    """Return a label in the house's style; marks other than separators stay."""
    words = re.split(r"[\s_\-]+", text.strip(" _-"))
    return (house.separator or " ").join(_CASES[house.case](word) for word in words)


def _stripped_counts(labels: Labels) -> Counter[str]:
    counts: Counter[str] = Counter()
    for code, count in enumerate(labels.spelling_counts()):
        if text := labels.spellings[code].strip():
            counts[text] += count
    return counts


def _style(text: str) -> Style | None:
    words = re.findall(r"[^\W\d_]+", text)
    if not words:
        return None
    separators = {mark for mark in "_- " if mark in text}
    separator = separators.pop() if len(separators) == 1 else "mixed" if separators else ""
    return Style(
        separator, next((name for name, cased in _CASES.items() if all(cased(one) == one for one in words)), "")
    )


_CASES: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "title": str.capitalize, "": str}


def _follows(text: str, house: Style | None) -> bool:
    style = _style(text)
    if house is None or style is None:
        return True
    return style.separator in ("", house.separator) and (style.case == house.case or not house.case)


def _deviation(
    kind: str, labels: Labels, path: str, text: str, right: str, confidence: float, rare: bool = True
) -> Deviation:
    codes = {code for code, spelled in enumerate(labels.spellings) if spelled.strip() == text}
    of_field = f" in {path!r}" if path else ""
    return Deviation(
        kind=kind,
        severity="warning" if rare else "info",
        confidence=confidence,
        positions=[position for position, code in zip(labels.positions, labels.codes) if code in codes],
        says=f"{_verb(kind)} {shown(text)}{of_field} {_AGAINST[kind]} {shown(right)}",
        fix=f"Write {shown(right)}, if that is the same.",
        mend=(lambda content: with_answer_value(content, path, right)) if rare else None,
    )


_AGAINST = {
    "label-spelling": "where most rows of this label say",
    "label-slip": "one key away from",
    "label-style": "while the other labels are written like",
}


def _verb(kind: str) -> str:
    return "with a probable slip in" if kind == "label-slip" else "saying"


def _slips(total: dict[str, int]) -> dict[str, str]:
    """Return rare labels with the label meant, for those that one slip of the keys tells apart."""
    if len(total) > _MOST_LABELS:
        return {}
    rows_with_word: Counter[str] = Counter()
    for text, count in total.items():
        rows_with_word.update(dict.fromkeys(set(_WORD.findall(text)), count))
    slips: dict[str, str] = {}
    for one, other in _close_pairs(list(total)):
        rare, common = sorted((one, other), key=lambda text: (total[text], _familiar(text, total, rows_with_word)))
        tied = total[one] == total[other] and _familiar(rare, total, rows_with_word) == _familiar(
            common, total, rows_with_word
        )
        if not tied and _is_slip(rare, common, total):
            slips[rare] = common
    return slips


def _familiar(text: str, total: dict[str, int], rows_with_word: Counter[str]) -> int:
    """Return how many rows of other labels have the least common word of a label."""
    return min((rows_with_word[word] - total[text] for word in _WORD.findall(text)), default=0)


def _is_slip(rare: str, common: str, total: dict[str, int]) -> bool:
    if any(map(str.isdigit, rare)) or any(map(str.isdigit, common)):
        return False
    if _swapped(rare, common):
        return total[rare] <= max(1, 0.2 * total[common])
    few = total[common] >= _COMMON_ROWS and total[rare] <= _RARE * total[common]
    return few and min(len(rare), len(common)) >= _SHORTEST_SLIP


def _swapped(one: str, other: str) -> bool:
    """Tell whether two neighbouring letters changed places."""
    if len(one) != len(other):
        return False
    differ = [place for place, (left, right) in enumerate(zip(one, other)) if left != right]
    return len(differ) == 2 and differ[1] == differ[0] + 1 and sorted(one) == sorted(other)


def _close_pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs one letter added, lost, changed or swapped apart: those that agree once a letter of each is cut."""
    shared: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        for place in range(len(text) + 1):
            shared[text[:place] + text[place + 1 :]].add(text)
    found = {pair for group in shared.values() for pair in combinations(sorted(group), 2)}
    yield from sorted(pair for pair in found if _one_slip(*pair))


def _one_slip(one: str, other: str) -> bool:
    if len(one) == len(other):
        return _swapped(one, other) or sum(left != right for left, right in zip(one, other)) == 1
    return abs(len(one) - len(other)) == 1
