"""A tuned model as a folder that plain `transformers` or `peft` loads: weights, tokenizer, template, card.

The folder is written beside its place and renamed into it, so that it is never half there. Merging
happens on a copy, in float32, and is rounded once to the type that the base has.
"""

import copy
import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from luthier.core.errors import RunFolderError, SettingsError
from luthier.core.rundir import sync_folder, write_json
from luthier.core.types import JsonObject

Format = Literal["adapter", "merged"]
MARK = "luthier.json"
_MAX_SHARD = "5GB"


@dataclass(frozen=True, slots=True)
class Package:
    """What a package holds beside the weights.

    `base` is what `from_pretrained` takes for the base model: a hub id or a folder; None for a model that was
    trained from random weights. The decoding settings go into `generation_config.json`.
    """

    format: Format
    base: str | None
    card: str
    stop_tokens: tuple[int, ...]
    max_new_tokens: int
    revision: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0


def export(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, out: Path, package: Package) -> None:
    """Write the package to `out`, which must be absent, empty or an earlier package; `model` stays as it is.

    Raises SettingsError when an adapter is asked of a model that has none.
    """
    _refuse_foreign(out)
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(model, tokenizer, beside, package)
        _move_into_place(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def merged(model: PeftModel) -> PreTrainedModel:
    """Return a copy of the model with its adapter added to the base's weights, each in the base's own type."""
    base = cast(PreTrainedModel, model.get_base_model())
    dtypes = {_plain_name(name): parameter.dtype for name, parameter in base.named_parameters()}
    whole = copy.deepcopy(model).float()
    _untie_where_adapted(whole.get_base_model())
    plain = whole.merge_and_unload(safe_merge=True)
    assert isinstance(plain, PreTrainedModel)
    for name, parameter in plain.named_parameters():
        parameter.data = parameter.data.to(dtypes.get(name, base.dtype))
    return plain.requires_grad_(False).eval()


def _write(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, package: Package
) -> None:
    folder.mkdir()
    if package.format == "adapter":
        _write_adapter(model, folder, package)
    else:
        plain = merged(model) if isinstance(model, PeftModel) else model
        plain.save_pretrained(folder, max_shard_size=_MAX_SHARD)
    tokenizer.save_pretrained(folder)
    _generation_config(tokenizer, package).save_pretrained(folder)
    (folder / "README.md").write_text(package.card, encoding="utf-8")
    facts = {key: value for key, value in asdict(package).items() if key != "card"}
    write_json(folder / MARK, json.loads(json.dumps(facts)))


def _write_adapter(model: PreTrainedModel | PeftModel, folder: Path, package: Package) -> None:
    if not isinstance(model, PeftModel):
        raise SettingsError(
            "export.format is adapter, but every weight of this model was trained, so there is no adapter to write. "
            "Set export.format to merged, or train with train.method lora."
        )
    # "auto" would look the base up on the hub, to find out whether its vocabulary was resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    file = folder / "adapter_config.json"
    config: JsonObject = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, {**config, "base_model_name_or_path": package.base, "revision": package.revision})


def _generation_config(tokenizer: PreTrainedTokenizerBase, package: Package) -> GenerationConfig:
    stop = list(package.stop_tokens)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]
    config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=stop, pad_token_id=pad,
        max_new_tokens=package.max_new_tokens, do_sample=package.temperature > 0,
    )  # fmt: skip
    if package.temperature > 0:
        config.update(temperature=package.temperature, top_p=package.top_p)
    return config


def _untie_where_adapted(base: torch.nn.Module) -> None:
    """Give head and embeddings weights of their own where one of them is adapted.

    A merge into a weight that two layers share would change both.
    """
    assert isinstance(base, PreTrainedModel)
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if head is None or not (isinstance(head, BaseTunerLayer) or isinstance(embeddings, BaseTunerLayer)):
        return
    own = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    assert isinstance(own, torch.nn.Linear)
    own.weight = torch.nn.Parameter(own.weight.detach().clone())
    base.config.get_text_config(decoder=True).tie_word_embeddings = False
    base.config.tie_word_embeddings = False


def _plain_name(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not (out / MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(
            f"{out} holds something that is no package of Luthier's, and it would be overwritten. Choose another folder."
        )


def _move_into_place(beside: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old.{secrets.token_hex(4)}")
    if out.exists():
        out.rename(old)
    beside.rename(out)
    sync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)
