"""How many rows would decide? What an undecided comparison says instead of guessing.

If the true difference is as seen, and at least the margin, it is called better or worse on this many rows with a power
of 80 %; if it is smaller than the margin, the arms are proven equivalent with the same power. Rows are counted as they
come here, with as many to a cluster.
"""

import math
from typing import Literal, NamedTuple, cast

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from luthier.verdict.bootstrap import TAIL

POWER = 0.8
_ERROR = -float(ndtri(TAIL))
Aim = Literal["a difference", "equivalence"]


class Rows(NamedTuple):
    """How many test rows there should be in all, and what they would show."""

    total: int
    aim: Aim


def rows_to_decide(
    value: float, standard_error: float, num_rows: int, num_clusters: int, margin: float, compared: int = 1
) -> Rows | None:
    """Return the rows that decide with a power of 80 % if the true difference is as seen, or None where no number does.

    `standard_error` is that of the difference `value` on `num_rows` rows, and `compared` how many differences are corrected
    together: one of them has to stand out as the first does under Holm's method. None is for a difference of just the margin,
    which is neither, and for no difference under a margin of 0.
    """
    size = abs(value)
    aim: Aim = "a difference" if size >= margin and size > 0 else "equivalence"
    if aim == "equivalence" and margin - size <= 1e-9:
        return None
    if standard_error == 0:
        unseen = size / (1 + size) if aim == "a difference" else (margin - size) / (1 - size)
        total = _rows_to_bound(unseen, num_rows / num_clusters)
    else:
        precision = (
            _error_and_power(compared) / size if aim == "a difference" else _precision_for_equivalence(size, margin)
        )
        total = math.ceil(num_rows * (precision * standard_error) ** 2)
    return Rows(max(num_rows + 1, total), aim)


def _error_and_power(compared: int) -> float:
    """Return how many standard errors a difference has to be to be told in 80 % of cases, beside so many others."""
    return float(ndtri(POWER)) - float(ndtri(TAIL / compared))


def _precision_for_equivalence(size: float, margin: float) -> float:
    """Return one over the standard error at which both bounds of the interval stay within the margin in 80 % of cases."""

    def power(precision: float) -> float:
        above, below = ndtr(precision * (margin - size) - _ERROR), ndtr(precision * (margin + size) - _ERROR)
        return float(above + below - 1 - POWER)

    return cast(float, brentq(power, _ERROR / (margin + size), 2 * _error_and_power(1) / (margin - size)))


def _rows_to_bound(unseen: float, rows_of_cluster: float) -> int:
    """Return the rows after which no more than a share of `unseen` can have been missed, where no row is unlike the others."""
    clusters = math.ceil(math.log(TAIL) / math.log1p(-unseen)) + 1 if unseen < 1 else 1
    return math.ceil(clusters * rows_of_cluster)
