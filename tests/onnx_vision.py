"""A folder of ONNX Runtime GenAI of the kind phi3v, whose answers follow from its images: graphs of a few nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import tiny

HIDDEN, VOCAB = 8, 128
# As Microsoft's folders of Phi-3-vision have it.
PROCESSOR = {
    "processor": {
        "name": "image_processing",
        "transforms": [
            {"operation": {"name": "decode_image", "type": "DecodeImage", "domain": "com.microsoft.extensions",
                           "attrs": {"color_space": "BGR"}}},
            {"operation": {"name": "convert_to_rgb", "type": "ConvertRGB", "domain": "com.microsoft.extensions"}},
            {"operation": {"name": "phi3_image_transform", "type": "Phi3ImageTransform",
                           "domain": "com.microsoft.extensions", "attrs": {"num_crops": 16, "num_img_tokens": 144}}},
        ],
    }
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "model": {
        "type": "phi3v",
        "bos_token_id": 1,
        "eos_token_id": [tiny.END, tiny.TURN_END],
        "pad_token_id": 0,
        "context_length": 8000,
        "vocab_size": VOCAB,
        "decoder": {
            "session_options": {"provider_options": []},
            "filename": "text.onnx",
            "head_size": HIDDEN,
            "hidden_size": HIDDEN,
            "num_attention_heads": 1,
            "num_hidden_layers": 1,
            "num_key_value_heads": 1,
            "inputs": {"inputs_embeds": "inputs_embeds", "attention_mask": "attention_mask",
                       "past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"},
            "outputs": {"logits": "logits", "present_key_names": "present.%d.key",
                        "present_value_names": "present.%d.value"},
        },
        "embedding": {"filename": "embedding.onnx",
                      "inputs": {"input_ids": "input_ids", "image_features": "image_features"},
                      "outputs": {"inputs_embeds": "inputs_embeds"}},
        "vision": {"filename": "vision.onnx",
                   "inputs": {"pixel_values": "pixel_values", "image_sizes": "image_sizes"},
                   "outputs": {"image_features": "image_features"}},
    },
    "search": {"do_sample": False, "max_length": 8000, "past_present_share_buffer": False, "top_k": 1},
}  # fmt: skip


def write_folder(folder: Path) -> Path:
    """A folder that `onnx:` takes."""
    folder.mkdir(parents=True)
    (folder / "genai_config.json").write_text(json.dumps(CONFIG))
    (folder / "processor_config.json").write_text(json.dumps(PROCESSOR))
    (folder / "tokenizer.json").write_text(json.dumps(tiny.spec()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "<|endoftext|>",
                    "unk_token": "<unk>", "chat_template": tiny.TEMPLATE})
    )  # fmt: skip
    for name, graph in (("vision", _vision()), ("embedding", _embedding()), ("text", _text())):
        _save(graph, folder / f"{name}.onnx")
    return folder


def _vision() -> Any:
    """image_features: a row for each token that Phi-3-vision's images have, all of them the mean of the pixels."""
    from onnx import TensorProto, helper

    def constant(name: str, values: Any) -> Any:
        return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)

    nodes = [
        helper.make_node("Div", ["image_sizes", "side"], ["crops"]),  # rows and columns of each image
        helper.make_node("ReduceProd", ["crops", "last"], ["areas"], keepdims=0),
        helper.make_node("Gather", ["crops", "zero"], ["rows"], axis=1),
        helper.make_node("Squeeze", ["rows", "last"], ["row"]),
        # (crops + 1) * 144 + 1 + (rows + 1) * 12
        helper.make_node("Mul", ["areas", "a_crop"], ["of_crops"]),
        helper.make_node("Mul", ["row", "a_row"], ["of_rows"]),
        helper.make_node("Add", ["of_crops", "of_rows"], ["some"]),
        helper.make_node("Add", ["some", "rest"], ["each"]),
        helper.make_node("ReduceSum", ["each", "zero"], ["n"], keepdims=1),
        helper.make_node("Concat", ["n", "hidden"], ["shape"], axis=0),
        helper.make_node("ReduceMean", ["pixel_values"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["image_features"]),
    ]
    constants = [constant("side", [336]), constant("last", [1]), constant("zero", [0]), constant("a_crop", [144]),
                 constant("a_row", [12]), constant("rest", [144 + 1 + 12]), constant("hidden", [HIDDEN])]  # fmt: skip
    return helper.make_graph(
        nodes,
        "vision",
        [
            helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["images", "crops", 3, "h", "w"]),
            helper.make_tensor_value_info("image_sizes", TensorProto.INT64, ["images", 2]),
        ],
        [helper.make_tensor_value_info("image_features", TensorProto.FLOAT, ["tokens", HIDDEN])],
        constants,
    )


def _embedding() -> Any:
    """inputs_embeds: a row of a table for each id, and the images' own where ids are below 0."""
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(1).standard_normal((VOCAB, HIDDEN)).astype(np.float32)
    nodes = [
        helper.make_node("Max", ["input_ids", "none"], ["ids"]),
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("ReduceSum", ["image_features", "axis"], ["sum"], keepdims=1),
        helper.make_node("Less", ["input_ids", "none"], ["is_image"]),
        helper.make_node("Unsqueeze", ["is_image", "last"], ["mask"]),
        helper.make_node("Where", ["mask", "sum", "words"], ["inputs_embeds"]),
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        helper.make_tensor("none", TensorProto.INT64, [1], [0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [0]),
        helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
    ]
    return helper.make_graph(
        nodes,
        "embedding",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("image_features", TensorProto.FLOAT, ["tokens", HIDDEN]),
        ],
        [helper.make_tensor_value_info("inputs_embeds", TensorProto.FLOAT, ["batch", "length", HIDDEN])],
        constants,
    )


def _text() -> Any:
    """logits of each token and of the mean of all before it, which the cache holds."""
    from onnx import TensorProto, helper, numpy_helper

    head = np.random.default_rng(2).standard_normal((HIDDEN, VOCAB)).astype(np.float32)
    head[:, : tiny.tokenizer().encode("a")[0]] = 0  # control tokens and the like are rare
    head[:, tiny.END :] = 0
    nodes = [
        helper.make_node("Unsqueeze", ["inputs_embeds", "one"], ["rows"]),
        helper.make_node("Concat", ["past_key_values.0.key", "rows"], ["present.0.key"], axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "rows"], ["present.0.value"], axis=2),
        helper.make_node("ReduceMean", ["present.0.key", "two"], ["mean"], keepdims=0),  # (batch, 1, hidden)
        helper.make_node("Tanh", ["mean"], ["past"]),
        helper.make_node("Add", ["inputs_embeds", "past"], ["sum"]),
        helper.make_node("MatMul", ["sum", "head"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(head, "head"),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("two", TensorProto.INT64, [1], [2]),
    ]
    shape = ["batch", 1, "past", HIDDEN]
    return helper.make_graph(
        nodes,
        "text",
        [
            helper.make_tensor_value_info("inputs_embeds", TensorProto.FLOAT, ["batch", "length", HIDDEN]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"]),
            helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("past_key_values.0.value", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", VOCAB]),
            helper.make_tensor_value_info("present.0.key", TensorProto.FLOAT, ["batch", 1, "total", HIDDEN]),
            helper.make_tensor_value_info("present.0.value", TensorProto.FLOAT, ["batch", 1, "total", HIDDEN]),
        ],
        constants,
    )


def _save(graph: Any, path: Path) -> None:
    import onnx

    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
