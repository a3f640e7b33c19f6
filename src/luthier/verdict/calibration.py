"""Does the tuned model know when it is right? Its answers by how sure it was of them, and the share of each group that is right.

How sure it was is the probability that it gave to its whole answer, the end of turn included; among the answers that it may
give where they are held to a form. The error is the mean distance of sureness from truth, weighted by rows (expected calibration
error, Naeini et al. 2015, doi 10.1609/aaai.v29i1.9602; groups of like size instead of like width). An answer is right with a score of 1.
"""

from collections.abc import Sequence

import numpy as np

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.answers import AnswerRow

_MOST_GROUPS = 10
_FEWEST_IN_GROUP = 10
_SHARES = {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75, "all": 1.0}
# Nobody is asked to trust a curve of a few rows.
FEWEST = 30


def calibration(rows: Sequence[AnswerRow]) -> JsonObject | None:
    """Return the groups from least to most sure, the error, and how right the surer halves are; None where it cannot be told.

    It cannot where rows are few, or no answer came with its probability.
    """
    known = [row for row in rows if row.confidence is not None]
    if len(known) < FEWEST or len(known) < len(rows):
        return None
    sure_R = np.array([row.confidence for row in known], dtype=np.float64)
    right_R = np.array([row.score >= 1 for row in known], dtype=np.float64)
    order = np.argsort(sure_R, kind="stable")
    groups = np.array_split(order, min(_MOST_GROUPS, len(known) // _FEWEST_IN_GROUP))
    found: list[JsonValue] = [
        {"rows": len(group), "confidence": float(sure_R[group].mean()), "right": float(right_R[group].mean())}
        for group in groups
    ]
    apart = sum(len(group) * abs(float(sure_R[group].mean() - right_R[group].mean())) for group in groups)
    surest: JsonObject = {
        name: float(right_R[order[len(order) - round(share * len(order)) :]].mean()) for name, share in _SHARES.items()
    }
    return {"rows": len(known), "groups": found, "error": apart / len(known), "right_among_surest": surest}
