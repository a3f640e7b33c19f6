"""Figures are written in their own unit: only shares are percent."""

import pytest

from luthier.verdict.figures import metric


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("accuracy", 0.875, "87.5 %"),
        ("chrf", 41.26, "41.3"),
        ("bytes", 4682, "4,682"),
        ("bits_per_byte", 3.2612, "3.261"),
    ],
)
def test_a_metric_is_written_in_its_own_unit(name: str, value: float, written: str):
    assert metric(name, value) == written
