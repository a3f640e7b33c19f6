"""What must be true of a folder of weights before anything of it is loaded. Reads JSON and headers; imports no torch.

A model's folder comes from anywhere. Nothing in it may be code or name code; nothing is a pickle, whatever it is
called; headers are whole and exact; and no size is believed that the weights in the folder do not bear out, so that a
line in a file cannot take the machine's memory.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from luthier.core.errors import ModelError
from luthier.core.types import JsonObject, JsonValue

_HEADER_BYTES = 16 << 20
_JSON_BYTES = 8 << 20
_MOST_TENSORS = 1_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
# Keys that make transformers run what a repository brings along, or fetch kernels from another one.
_CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate")
_KERNELS = re.compile(r"_?(attn|experts)_implementation(_internal)?|kernel_config|use_kernels|hub_kernels?")
_NAMED_FILES = ("vocab_file", "merges_file", "tokenizer_file", "chat_template_file", "source_spm", "target_spm")
_NAME = re.compile(r"[\w.-]{1,200}")
_LARGEST = {
    "vocab_size": 1 << 22, "hidden_size": 1 << 17, "intermediate_size": 1 << 20, "num_hidden_layers": 4096,
    "num_attention_heads": 8192, "num_key_value_heads": 8192, "head_dim": 1 << 14, "max_position_embeddings": 1 << 28,
}  # fmt: skip
_LARGEST_RANK = 4096
_LOW_RANK = re.compile(r"\.lora_(?:embedding_)?([AB])(?:\.|$)")
_MORE_THAN_RANKS = ("modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication", "use_dora")
_ADAPTER = "adapter_model.safetensors"


def check_model(path: Path, config: JsonObject, *, weights: bool = True) -> None:
    """Check the folder of a model, whose `config.json` was read; raise ModelError that says what is wrong where.

    Without `weights`, as where a plan is made from the config alone, only what is written in JSON is checked.
    """
    _check_keys(path / "config.json", config)
    for name in ("tokenizer_config.json", "generation_config.json"):
        if (path / name).is_file():
            _check_keys(path / name, read_json(path / name))
    _check_named_files(path)
    if not weights:
        return
    _check_index(path / "model.safetensors.index.json")
    tensors = [tensor for file in _weights(path) for tensor in header(file)]
    _check_sizes(path / "config.json", config, sum(math.prod(shape) for _, shape in tensors), len(tensors))


def check_adapter(path: Path) -> None:
    """Check the folder of a LoRA adapter; raise ModelError that says what is wrong where."""
    file = path / "adapter_config.json"
    if not file.is_file():
        raise ModelError(f"{path} is no adapter: it has no adapter_config.json.")
    config = read_json(file)
    _check_keys(file, config)
    rank = config.get("r")
    if config.get("peft_type") != "LORA":
        raise _wrong(file, "peft_type", config.get("peft_type"), "LORA")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= _LARGEST_RANK:
        raise _wrong(file, "r", rank, f"a whole number from 1 to {_LARGEST_RANK}")
    _check_targets(file, config)
    if not (path / _ADAPTER).is_file():
        raise ModelError(f"{path} has no {_ADAPTER}. Pickled weights are never loaded; convert them to safetensors.")
    _check_ranks(path / _ADAPTER, rank)


def header(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of a safetensors file; raise ModelError unless its header accounts for every byte once."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_BYTES):
            raise ModelError(f"{file} is no safetensors file: its header would have {length:,} bytes of {size:,}.")
        text = stream.read(length)
    entries = _parsed(file, text)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{file}: __metadata__ must hold texts.")
    if len(entries) > _MOST_TENSORS:
        raise ModelError(f"{file} lists {len(entries):,} tensors; at most {_MOST_TENSORS:,} are read.")
    spans = [_span(file, name, entry) for name, entry in entries.items()]
    end = 0
    for start, stop, name in sorted((start, stop, name) for name, _, start, stop in spans):
        if start != end:
            what = "overlaps the one before it" if start < end else "leaves a hole before it"
            raise ModelError(f"{file}: the tensor {name!r} {what} (byte {start:,}, expected {end:,}).")
        end = stop
    if end != size - 8 - length:
        raise ModelError(f"{file}: its tensors have {end:,} bytes, but {size - 8 - length:,} are there.")
    return [(name, shape) for name, shape, _, _ in spans]


def read_json(file: Path) -> JsonObject:
    """Return the object in a JSON file of bounded size; raise ModelError."""
    if file.stat().st_size > _JSON_BYTES:
        raise ModelError(f"{file} has {file.stat().st_size:,} bytes; at most {_JSON_BYTES:,} are read.")
    return _parsed(file, file.read_bytes())


def _check_keys(file: Path, config: JsonObject) -> None:
    for place, key, value in _entries(config):
        if key in _CODE and value:
            raise ModelError(
                f"{file.parent} needs code from its own repository ({file.name} has {place}), which Luthier never runs. "
                "Choose a model whose architecture transformers itself has."
            )
        if _KERNELS.fullmatch(key):
            raise ModelError(f"{file} chooses an implementation ({place}), which only the program may do. Remove it.")
        if key == "quantization_config" and value:
            raise ModelError(f"{file} has {place}: quantized weights are not loaded. Choose the plain weights.")


def _entries(value: JsonValue, place: str = "", depth: int = 0) -> Iterator[tuple[str, str, JsonValue]]:
    """Yield every key below a value, with its place; what is deeper than a config ever was is not looked at but refused."""
    if depth > 32:
        raise ModelError(f"{place[:100]} is nested deeper than any model's config.")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{place}{key}", key, inner
            yield from _entries(inner, f"{place}{key}.", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner, place, depth + 1)


def _check_named_files(path: Path) -> None:
    """Refuse file names in JSON that lead out of the folder."""
    if (path / "tokenizer_config.json").is_file():
        config = read_json(path / "tokenizer_config.json")
        kind = config.get("tokenizer_class")
        if kind is not None and not (isinstance(kind, str) and kind.isidentifier()):
            raise _wrong(
                path / "tokenizer_config.json", "tokenizer_class", kind, "the name of one of transformers' classes"
            )
        for key in _NAMED_FILES:
            if config.get(key) is not None and not _NAME.fullmatch(str(config[key])):
                raise _wrong(path / "tokenizer_config.json", key, config[key], "the name of a file in the folder")


def _check_index(index: Path) -> None:
    if not index.is_file():
        return
    names = read_json(index).get("weight_map")
    found = set(map(str, names.values())) if isinstance(names, dict) else {"no weight_map"}
    for name in sorted(found):
        if not _NAME.fullmatch(name) or not name.endswith(".safetensors") or not (index.parent / name).is_file():
            raise _wrong(index, "weight_map", name, "names of safetensors files in the folder")


def _weights(path: Path) -> list[Path]:
    """Return the files that transformers would read: the one, or those of the index."""
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return [file for file in sorted(path.glob("*.safetensors")) if file.name != _ADAPTER]
    names = read_json(index)["weight_map"]
    assert isinstance(names, dict)
    return [path / name for name in sorted(set(map(str, names.values())))]


def _check_sizes(file: Path, config: JsonObject, num_weights: int, num_tensors: int) -> None:
    text = config.get("text_config") or config
    if not isinstance(text, dict):
        raise _wrong(file, "text_config", text, "an object")
    sizes = {key: value for key in _LARGEST if (value := text.get(key)) is not None}
    for key, value in sizes.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (isinstance(value, list) and key != "vocab_size"):  # some families have a size a layer
            raise _wrong(file, key, value, "a whole number")
        if isinstance(value, int) and not 1 <= value <= _LARGEST[key]:
            raise _wrong(file, key, value, f"1 to {_LARGEST[key]:,}")
    known = {key: value for key, value in sizes.items() if isinstance(value, int)}
    if known.get("num_hidden_layers", 0) > num_tensors:
        raise _wrong(
            file, "num_hidden_layers", known["num_hidden_layers"], f"at most the {num_tensors:,} tensors there are"
        )
    # An embedding, and one matrix of a layer, lie in the weights as they are.
    for key in ("vocab_size", "intermediate_size"):
        claimed = known.get(key, 0) * known.get("hidden_size", 0)
        if claimed > num_weights:
            raise _wrong(file, f"{key} x hidden_size", f"{claimed:,}", f"at most the {num_weights:,} weights there are")


def _check_targets(file: Path, config: JsonObject) -> None:
    for key in ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"):
        value = config.get(key)
        names = value if isinstance(value, list) else [value] if value is not None else []
        if not all(isinstance(name, int) or (isinstance(name, str) and _NAME.fullmatch(name)) for name in names):
            raise _wrong(file, key, value, "a list of module names; patterns are not taken")
    for key in ("rank_pattern", "alpha_pattern"):
        if config.get(key):
            raise _wrong(file, key, config[key], "nothing: every layer has the same rank")
    for key in _MORE_THAN_RANKS:
        if config.get(key):
            raise _wrong(file, key, config[key], "nothing: only low-rank layers are served")
    match config.get("auto_mapping"):
        case None:
            return
        case {"parent_library": str(library)} if library.startswith("transformers.models."):
            return
        case mapping:
            raise _wrong(file, "auto_mapping", mapping, "a class of transformers'")


def _check_ranks(file: Path, rank: int) -> None:
    tensors = header(file)
    for name, shape in tensors:
        layer = _LOW_RANK.search(name)
        if layer is None or len(shape) != 2 or shape["AB".index(layer[1])] != rank:
            raise ModelError(
                f"{file}: the tensor {name!r} has the shape {list(shape)}; expected a low-rank layer of rank {rank}."
            )
    if not tensors:
        raise ModelError(f"{file} holds no tensor.")


def _parsed(file: Path, text: bytes) -> JsonObject:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds {type(value).__name__}; expected an object.")
    return cast(JsonObject, value)


def _once(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = (Counter(name for name, _ in pairs) - Counter(found.keys())).items()
        raise ValueError(f"the name {name[:100]!r} is there twice")
    return found


def _span(file: Path, name: str, entry: JsonValue) -> tuple[str, tuple[int, ...], int, int]:
    """Return a tensor's name, shape, first byte and the byte behind its last one."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]} if dtype in _BITS:
            sizes = tuple(size for size in shape if isinstance(size, int) and 0 <= size < 1 << 48)
            if len(sizes) == len(shape) and 0 <= start <= end and math.prod(sizes) * _BITS[dtype] == 8 * (end - start):
                return name, sizes, start, end
        case _:
            pass
    raise ModelError(
        f"{file}: the tensor {name[:100]!r} is described by {str(entry)[:200]}, which is no shape of its bytes."
    )


def _wrong(file: Path, key: str, found: object, expected: str) -> ModelError:
    return ModelError(f"{file}: {key} is {str(found)[:100]!r}; expected {expected}.")
