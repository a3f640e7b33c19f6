"""General rows take their share of every step, and nothing changes where none is wanted."""

import numpy as np
import pytest

from luthier.core.types import Rendered
from luthier.data.loader import SequenceStore, steps_of_epoch
from luthier.data.replay import mixed_steps

RNG = np.random.default_rng(0)
OWN, REPLAYED = ([int(length) for length in RNG.integers(5, 60, count)] for count in (200, 30))


def sequences(lengths: list[int], name: str) -> list[Rendered]:
    return [
        Rendered(f"{name}-{place}", np.zeros(length, dtype=np.int32), np.ones(length, dtype=np.float32))
        for place, length in enumerate(lengths)
    ]


STORE = SequenceStore(sequences(OWN, "own"), sequences(REPLAYED, "general"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_every_step_keeps_its_size_and_gives_the_share_to_general_rows(share: float):
    steps = mixed_steps(STORE, 1000, 0, 0, share=share)
    general = [int(STORE.lengths[step[step >= STORE.num_own]].sum()) for step in steps]
    whole = [int(STORE.lengths[step].sum()) for step in steps]
    assert sum(general) / sum(whole) == pytest.approx(share, abs=0.02)
    wanted = [(all_of - part) * share / (1 - share) for part, all_of in zip(general, whole, strict=True)]
    assert all(abs(part - fair) < 60 for part, fair in zip(general, wanted, strict=True)), "in each step, to a row"
    assert np.mean(whole[:-1]) == pytest.approx(1000, abs=60)


def test_an_epoch_sees_every_row_of_the_task_once_and_general_rows_in_rounds():
    steps = np.concatenate(mixed_steps(STORE, 1000, 0, 0, share=0.5))
    own, general = steps[steps < STORE.num_own], steps[steps >= STORE.num_own]
    assert sorted(own.tolist()) == list(range(200))
    times = np.bincount(general - STORE.num_own, minlength=30)
    assert times.max() - times.min() <= 1 and times.min() > 1


def test_steps_repeat_and_another_epoch_or_seed_gives_others():
    def flat(seed: int, epoch: int) -> list[int]:
        return np.concatenate(mixed_steps(STORE, 1000, seed, epoch, share=0.3)).tolist()

    assert flat(0, 0) == flat(0, 0)
    assert len({tuple(flat(*one)) for one in ((0, 0), (0, 1), (1, 0))}) == 3


def test_without_a_share_steps_are_what_they_were():
    alone = SequenceStore(sequences(OWN, "own"))
    for layout in ("padded", "tree"):
        mixed = mixed_steps(alone, 1000, 3, 1, share=0.0, layout=layout)
        plain = steps_of_epoch(alone.lengths, 1000, 3, 1, alone.kin_in(layout))
        assert [step.tolist() for step in mixed] == [step.tolist() for step in plain]
