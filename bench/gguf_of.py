"""Write a Llama model with a byte-level BPE tokenizer as a GGUF file, which llama.cpp reads; weights stay bfloat16.

    python bench/gguf_of.py MODEL_FOLDER FILE.gguf        needs the packages gguf and safetensors, and torch for neither

Names and the order of the rotated channels are those of llama.cpp's own conversion (https://github.com/ggml-org/llama.cpp).
"""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors import safe_open

BF16 = gguf.GGMLQuantizationType.BF16
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def main() -> None:
    """Write the file."""
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    add_settings(writer, config)
    add_tokenizer(writer, folder, config)
    for path in sorted(folder.glob("*.safetensors")):
        for name, numbers in weights(path):
            add_weight(writer, name, numbers, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_settings(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """Say what shape the model has."""
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    """Say how texts are cut and how a chat is written."""
    said = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words = {number: word for word, number in said["model"]["vocab"].items()} | {
        one["id"]: one["content"] for one in said["added_tokens"]
    }
    special = {one["id"] for one in said["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL for number in range(len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([words[number] for number in range(len(words))])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in said["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def weights(path: Path) -> list[tuple[str, np.ndarray]]:
    """Return a file's weights in float32; NumPy has no bfloat16, so they are read as its upper half."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    with safe_open(path, "numpy") as opened:  # refuses what is not a sound file
        names = list(opened.keys())
    found = []
    for name in names:
        begin, end = header[name]["data_offsets"]
        data = raw[8 + length + begin : 8 + length + end]
        if header[name]["dtype"] == "BF16":
            numbers = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            numbers = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[header[name]["dtype"]])
        found.append((name, numbers.astype(np.float32).reshape(header[name]["shape"])))
    return found


def add_weight(writer: gguf.GGUFWriter, name: str, numbers: np.ndarray, config: dict[str, Any]) -> None:
    """Add one weight under llama.cpp's name; matrices as bfloat16, norms as float32."""
    whole = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in whole:
        to = whole[name]
    else:
        _, _, layer, *rest = name.split(".")
        to = f"blk.{layer}.{NAMES['.'.join(rest[:-1])]}"
    if to.endswith(("attn_q", "attn_k")):
        heads = config["num_attention_heads" if to.endswith("q") else "num_key_value_heads"]
        numbers = numbers.reshape(heads, 2, -1, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
    if numbers.ndim == 1:
        writer.add_tensor(f"{to}.weight", numbers)
    else:
        writer.add_tensor(f"{to}.weight", gguf.quants.quantize(numbers, BF16), raw_dtype=BF16)


if __name__ == "__main__":
    main()
