#!/usr/bin/env python3
"""Writes a tiny Llama model (Hugging Face layout) that recites a text known beforehand.

    python tiny_model.py OUT_DIR [--words 500] [--think 8] [--layers 2] [--hidden 128] [--weights random]

Whatever the prompt is, a *chain* model answers `baba babe babi babo ...` and stops after `--words` words: its layers add
nothing to the embedding, and its output matrix maps each token to one successor. One word is one token, and each occurs
once, so `max_tokens` gives exactly that many words, and a lost, doubled or reordered piece of an answer shows at once.
`--think N` puts the first N words between <think> and </think>. `--weights random` gives noise, and embeddings that
differ from text to text.

The words are those of the scripted upstream. A word continues the chain only with the space before it: after
"baba babe" comes "babi", after "babe" alone the chain begins anew.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "sdk"))
from recitation import SYLLABLES, recitation, word  # noqa: E402

# Not shown in decoded text.
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BEGIN, END = "<|endoftext|>", "<|im_end|>"
# Shown in decoded text.
THINK = ["<think>", "</think>"]
# How byte-level BPE spells a leading space.
SPACE = "\u0120"
# The 256 bytes and the merges trained on PROSE.
PROSE_VOCABULARY = 456
# Factor on the output matrix: wide enough a margin for the same text at temperature 1.
SHARPNESS = 8.0
PROSE = """
The river rises in spring and the basin takes what it brings. Each turbine has a steady flow, and when one of them
stops, the water finds another. Hello, what is the weather in Paris today? Answer in one word, then tell me a story.
You are a helpful assistant. system user assistant tool function name arguments city 0 1 2 3 4 5 6 7 8 9 10 100 1000
{"name": "get_weather", "arguments": {"city": "Paris", "unit": "C"}}
"""

# ChatML with the tools in a turn of their own. Template engines drop the newline behind a block tag, so none follows one.
CHAT_TEMPLATE = "".join(
    [
        "{% if tools %}<|im_start|>system\nTools:",
        "{% for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}<|im_end|>\n{% endif %}",
        "{% for message in messages %}<|im_start|>{{ message.role }}\n",
        "{% set thought = message.reasoning_content or message.reasoning %}",
        "{% if thought %}<think>{{ thought }}</think>{% endif %}",
        "{% if message.content is string %}{{ message.content }}",
        "{% elif message.content %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}",
        "{% if message.tool_calls %}{% for call in message.tool_calls %}",
        "{{ '\\n' }}{{ call.function | tojson }}{% endfor %}{% endif %}",
        "<|im_end|>\n{% endfor %}",
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ]
)


def prose_merges(alphabet, splitter):
    """Merges for ordinary text, so that a prompt is not spelt byte by byte."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(vocab_size=PROSE_VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(PROSE.splitlines() * 4, trainer)
    return [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]


def word_merges(words):
    """Merges that make each word of the recitation one token: with a leading space, but for the first."""
    merges = [(syllable[0], syllable[1]) for syllable in SYLLABLES]
    merges += [(SPACE, syllable) for syllable in dict.fromkeys(word(i)[:2] for i in range(words))]
    merges += [(SPACE + word(i)[:2], word(i)[2:]) for i in range(1, words)]
    merges.append((word(0)[:2], word(0)[2:]))
    return merges


def build_tokenizer(words):
    """Byte-level BPE in which the words of the recitation come first."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(dict.fromkeys(word_merges(words) + prose_merges(alphabet, splitter)))
    pieces = dict.fromkeys(alphabet + [left + right for left, right in merges])
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in THINK])
    return tokenizer


def chain(tokenizer, words, think):
    """Token ids of the whole answer."""
    ids = tokenizer.encode(recitation(words)).ids
    if len(ids) != words or len(set(ids)) != words:
        raise SystemExit("each word must be one token of its own")
    if think:
        opening, closing = (tokenizer.token_to_id(text) for text in THINK)
        ids = [opening, *ids[:think], closing, *ids[think:]]
    return ids


def chain_ends(tokenizer, ids, hidden, rng):
    """Embedding and output matrix: each token of the chain has a direction, all others share one, and the output row of
    a token is the direction of the token that it follows."""

    def directions(n):
        rows = rng.normal(size=(n, hidden))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    other, steps = directions(1)[0], directions(len(ids))
    embedding = np.tile(other, (tokenizer.get_vocab_size(), 1))
    embedding[ids] = steps
    output = np.zeros_like(embedding)
    output[ids[0]] = other
    output[ids[1:]] = steps[:-1]
    output[tokenizer.token_to_id(END)] = steps[-1]
    return embedding, output * SHARPNESS


def build_weights(args, tokenizer):
    """All tensors by name. A chain model's layers are computed like any other's and add zero."""
    rng = np.random.default_rng(args.seed)
    hidden, inner = args.hidden, 2 * args.hidden

    def noise(*shape):
        return rng.normal(0.0, 0.02, shape)

    def outward(*shape):
        return noise(*shape) if args.weights == "random" else np.zeros(shape)

    tensors = {"model.norm.weight": np.ones(hidden)}
    for i in range(args.layers):
        layer = {
            "input_layernorm": np.ones(hidden),
            "post_attention_layernorm": np.ones(hidden),
            "self_attn.q_proj": noise(hidden, hidden),
            "self_attn.k_proj": noise(hidden, hidden),
            "self_attn.v_proj": noise(hidden, hidden),
            "self_attn.o_proj": outward(hidden, hidden),
            "mlp.gate_proj": noise(inner, hidden),
            "mlp.up_proj": noise(inner, hidden),
            "mlp.down_proj": outward(hidden, inner),
        }
        tensors.update({f"model.layers.{i}.{name}.weight": tensor for name, tensor in layer.items()})
    if args.weights == "random":
        vocabulary = tokenizer.get_vocab_size()
        ends = noise(vocabulary, hidden), noise(vocabulary, hidden)
    else:
        ends = chain_ends(tokenizer, chain(tokenizer, args.words, args.think), hidden, rng)
    tensors["model.embed_tokens.weight"], tensors["lm_head.weight"] = ends
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def describe(args, tokenizer):
    """The JSON files beside the weights."""
    begin, end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(END)
    tokens = {"bos_token_id": begin, "pad_token_id": begin}
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": BEGIN,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": args.positions,
            "chat_template": CHAT_TEMPLATE,
        },
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": args.hidden,
            "intermediate_size": 2 * args.hidden,
            "num_hidden_layers": args.layers,
            "num_attention_heads": args.heads,
            "num_key_value_heads": args.heads,
            "head_dim": args.hidden // args.heads,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": args.positions,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "eos_token_id": end,
            **tokens,
        },
        "generation_config.json": {"eos_token_id": [end, begin], **tokens},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--weights", choices=["chain", "random"], default="chain")
    parser.add_argument("--words", type=int, default=500, help="length of the answer, 2 to 4900")
    parser.add_argument("--think", type=int, default=0, help="so many words of it are reasoning")
    parser.add_argument("--layers", type=int, default=2, help="more layers, slower answers")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4, help="hidden / heads must be 32 or more for vLLM on CPUs")
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    tokenizer = build_tokenizer(args.words)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    for name, content in describe(args, tokenizer).items():
        (args.out / name).write_text(json.dumps(content, indent=1) + "\n")
    save_file(build_weights(args, tokenizer), args.out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
