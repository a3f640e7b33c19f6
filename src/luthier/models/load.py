"""Models and tokenizers from a name: `starter`, a local folder, or a hub id.

Safe by default: weights in safetensors only, no code from the model's repository, ever.
"""

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from luthier.config.settings import LlamaInit, ModelSettings
from luthier.core.errors import ModelError
from luthier.core.hashing import derived_seed
from luthier.core.types import JsonObject
from luthier.models.inspection import check_model, read_json

STARTER = "starter"
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model", "README.md"]


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk: `name` as the user gave it, `revision` the hub commit where there is one."""

    name: str
    path: Path
    revision: str | None
    config: JsonObject


def find_model(settings: ModelSettings, *, weights: bool = True) -> ModelFolder:
    """Return the folder of the model that the settings name; raise ModelError that says how to get it.

    Without `weights` its config and tokenizer are enough, and only they are downloaded.
    """
    if settings.init is not None:
        path = Path(settings.init.tokenizer)
        if not (path / "tokenizer.json").exists():
            raise ModelError(f"model.init.tokenizer: there is no tokenizer.json in {path}.")
        return ModelFolder("random weights", path, None, {})
    if settings.name == STARTER:
        return _checked(STARTER, _shipped(), None)
    path = Path(settings.name)
    if settings.name and path.is_dir():
        return _checked(settings.name, path, None, weights=weights)
    if not is_hub_id(settings.name):
        raise ModelError(
            f"there is no folder {settings.name}, and {settings.name!r} is no hub id (owner/name). "
            "Give a local model folder, a hub id, or `starter`."
        )
    return _from_hub(settings.name, settings.revision, weights)


def is_shipped(folder: ModelFolder) -> bool:
    """Tell whether a model is the one that comes with the package, which is trusted as its code is."""
    return folder.path == _shipped()


def is_hub_id(name: str) -> bool:
    """Tell whether a name can be that of a model on the hub: an owner and a name."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def load_tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    """Load the tokenizer with its chat template."""
    try:
        return AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer of {folder.name} in {folder.path} cannot be loaded: {error}") from error


def load_config(folder: ModelFolder) -> PreTrainedConfig:
    """Read the model's config as transformers understands it."""
    try:
        return AutoConfig.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"the config of {folder.name} in {folder.path} cannot be read: {error}") from error


def load_model(folder: ModelFolder, dtype: torch.dtype, device: str = "cpu") -> PreTrainedModel:
    """Load the weights in `dtype` onto `device`, ready for training or inference, with the attention that the model takes by itself.

    Raises ModelError where transformers would fill a weight that is not there with random numbers.
    """
    try:
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            folder.path, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True, output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the model {folder.name} in {folder.path} cannot be loaded: {error}") from error
    if absent := sorted(report["missing_keys"]):
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise ModelError(
            f"the weights of {folder.name} in {folder.path} are not whole: {', '.join(absent[:3])}{more} is not there. "
            "Download the model again, or correct its config.json."
        )
    for weight, parameter in model.named_parameters():
        if parameter.numel() and not all(math.isfinite(float(bound)) for bound in parameter.detach().aminmax()):
            raise ModelError(
                f"{weight} of {folder.name} in {folder.path} holds what is no finite number; its weights are damaged."
            )
    return cast(PreTrainedModel, torch.nn.Module.to(model, device))


def random_model(
    init: LlamaInit, tokenizer: PreTrainedTokenizerBase, seed: int, dtype: torch.dtype, device: str = "cpu"
) -> PreTrainedModel:
    """Make a Llama of the given shape from random weights that depend on the seed alone.

    Weights are normal with deviation 0.02, and 0.02 / sqrt(2 x layers) for the layers that write
    into the residual stream (Radford et al. 2019, GPT-2, section 2.3).
    """
    shape = init.model_dump(exclude={"tokenizer", "rope_theta"})
    config = LlamaConfig(
        **shape, vocab_size=len(tokenizer), rope_parameters={"rope_type": "default", "rope_theta": init.rope_theta},
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa", initializer_range=0.02,  # pyright: ignore[reportCallIssue]
    )  # fmt: skip
    generator = torch.Generator().manual_seed(derived_seed(seed, "init"))
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() < 2:
                continue
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            deviation = 0.02 / (2 * init.num_hidden_layers) ** 0.5 if residual else 0.02
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
    model.tie_weights()
    for parameter in model.parameters():  # weights alone: a loaded model keeps its rotary frequencies in float32
        parameter.data = parameter.data.to(dtype)
    return cast(PreTrainedModel, torch.nn.Module.to(model, device))


def context_length(folder: ModelFolder) -> int:
    """The longest sequence that the model takes, in tokens; 2,048 where its config does not say."""
    text = folder.config.get("text_config", folder.config)
    assert isinstance(text, dict)
    length = text.get("max_position_embeddings")
    return length if isinstance(length, int) else 2048


def stop_tokens(folder: ModelFolder) -> tuple[int, ...]:
    """The tokens at which the model's own generation_config.json says an answer ends; none where it does not say."""
    file = folder.path / "generation_config.json"
    if not file.is_file():
        return ()
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON: {error}") from error
    tokens = found if isinstance(found, list) else [found]
    return tuple(token for token in tokens if isinstance(token, int))


def _shipped() -> Path:
    return Path(str(files("luthier.starter") / "model"))


def _checked(name: str, path: Path, revision: str | None, *, weights: bool = True) -> ModelFolder:
    config_file = path / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{path} is no model folder: it has no config.json.")
    config = read_json(config_file)
    if weights and not any(path.glob("*.safetensors")):
        found = ", ".join(sorted(file.name for file in path.glob("*.bin"))) or "no weights at all"
        raise ModelError(
            f"{name} has no safetensors weights ({found} in {path}). Pickled weights are never loaded; convert them to safetensors first."
        )
    check_model(path, config, weights=weights)
    return ModelFolder(name, path, revision, config)


def _from_hub(name: str, revision: str | None, weights: bool) -> ModelFolder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES[0 if weights else 1 :]))
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {name!r}, or it is private and HF_TOKEN does not open it.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"the model {name!r} is not on this machine and the hub cannot be reached. On a machine with a network run "
            f"`hf download {name}`, copy the folder here, and give its path as --model; or use --model starter."
        ) from error
    return _checked(name, path, path.name if path.parent.name == "snapshots" else revision, weights=weights)
