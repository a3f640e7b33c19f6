"""What follows the steps of a training, counted and one by one."""

from hypothesis import given
from hypothesis import strategies as st
from tiny_training import resolved

from luthier.train.due import save_due, saves, validation_due, validations


@given(
    steps=st.integers(1, 90), every=st.none() | st.integers(1, 100), after=st.integers(0, 90), upto=st.integers(0, 90)
)
def test_what_is_counted_is_what_is_due_step_by_step(steps, every, after, upto):
    train = resolved(steps=steps, validate_every=every)
    after, upto = min(after, upto, steps), min(max(after, upto), steps)
    due = [step for step in range(after + 1, upto + 1) if validation_due(train, step)]
    saved = [step for step in range(after + 1, upto + 1) if save_due(train, step)]
    assert validations(train, after, upto) == len(due)
    assert saves(train, after, upto) == len({*due, *saved})
