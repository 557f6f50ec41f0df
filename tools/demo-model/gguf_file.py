"""Writes the network as a GGUF file that llama.cpp reads as `llama`, in Q8_0, and reads it back."""

import json
from pathlib import Path

import gguf
import numpy as np
import yaml
from tokenizers import Tokenizer

from network import Shape
from phrases import HERE
from tokenizer import END_OF_TEXT, PRE, SPECIAL, TEMPLATE, TURN_END, make_tokenizer

TENSORS = [
    ("attn_q", "q"), ("attn_k", "k"), ("attn_v", "v"), ("attn_output", "o"), ("ffn_gate", "gate"), ("ffn_up", "up"),
    ("ffn_down", "down"),
]


def write_gguf(path: Path, shape: Shape, weights: dict[str, np.ndarray], tokenizer: Tokenizer) -> None:
    """Writes a model file. The facts it was trained with are in its metadata, so that a test can compare them."""
    quantized = gguf.GGMLQuantizationType.Q8_0
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("lollmsd demonstration model")
    out.add_author("the lollmsd authors")
    out.add_license("apache-2.0")
    out.add_description("A guide to lollmsd, trained from scratch by tools/demo-model on text that it makes")
    out.add_string("lollmsd.demo.facts", json.dumps(yaml.safe_load((HERE / "facts.yaml").read_text())))
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_context_length(shape.context)
    out.add_embedding_length(shape.width)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.hidden)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.kv_heads)
    out.add_rope_dimension_count(shape.head)
    out.add_rope_freq_base(shape.rope_base)
    out.add_layer_norm_rms_eps(shape.epsilon)
    out.add_vocab_size(shape.vocabulary)
    model = json.loads(tokenizer.to_str())["model"]
    texts = {number: text for text, number in model["vocab"].items()}
    texts = [texts[number] for number in range(shape.vocabulary)]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(PRE)
    out.add_token_list(texts)
    out.add_token_types([gguf.TokenType.CONTROL if text in SPECIAL else gguf.TokenType.NORMAL for text in texts])
    out.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]])
    out.add_bos_token_id(END_OF_TEXT)
    out.add_eos_token_id(TURN_END)
    out.add_pad_token_id(END_OF_TEXT)
    out.add_add_bos_token(False)
    out.add_add_eos_token(False)
    out.add_chat_template(TEMPLATE)

    def matrix(name: str, value: np.ndarray) -> None:
        value = np.ascontiguousarray(value, np.float32)
        out.add_tensor(name, gguf.quants.quantize(value, quantized), raw_dtype=quantized)

    def vector(name: str, value: np.ndarray) -> None:
        out.add_tensor(name, np.ascontiguousarray(value, np.float32))

    # There is no output matrix: it is the embedding.
    matrix("token_embd.weight", weights["embedding"])
    vector("output_norm.weight", weights["norm"])
    for layer in range(shape.layers):
        for name, key in TENSORS:
            matrix(f"blk.{layer}.{name}.weight", weights[key][layer].T)
        vector(f"blk.{layer}.attn_norm.weight", weights["attention_norm"][layer])
        vector(f"blk.{layer}.ffn_norm.weight", weights["feed_norm"][layer])
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def read_gguf(path: Path) -> tuple[dict[str, np.ndarray], Tokenizer]:
    """Reads a file of [`write_gguf`]: weights and tokenizer."""
    file = gguf.GGUFReader(path)
    found = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in file.tensors}
    layers = range(int(file.get_field("llama.block_count").contents()))
    weights = {"embedding": found["token_embd.weight"], "norm": found["output_norm.weight"]}
    for name, key in TENSORS:
        weights[key] = np.stack([found[f"blk.{layer}.{name}.weight"].T for layer in layers])
    for name, key in [("attn_norm", "attention_norm"), ("ffn_norm", "feed_norm")]:
        weights[key] = np.stack([found[f"blk.{layer}.{name}.weight"] for layer in layers])
    tokens = file.get_field("tokenizer.ggml.tokens").contents()
    merges = [tuple(pair.split(" ")) for pair in file.get_field("tokenizer.ggml.merges").contents()]
    return {name: np.ascontiguousarray(value) for name, value in weights.items()}, make_tokenizer(tokens, merges)
