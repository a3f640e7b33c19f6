"""Each dimension of health has a limit of its own, and only that one decides about it."""

import pytest

from luthier.config.settings import CheckLimits
from luthier.core.types import Finding
from luthier.data.checking import DIMENSIONS, Dimension
from luthier.data.health import About, Diagnosis


def diagnosis(dimension: Dimension, limits: CheckLimits) -> Diagnosis:
    """Ten rows, one of which a check of `dimension` warns of."""
    found = Finding("looking", "odd", "warning", 0.9, ("row-1",), "one row is odd", "look at it")
    about = {"looking": About(dimension, "", "")}
    return Diagnosis(10, 0, (found,), about, {}, {}, limits=limits)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_limit_decides_about_its_own_dimension(dimension: Dimension):
    lenient = dict.fromkeys(CheckLimits.model_fields, 0.0)
    strict = dict.fromkeys(CheckLimits.model_fields, 1.0)
    assert diagnosis(dimension, CheckLimits(**lenient | {dimension: 0.91})).crossed == [dimension]
    assert diagnosis(dimension, CheckLimits(**strict | {dimension: 0.90})).crossed == []
