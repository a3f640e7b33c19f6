"""The proof that a package is the model that was trained.

The training process writes down what it was asked and what its logits were (`capture`). A fresh
process loads the package as anyone would, with plain transformers and peft, renders the same
requests with the package's own tokenizer and template, and computes the logits again (`measure`).
`certify` compares, and withholds the package where it differs.

N is the number of samples, K the number of last positions kept of each, V the size of the vocabulary.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from luthier.core.errors import ProofFailed
from luthier.core.hashing import file_hash
from luthier.core.rundir import write_json
from luthier.core.threads import child_environment
from luthier.core.types import JsonObject
from luthier.models.export import Format

_POSITIONS = 8
_SECONDS = 3600
_TAIL = 2000
_BOUNDS: dict[tuple[Format, torch.dtype], float] = {
    ("adapter", torch.float32): 1e-5,
    ("merged", torch.float32): 5e-5,
    ("adapter", torch.bfloat16): 1e-2,
    ("merged", torch.bfloat16): 5e-2,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as any program would make it, and the tokens that it was rendered to in training.

    `request` has `messages`, `tools` and `options`, the arguments of `apply_chat_template`, or a plain `text`.
    """

    request: JsonObject
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParityReference:
    """What the training process wrote down: `samples.json` and `logits.safetensors` in `folder`.

    `base` is what the tuned model must differ from; None for a model trained from random weights.
    """

    folder: Path
    base: str | None
    revision: str | None
    dtype: str
    device: str


@dataclass(frozen=True, slots=True)
class Measured:
    """How the package's logits compare; differences are the largest, absolute and as a share of the largest logit."""

    tokens_equal: bool
    max_abs_logit_difference: float
    relative_logit_difference: float
    top1_agreement: float
    difference_from_base: float | None


def bound_for(format: Format, dtype: torch.dtype) -> float:
    """Return the largest difference that counts as equal, as a share of the largest logit.

    An adapter runs through the same operations as in training. Merged weights are added up in another order,
    and in bfloat16 they are rounded to 8 bits once more; a bfloat16 model of few tokens can amplify that, so
    weights without an adapter are compared in float32.
    """
    return _BOUNDS[format, dtype]


def capture(
    model: nn.Module, samples: Sequence[Sample], folder: Path, base: str | None, revision: str | None = None
) -> ParityReference:
    """Write the samples and the tuned model's logits to `folder`."""
    assert samples
    folder.mkdir(parents=True, exist_ok=True)
    parameter = next(model.parameters())
    logits = {str(index): _logits(model, sample.tokens) for index, sample in enumerate(samples)}
    save_file(logits, folder / "logits.safetensors")
    items: list[JsonObject] = [{"request": sample.request, "tokens": list(sample.tokens)} for sample in samples]
    write_json(folder / "samples.json", {"samples": list(items)})
    dtype = str(parameter.dtype).removeprefix("torch.")
    return ParityReference(folder, base, revision, dtype, parameter.device.type)


def certify(package: Path, reference: ParityReference, bound: float, num_threads: int = 1) -> JsonObject:
    """Compare the package, loaded in a fresh process, with the reference and return the certificate.

    Raises ProofFailed when the package cannot be loaded, renders other tokens, computes other logits, or does not
    differ from the base.
    """
    measured = _in_fresh_process(package, reference, num_threads)
    found = failures(measured, bound)
    if found:
        raise ProofFailed(f"the package {package} is not the model that was trained: " + "; ".join(found) + ".")
    files = sorted(path for path in package.rglob("*") if path.is_file())
    return {
        "tokens_equal": measured.tokens_equal,
        "max_abs_logit_difference": measured.max_abs_logit_difference,
        "relative_logit_difference": measured.relative_logit_difference,
        "bound": bound,
        "top1_agreement": measured.top1_agreement,
        "differs_from_base": None if measured.difference_from_base is None else True,
        "difference_from_base": measured.difference_from_base,
        "dtype": reference.dtype,
        "files": {path.relative_to(package).as_posix(): file_hash(path) for path in files},
    }


def measure(package: Path, reference: ParityReference) -> Measured:
    """Load the package with plain transformers and peft, and compare it with the reference."""
    samples = json.loads((reference.folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    wanted = load_file(reference.folder / "logits.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(package)
    rendered = [_render(tokenizer, sample["request"]) for sample in samples]
    tuned, base = _both_logits(package, reference, [sample["tokens"] for sample in samples])
    references = [wanted[str(index)] for index in range(len(samples))]
    difference = _largest_difference(tuned, references)
    agreement = torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in zip(tuned, references)]).float().mean().item()
    return Measured(
        tokens_equal=all(tokens == sample["tokens"] for tokens, sample in zip(rendered, samples)),
        max_abs_logit_difference=difference,
        relative_logit_difference=difference / max(logits.abs().max().item() for logits in references),
        top1_agreement=agreement,
        difference_from_base=None if base is None else _largest_difference(tuned, base),
    )


def failures(measured: Measured, bound: float) -> list[str]:
    """Say what keeps the package from being the trained model; an empty list when it is."""
    found = []
    if not measured.tokens_equal:
        found.append("its tokenizer and template render other tokens than in training")
    # Written so that a difference which is no number fails.
    if not measured.relative_logit_difference <= bound:
        found.append(
            f"its logits differ by {measured.relative_logit_difference:.3g} of the largest logit, and at most "
            f"{bound:.3g} is rounding"
        )
    base = measured.difference_from_base
    if base is not None and not base > measured.max_abs_logit_difference:
        found.append(f"it is no further from the base model ({base:.3g}) than rounding, so the tuning has no effect")
    return found


def _in_fresh_process(package: Path, reference: ParityReference, num_threads: int) -> Measured:
    with tempfile.TemporaryDirectory() as scratch:
        order, answer = Path(scratch) / "order.json", Path(scratch) / "answer.json"
        fields = {**asdict(reference), "folder": str(reference.folder.resolve())}
        write_json(order, {"package": str(package.resolve()), "reference": fields})
        done = subprocess.run(
            [sys.executable, "-I", "-m", "luthier.models.parity", str(order), str(answer)],
            env={**child_environment(num_threads), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ProofFailed(f"the package {package} cannot be loaded in a fresh process:\n{done.stderr[-_TAIL:]}")
        return Measured(**json.loads(answer.read_text(encoding="utf-8")))


def _render(tokenizer: PreTrainedTokenizerBase, request: JsonObject) -> list[int]:
    if "text" in request:
        return tokenizer.encode(str(request["text"]), add_special_tokens=False)
    render = partial(tokenizer.apply_chat_template, **cast("dict[str, bool]", request["options"]))
    tokens = render(
        request["messages"],
        tools=request["tools"] or None,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    return cast("list[int]", tokens)


def _both_logits(
    package: Path, reference: ParityReference, tokens: list[list[int]]
) -> tuple[list[torch.Tensor], list[torch.Tensor] | None]:
    """Return the logits of the package and, where there is one, of its base."""
    if not (package / "adapter_config.json").exists():
        tuned = _all_logits(_load(str(package), None, reference), tokens)
        if reference.base is None:
            return tuned, None
        return tuned, _all_logits(_load(reference.base, reference.revision, reference), tokens)
    config = json.loads((package / "adapter_config.json").read_text(encoding="utf-8"))
    base = _load(config["base_model_name_or_path"], config["revision"], reference)
    # As in training; by default peft computes an adapter in float32 on top of a bfloat16 model.
    model = PeftModel.from_pretrained(base, package, autocast_adapter_dtype=False)
    tuned = _all_logits(model, tokens)
    with model.disable_adapter():
        return tuned, _all_logits(model, tokens)


def _load(name: str, revision: str | None, reference: ParityReference) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(
        name, revision=revision or "main", dtype=getattr(torch, reference.dtype), trust_remote_code=False
    )
    nn.Module.to(model, reference.device)
    return model


def _all_logits(model: nn.Module, tokens: list[list[int]]) -> list[torch.Tensor]:
    return [_logits(model, row) for row in tokens]


@torch.no_grad()
def _logits(model: nn.Module, tokens: Sequence[int]) -> torch.Tensor:
    """Return the KV logits of the last positions, in float32 on the CPU."""
    was_training = model.training
    model.eval()
    input_ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    logits_KV = model(input_ids=input_ids, use_cache=False).logits[0, -_POSITIONS:]
    model.train(was_training)
    return logits_KV.float().cpu().contiguous()


def _largest_difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


def _main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    fields = order["reference"]
    reference = ParityReference(**{**fields, "folder": Path(fields["folder"])})
    write_json(Path(sys.argv[2]), asdict(measure(Path(order["package"]), reference)))


if __name__ == "__main__":
    _main()
