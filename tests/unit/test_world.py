"""Which carriers processes of a training get, and which GPU each takes."""

import pytest
import torch

from luthier.core.errors import SettingsError
from luthier.train import world


def with_gpus(monkeypatch: pytest.MonkeyPatch, number: int, **environment: str) -> list[int]:
    """Let torch find so many GPUs; return where it is told which to take."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return taken


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch):
    taken = with_gpus(monkeypatch, 4, LOCAL_RANK="2", LOCAL_WORLD_SIZE="4")
    assert world._backends() == "cpu:gloo,cuda:nccl" and taken == [2]


def test_a_process_without_a_gpu_is_refused_and_told_what_to_do(monkeypatch: pytest.MonkeyPatch):
    taken = with_gpus(monkeypatch, 1, LOCAL_RANK="0", LOCAL_WORLD_SIZE="2")
    with pytest.raises(SettingsError, match=r"2 processes on this machine, which has 1 GPU.*CUDA_VISIBLE_DEVICES=''"):
        world._backends()
    assert not taken


def test_without_gpus_all_is_gloo(monkeypatch: pytest.MonkeyPatch):
    with_gpus(monkeypatch, 0)
    assert world._backends() == "cpu:gloo"
