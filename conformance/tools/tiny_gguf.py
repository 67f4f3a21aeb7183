#!/usr/bin/env python3
"""Turns a folder written by tiny_model.py into one GGUF file, for llama.cpp and Ollama.

    python tiny_gguf.py MODEL_DIR OUT.gguf

Weights, tokenizer and chat template go along, so that these servers give the same tokens as vLLM on the folder.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import load_file

# Tensors of a layer: ours to llama.cpp's.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ENDS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def rotated(tensor, heads):
    """llama.cpp rotates neighbouring pairs of a head, the source layout its two halves."""
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, half, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def add_shape(writer, config):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def add_tokenizer(writer, tokenizer, config):
    ids = dict(tokenizer["model"]["vocab"])
    kinds = {}
    for added in tokenizer["added_tokens"]:
        ids[added["content"]] = added["id"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    tokens = sorted(ids, key=ids.get)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise SystemExit("token ids must have no gaps")
    writer.add_tokenizer_model("gpt2")  # byte-level BPE, in llama.cpp's words
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kinds.get(i, gguf.TokenType.NORMAL)) for i in range(len(tokens))])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(ids[config["bos_token"]])
    writer.add_eos_token_id(ids[config["eos_token"]])
    writer.add_pad_token_id(ids[config["pad_token"]])
    writer.add_add_bos_token(config["add_bos_token"])
    writer.add_chat_template(config["chat_template"])


def add_tensors(writer, config, tensors):
    def add(ours, theirs, heads=None):
        tensor = tensors[f"{ours}.weight"]
        tensor = tensor if heads is None else rotated(tensor, heads)
        writer.add_tensor(f"{theirs}.weight", np.ascontiguousarray(tensor))

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for ours, theirs in ENDS.items():
        add(ours, theirs)
    for i in range(config["num_hidden_layers"]):
        for ours, theirs in LAYER.items():
            add(f"model.layers.{i}.{ours}", f"blk.{i}.{theirs}", heads.get(theirs))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()

    config = json.loads((args.model / "config.json").read_text())
    writer = gguf.GGUFWriter(args.out, "llama")
    writer.add_name(args.model.resolve().name)
    add_shape(writer, config)
    tokenizer = json.loads((args.model / "tokenizer.json").read_text())
    add_tokenizer(writer, tokenizer, json.loads((args.model / "tokenizer_config.json").read_text()))
    add_tensors(writer, config, load_file(args.model / "model.safetensors"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
