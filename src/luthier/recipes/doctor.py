"""What this machine has, what is fast on it, and which models it can tune."""

import torch

from luthier.config.settings import Settings
from luthier.core.hardware import hardware
from luthier.core.types import JsonObject
from luthier.kernels import native
from luthier.kernels.rates import faster_dtype
from luthier.models.load import STARTER
from luthier.models.sizes import Shape, lora_weights, training_bytes
from luthier.recipes.environment import environment
from luthier.recipes.voice import Voice

# Name, and shape from the config.json of its repository. Plain text models under Apache-2.0, small to large.
SUGGESTED: dict[str, Shape] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(134_515_008, 576, 30, 49_152, 1_536),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Shape(361_821_120, 960, 32, 49_152, 2_560),
    "Qwen/Qwen3-0.6B": Shape(596_049_920, 1_024, 28, 151_936, 3_072),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Shape(1_711_376_384, 2_048, 24, 49_152, 8_192),
    "Qwen/Qwen3-4B-Instruct-2507": Shape(4_022_468_096, 2_560, 36, 151_936, 9_728),
    "Qwen/Qwen3-8B": Shape(8_190_735_360, 4_096, 36, 151_936, 12_288),
}
_MICRO_TOKENS = 2048
_LORA_RANK = 16
_ROW_TOKENS = 200
_TRAINING_SHARE = 0.4


def doctor() -> JsonObject:
    """Measure the machine; takes about a second."""
    machine = hardware()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, rates = faster_dtype(device)
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else machine.free_memory_bytes
    fits: list[JsonObject] = [_fit(name, shape, free, max(rates.values())) for name, shape in SUGGESTED.items()]
    return {
        **environment(), "free_memory_bytes": free, "free_disk_bytes": machine.free_disk_bytes, "device": device,
        "flops_per_second": rates, "faster": str(dtype).removeprefix("torch."), "models": fits,
        "compiled_why_not": native.why_not(),
    }  # type: ignore[dict-item]  # dicts of floats are JSON, which a checker reads invariantly  # fmt: skip


def as_text(facts: JsonObject) -> str:
    """Write what `doctor` found for a person."""
    rates, packages, models = facts["flops_per_second"], facts["packages"], facts["models"]
    assert isinstance(rates, dict) and isinstance(packages, dict) and isinstance(models, list)
    lines = [
        f"machine   {facts['processor']}, {facts['cores']} core{'s' if facts['cores'] != 1 else ''}, {_gib(facts['memory_bytes'])} memory "
        f"({_gib(facts['free_memory_bytes'])} free), {_gib(facts['free_disk_bytes'])} disk free",
        f"device    {facts['accelerator'] or 'CPU; no GPU was found'}",
        f"python    {facts['python']}; " + ", ".join(f"{name} {version}" for name, version in packages.items()),
        f"fast here {facts['faster']}: "
        + ", ".join(f"{name} {float(str(rate)) / 1e9:,.0f} GFLOP/s" for name, rate in rates.items()),
        "compiled  "
        + (
            f"nothing: {facts['compiled_why_not']}"
            if facts["compiled_why_not"]
            else "norms and gates, and the attention of answers"
        ),
        "models    LoRA on rows of 200 tokens:",
    ]
    for fit in models:
        assert isinstance(fit, dict)
        speed = f"about {float(str(fit['rows_per_second'])):,.2g} rows/s" if fit["fits"] else "does not fit"
        lines.append(f"          {fit['model']:<40} {_gib(fit['memory_bytes']):>9}  {speed}")
    return "\n".join(lines)


def say_model(settings: Settings, voice: Voice) -> None:
    """Say first which model is used when the user named none, and which would fit for real work."""
    if settings.model.name != STARTER or settings.model.init is not None:
        return
    free = hardware().free_memory_bytes
    fitting = [name for name, shape in SUGGESTED.items() if _bytes(shape) < free]
    more = f"; for real work this machine fits {', '.join(fitting[-3:])}" if fitting else ""
    voice.say(f"model: starter, the small one that ships with Luthier{more} (--model)")


def _fit(name: str, shape: Shape, free: int, rate: float) -> JsonObject:
    needed = _bytes(shape)
    return {
        "model": name, "memory_bytes": needed, "fits": needed < free,
        "rows_per_second": _TRAINING_SHARE * rate / (4 * shape.num_weights * _ROW_TOKENS),
    }  # fmt: skip


def _bytes(shape: Shape) -> int:
    return training_bytes(shape, lora_weights(shape, _LORA_RANK), "bfloat16", _MICRO_TOKENS, checkpointing=False)


def _gib(value: object) -> str:
    return f"{float(str(value)) / 2**30:,.1f} GiB"
