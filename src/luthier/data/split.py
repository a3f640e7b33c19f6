"""Split rows into training, validation and test so that nothing leaks and nothing moves.

Rows are dealt one after another, the user's own test and validation rows first, the others in
file order:

* A row touches the kept rows before it that ask the same or nearly the same question or share its group.
* A row that touches none founds a cluster. The cluster's side is a hash of the seed and of the
  founder's group or normalized question, compared with the shares.
* A row whose touched rows lie all on one side joins them there.
* A row whose touched rows lie on different sides is set aside (`bridges-two-sides`), and so is one
  that touches the user's own test or validation rows (`overlaps-test`, `overlaps-validation`).

So a row's part depends on itself and the rows before it alone: appended rows move no old one. What
this costs, and why the founder decides, is told in docs/decisions/0003-split-sides.md.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.config.settings import SplitSettings
from luthier.core.errors import DataError, ProofFailed, SettingsError
from luthier.core.hashing import text_hash
from luthier.core.types import PARTS, JsonObject, Part, Row
from luthier.data.cluster import link
from luthier.data.deal import Deal, Origin, RowKey, Shares, held_share
from luthier.data.minhash import Progress
from luthier.data.normal import answer, normalized, question, text_key

_GIANT_SHARE = 0.9
_GIANT_MIN_ROWS = 10
_DEALT_FIRST: dict[Origin, int] = {"test": 0, "validation": 1, "data": 2}


@dataclass(frozen=True)
class Assignment:
    """Where every row went, in the order of the keys.

    `part` is None for a row that is set aside, `rule` says why, and `touched` is the place of a row that it
    touches on another side. `cluster` is the place of a row of the cluster, -1 for rows set aside.
    `certificate` holds the counts and the proof that no cluster lies on two sides.
    """

    part: list[Part | None]
    rule: list[str | None]
    touched: list[int | None]
    cluster: np.ndarray
    certificate: JsonObject


def row_key(row: Row, origin: Origin = "data") -> RowKey:
    """Return what the split needs to know of a row."""
    return RowKey(row.id, question(row), text_hash(answer(row)), row.group, origin)


def split(
    keys: Sequence[RowKey],
    settings: SplitSettings,
    seed: int,
    has_test: bool,
    has_validation: bool,
    progress: Progress | None = None,
    refuse_hollow: bool = True,
) -> Assignment:
    """Deal the rows into parts; raise DataError where nothing honest can be held out.

    With `has_test` the rows of origin `test` are the test part, whole, and no other row joins it. Likewise
    `has_validation`, but a validation row that overlaps with the user's test rows is set aside. Without `refuse_hollow`
    parts may be empty: to look at data one need not train on it.
    """
    order = sorted(range(len(keys)), key=lambda place: _DEALT_FIRST[keys[place].origin])
    dealt = [keys[place] for place in order]
    shares = _shares(dealt, settings, has_test, has_validation)
    files: dict[Part, bool] = {"test": has_test, "validation": has_validation}
    closed: frozenset[Part] = frozenset(part for part, has_file in files.items() if has_file)
    links = link([key.question for key in dealt], settings.near_duplicate, progress)
    deal = Deal(dealt, links, shares, closed, seed)
    deal.run()
    late_questions = deal.set_aside_crossings(settings.near_duplicate)
    cluster = deal.clusters_N()
    if refuse_hollow:
        _refuse_hollow_parts(deal, cluster, shares)
    certificate: JsonObject = {
        "seed": seed,
        "near_duplicate": settings.near_duplicate,
        "shares": {"test": shares.test, "validation": shares.validation},
        "questions_found_late": late_questions,
        **_counts(deal, cluster),
        "on_two_sides": _on_two_sides(deal, cluster, settings.near_duplicate),
    }
    return _in_order_of_keys(deal, cluster, order, certificate)


def _shares(keys: Sequence[RowKey], settings: SplitSettings, has_test: bool, has_validation: bool) -> Shares:
    num_data = sum(key.origin == "data" for key in keys)
    if not num_data:
        raise DataError("there is no row to train on; give at least one row besides the test and validation files.")
    test = 0.0 if has_test else held_share(settings.test_share, settings.test_rows, num_data)
    validation = 0.0 if has_validation else held_share(settings.validation_share, settings.validation_rows, num_data)
    if test + validation >= 1:
        raise SettingsError(
            f"split.test_share and split.validation_share hold out {test:g} and {validation:g} of the rows, which "
            "leaves nothing to train; their sum must stay below 1."
        )
    return Shares(test, validation)


def _refuse_hollow_parts(deal: Deal, cluster: np.ndarray, shares: Shares) -> None:
    """Raise DataError when a part that was asked for is empty, or one question is nearly all there is."""
    num_data = sum(key.origin == "data" for key in deal.keys)
    sizes = Counter(deal.part)
    if not sizes["train"]:
        raise DataError(
            f"all {num_data} training rows ask what the test or validation file asks too; nothing is left to train. "
            "Give other rows, or leave the file out and let Luthier hold rows out."
        )
    if not shares.test and not shares.validation:
        return
    way_out = "Give more different rows or a test file of your own (--test)."
    if len(deal.links.questions) > 1:
        way_out += " If the questions only look alike for a long common text, set split.near_duplicate to 1."
    if deal.num_founded == 1:
        same = "the same question" if len(deal.links.questions) == 1 else "nearly the same question or shares one group"
        raise DataError(f"every one of the {num_data} rows asks {same}; there is nothing to hold out. {way_out}")
    if shares.test and not sizes["test"]:
        raise DataError(
            f"the {num_data} rows ask only {deal.num_founded} different questions; at least 3 are needed to "
            f"hold a test part out. {way_out}"
        )
    largest = _largest(cluster)
    held_out = (sizes["test"] if shares.test else 0) + (sizes["validation"] if shares.validation else 0)
    crowded = largest > _GIANT_SHARE * num_data
    hollow = held_out > max(0.5, 2 * (shares.test + shares.validation)) * num_data
    if num_data >= _GIANT_MIN_ROWS and (crowded or (hollow and largest > num_data / 4)):
        raise DataError(
            f"{largest} of {num_data} rows ask nearly the same question or share one group, so the parts would be "
            f"{sizes['train']} training, {sizes['validation']} validation and {sizes['test']} test rows. {way_out}"
        )


def _largest(cluster: np.ndarray) -> int:
    return int(np.unique(cluster[cluster >= 0], return_counts=True)[1].max(initial=0))


def _counts(deal: Deal, cluster: np.ndarray) -> JsonObject:
    sizes = Counter(deal.part)
    clusters = {part: {int(c) for c, p in zip(cluster, deal.part) if p == part} for part in PARTS}
    answered = {(asked, key.answer_key) for asked, key in zip(deal.links.asked_N.tolist(), deal.keys)}
    set_aside: JsonObject = dict(sorted(Counter(rule for rule in deal.rule if rule is not None).items()))
    return {
        "rows": {part: sizes[part] for part in PARTS},
        "clusters": {part: len(clusters[part]) for part in PARTS},
        "set_aside": set_aside,
        "largest_cluster": _largest(cluster),
        "exact_duplicates": len(deal.keys) - len(answered),
        "near_duplicate_pairs": len(deal.links.left_P),
    }


def _on_two_sides(deal: Deal, cluster: np.ndarray, threshold: float) -> JsonObject:
    """Count anew, from the finished parts alone, what lies on two sides; raise ProofFailed unless nothing does."""
    kept = [row for row, part in enumerate(deal.part) if part is not None]
    found: JsonObject = {
        "clusters": _spread((int(cluster[row]), deal.part[row]) for row in kept),
        "questions": _spread((text_key(normalized(deal.keys[row].question)), deal.part[row]) for row in kept),
        "groups": _spread((deal.keys[row].group, deal.part[row]) for row in kept if deal.keys[row].group is not None),
        "near_duplicates": sum(1 for _ in deal.crossings(threshold)),
    }
    if any(found.values()):
        raise ProofFailed(
            f"the split leaks: {found} lie on two sides. This is an error in Luthier; nothing was trained."
        )
    return found


def _spread(placed: Iterable[tuple[Hashable, Part | None]]) -> int:
    """Count the keys that stand with more than one part."""
    side: dict[Hashable, Part | None] = {}
    return len({key for key, part in placed if side.setdefault(key, part) != part})


def _in_order_of_keys(deal: Deal, cluster: np.ndarray, order: Sequence[int], certificate: JsonObject) -> Assignment:
    dealt_place = {place: row for row, place in enumerate(order)}
    rows = [dealt_place[place] for place in range(len(order))]
    touched = [deal.touched[row] for row in rows]
    return Assignment(
        part=[deal.part[row] for row in rows],
        rule=[deal.rule[row] for row in rows],
        touched=[None if row is None else order[row] for row in touched],
        cluster=np.array([-1 if cluster[row] < 0 else order[cluster[row]] for row in rows], dtype=np.int64),
        certificate=certificate,
    )
