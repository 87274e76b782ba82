"""Write a GGUF file of Phi-3.5-mini's true shape with random blocks, to measure speed and memory where real weights
cannot be had. Needs the `test` extra.

    python benchmarks/random_gguf.py OUT.gguf [--mix Q4_K_M] [--layers 32] [--seed 0]

The mixes are those of llama.cpp's quantizer for phi3. Scales are such that weights are about N(0, 0.02). The vocabulary
has Phi-3's size and the bytes; it only has to load.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

HIDDEN, FF, HEADS, CONTEXT, VOCABULARY = 3072, 8192, 32, 4096, 32064
SHAPES = {"attn_qkv": (3 * HIDDEN, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_up": (2 * FF, HIDDEN),
          "ffn_down": (HIDDEN, FF)}  # fmt: skip
# Of a layer: the usual type, those of single tensors, and those of ffn_down and attn_qkv where the mix gives more bits.
MIXES = {
    "Q4_0": ("Q4_0", {}, {}),
    "Q8_0": ("Q8_0", {}, {}),
    "Q4_K_M": ("Q4_K", {"attn_qkv": "Q5_K"}, {"ffn_down": "Q6_K"}),
    "Q5_K_M": ("Q5_K", {"attn_qkv": "Q6_K"}, {"ffn_down": "Q6_K"}),
    "Q6_K": ("Q6_K", {}, {}),
}
# Where a block keeps its float16 scales, and values that make weights of about the right size.
SCALES = {"Q4_0": {0: 0.004}, "Q8_0": {0: 0.0003}, "Q4_K": {0: 0.0001, 2: 0.0008}, "Q5_K": {0: 0.00005, 2: 0.0008},
          "Q6_K": {208: 0.00001}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mix", choices=MIXES, default="Q4_K_M")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    usual, own, more = MIXES[args.mix]
    writer = gguf.GGUFWriter(str(args.out), "phi3", use_temp_file=True)
    add_settings(writer, args.layers)
    add_blocks(writer, "token_embd.weight", usual, (VOCABULARY, HIDDEN), rng)
    for i in range(args.layers):
        eighth = args.layers // 8
        more_bits = i < eighth or i >= 7 * args.layers // 8 or (i - eighth) % 3 == 2
        kinds = dict.fromkeys(SHAPES, usual) | own | (more if more_bits else {})
        for name, shape in SHAPES.items():
            add_blocks(writer, f"blk.{i}.{name}.weight", kinds[name], shape, rng)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    add_blocks(writer, "output.weight", "Q8_0" if args.mix == "Q8_0" else "Q6_K", (VOCABULARY, HIDDEN), rng)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_settings(writer: gguf.GGUFWriter, layers: int) -> None:
    writer.add_name(f"random Phi-3-mini, {layers} layers")
    writer.add_context_length(CONTEXT)
    writer.add_rope_scaling_orig_ctx_len(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FF)
    writer.add_block_count(layers)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_sliding_window(0)
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    control, normal, byte = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.BYTE
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    types = [gguf.TokenType.UNKNOWN, control, control, *[byte] * 256]
    for i in range(len(tokens), VOCABULARY):
        tokens.append("<|endoftext|>" if i == 32000 else f"\u2581w{i}")
        types.append(control if i == 32000 else normal)
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(32000)
    writer.add_unk_token_id(0)


def add_blocks(writer: gguf.GGUFWriter, name: str, kind: str, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Random integers with scales that fit. One block of rows is made and repeated: speed does not depend on values."""
    type_ = gguf.GGMLQuantizationType[kind]
    weights, size = gguf.GGML_QUANT_SIZES[type_]
    n, k = shape
    blocks = rng.integers(0, 256, (64, k // weights, size), dtype=np.uint8)
    for at, scale in SCALES[kind].items():
        blocks[..., at : at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    rows = np.resize(blocks.reshape(64, -1), (n, k // weights * size))
    writer.add_tensor(name, rows, raw_dtype=type_)


if __name__ == "__main__":
    main()
