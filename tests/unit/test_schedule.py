"""The learning rate's course: shapes, ends, warm-up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import resolved

from luthier.train.schedule import learning_rate


def rates(num_steps: int = 100, **changes: object) -> list[float]:
    settings = resolved(**({"warmup": 0.0} | changes))
    return [learning_rate(settings, 1.0, step, num_steps) for step in range(num_steps)]


def test_warm_up_rises_in_a_line_and_never_starts_at_zero():
    course = rates(warmup=0.1, schedule="constant")
    assert course[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert set(course[10:]) == {1.0}


def test_constant_stays():
    assert set(rates(schedule="constant")) == {1.0}


def test_linear_falls_in_a_line():
    course = rates(schedule="linear")
    assert course[0] == 1.0
    assert course[50] == pytest.approx(0.5)
    assert course[-1] == pytest.approx(0.01)


def test_cosine_falls_slowly_then_fast_then_slowly():
    course = rates(schedule="cosine")
    assert course[0] == 1.0
    assert course[50] == pytest.approx(0.5)
    assert course[25] == pytest.approx(0.8536, abs=1e-4)
    assert course[-1] < 0.001


def test_wsd_holds_then_falls_to_zero_in_its_last_part():
    course = rates(schedule="wsd", warmup=0.1, decay=0.2)
    assert set(course[10:80]) == {1.0}
    assert course[90] == pytest.approx(0.5)
    assert course[-1] == pytest.approx(0.05)
    longer = rates(schedule="wsd", decay=0.5)
    assert longer[75] == pytest.approx(0.5)
    assert rates(schedule="wsd", decay=0.0)[-1] == 1.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_final_lr_is_where_the_course_ends(schedule):
    course = rates(1000, schedule=schedule, final_lr=0.25)
    assert course[-1] == pytest.approx(0.25, abs=0.01)
    assert min(course) >= 0.25


@given(
    schedule=st.sampled_from(["cosine", "linear", "constant", "wsd"]),
    num_steps=st.integers(1, 60),
    warmup=st.floats(0, 1),
    decay=st.floats(0, 1),
    final_lr=st.floats(0, 1),
)
def test_every_rate_is_positive_and_at_most_the_highest(schedule, num_steps, warmup, decay, final_lr):
    course = rates(num_steps, schedule=schedule, warmup=warmup, decay=decay, final_lr=final_lr)
    assert all(0 < rate <= 1 for rate in course)
    peak = course.index(max(course))
    assert course[peak:] == sorted(course[peak:], reverse=True)
