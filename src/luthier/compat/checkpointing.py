"""Gradient checkpointing by the name that the installed transformers has for it.

Goes when the package needs a transformers whose every version says `activation_checkpointing_enable`
and a PEFT that no longer asks for `is_gradient_checkpointing`.
"""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

from transformers import PreTrainedModel


def compute_again(model: PreTrainedModel) -> None:
    """Keep no activations inside the layers: the backward pass computes them again."""
    options = {"use_reentrant": False}
    if hasattr(PreTrainedModel, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(options)
    else:
        model.gradient_checkpointing_enable(options)


@contextmanager
def old_name_allowed() -> Generator[None]:
    """Silence transformers' warning that PEFT still asks a model for `is_gradient_checkpointing`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
