"""Memory that comes and goes in blocks of some MiB is not asked of the system anew every time."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from luthier.generate.engine import evaluating
for threshold in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, which rise by themselves otherwise
    ctypes.CDLL(None).mallopt(threshold, 1 << 20)
if sys.argv[1] == "kept":
    tiny = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=16)
    with evaluating(LlamaForCausalLM(LlamaConfig(**tiny))):
        pass
def blocks():
    for _ in range(50):
        held = [torch.ones(3 << 19) for _ in range(5)]
        del held
blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is the heap of glibc")
def test_blocks_of_some_mib_come_from_memory_that_the_process_has() -> None:
    assert 10 * faults("kept") < faults("given back")
