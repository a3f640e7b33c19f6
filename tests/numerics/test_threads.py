"""The thread budget that a parent gives its child is the one that torch sees there, and its threads do not spin."""

import os
import subprocess
import sys

import pytest

from luthier.core.threads import child_environment

SEEN = "import os, torch; print(torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'], os.environ['TOKENIZERS_PARALLELISM'])"
# One parallel product wakes the worker; what the process then burns while it sleeps, the waiting worker burns.
SPIN = """
import os, time, torch
left = torch.randn(512, 512)
burnt = 0.0
for _ in range(10):
    left @ left
    begun = os.times()
    time.sleep(0.02)
    ended = os.times()
    burnt += ended.user + ended.system - begun.user - begun.system
print(burnt)
"""


def output(program: str, environment: dict[str, str]) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_child_has_the_budget_and_the_policy(num_threads):
    spoiled = {**os.environ, "OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    assert output(SEEN, child_environment(num_threads, spoiled)) == [str(num_threads), "passive", "false"]


def test_the_parents_own_environment_stays_and_other_variables_travel():
    before = dict(os.environ)
    environment = child_environment(1, {"HOME": "/somewhere"})
    assert environment["HOME"] == "/somewhere"
    assert dict(os.environ) == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a spinning thread needs a second core")
def test_idle_threads_do_not_burn_the_core_of_another_process():
    """Two hundred milliseconds of sleep between parallel products: an active wait burns a good part of them."""
    passive = float(output(SPIN, child_environment(2))[0])
    active = float(output(SPIN, {**child_environment(2), "OMP_WAIT_POLICY": "active"})[0])
    assert passive <= 0.05
    assert active > passive
