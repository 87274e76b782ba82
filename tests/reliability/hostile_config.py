"""config.json and generation_config.json with numbers that no model has, and with what is no number at all."""

from __future__ import annotations

import json
from typing import Any

from spoiling import edited, spoiled, text, tiny


def config(name: str, **changes: Any) -> None:
    """Add a change to config.json. (A null removes the key.)"""
    spoiled(f"config-{name}", lambda model: tiny.edit_json(model / "config.json", **changes))


def literal(name: str, key: str, value: str, **how: Any) -> None:
    """Add a config.json in which the key has this JSON, which Python may be unable to write."""

    def spoil(model: Any) -> None:
        raw = json.loads((model / "config.json").read_bytes())
        raw[key] = "@@"
        (model / "config.json").write_text(json.dumps(raw).replace('"@@"', value))

    spoiled(f"config-{name}", spoil, **how)


COUNTS = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
          "vocab_size", "max_position_embeddings")  # fmt: skip
for key in COUNTS:
    for value in (0, -1, 2**31, 2**63, 2**64 - 1, 10**30, 1.5, "2", True, [2], {"a": 2}):
        config(f"{key}-{json.dumps(value)}".replace('"', "'"), **{key: value})
    literal(f"{key}-nan", key, "NaN")
    literal(f"{key}-infinite", key, "1e999")
    literal(f"{key}-of-5000-digits", key, "9" * 5000)
    config(f"{key}-missing", **{key: None}) if key not in ("num_key_value_heads",) else None
config("a-billion-layers", num_hidden_layers=10**9)
config("a-thousand-layers", num_hidden_layers=1000)
config("a-layer-too-many", num_hidden_layers=3)
config("a-layer-too-few", num_hidden_layers=1)
config("hidden-2-to-the-30", hidden_size=2**30)
config("vocabulary-2-to-the-30", vocab_size=2**30)
config("heads-that-do-not-divide", num_attention_heads=5)
config("more-key-heads-than-heads", num_key_value_heads=8)
config("key-heads-that-do-not-divide", num_key_value_heads=3)
config("head-dim-odd", head_dim=15)
config("head-dim-zero", head_dim=0)
config("head-dim-huge", head_dim=2**30)
for key in ("rms_norm_eps", "rope_theta", "partial_rotary_factor"):
    for value in (0, -1, -1e-5, "1", True, [1], {}, 1e300):
        if value != {}:
            config(f"{key}-{json.dumps(value)}".replace('"', "'"), **{key: value})
    literal(f"{key}-nan", key, "NaN")
    literal(f"{key}-infinite", key, "1e999")
    literal(f"{key}-minus-infinite", key, "-1e999")
config("rotated-more-than-whole", partial_rotary_factor=2)
config("rotated-almost-nothing", partial_rotary_factor=1e-9)
config("window-negative", sliding_window=-1)
config("window-of-text", sliding_window="all")
config("activation-unknown", hidden_act="gelu")
config("activation-a-list", hidden_act=["silu"])
config("bias", attention_bias=True)
config("tied-by-text", tie_word_embeddings="no")
config("tied-though-there-is-a-head", tie_word_embeddings=True)
config("unknown-setting", attn_logit_softcapping=50.0)
config("unknown-setting-with-escapes", **{"\x1b[2J\x1b]0;x\x07": 3})
config("model-type-unknown", model_type="evil")
config("model-type-missing", model_type=None)
config("model-type-a-list", model_type=["phi3"])
config("model-type-a-path", model_type="../../evil")
config("model-type-of-a-megabyte", model_type="x" * 900_000)
config("architectures-other", architectures=["LlamaForCausalLM"])
for name, scaling in {
    "text": "longrope", "list": [1], "unknown": {"type": "evil"}, "type-a-list": {"type": ["longrope"]},
    "without-factors": {"type": "longrope"},
    "factors-of-text": {"type": "longrope", "short_factor": ["1"] * 8, "long_factor": [1] * 8},
    "factors-zero": {"type": "longrope", "short_factor": [0] * 8, "long_factor": [1] * 8},
    "factors-negative": {"type": "longrope", "short_factor": [-1] * 8, "long_factor": [1] * 8},
    "factors-too-few": {"type": "longrope", "short_factor": [1] * 7, "long_factor": [1] * 8},
    "factors-too-many": {"type": "longrope", "short_factor": [1] * 9999, "long_factor": [1] * 8},
    "factors-null": {"type": "longrope", "short_factor": [None] * 8, "long_factor": [1] * 8},
    "linear": {"type": "linear", "factor": 2.0},
    "unknown-key": {"type": "longrope", "short_factor": [1] * 8, "long_factor": [1] * 8, "beta": 1},
    "factor-infinite": {"type": "longrope", "short_factor": [1] * 8, "long_factor": [1] * 8, "factor": 1e300},
    "factor-zero": {"type": "longrope", "short_factor": [1] * 8, "long_factor": [1] * 8, "factor": 0},
    "attention-factor-negative":
        {"type": "longrope", "short_factor": [1] * 8, "long_factor": [1] * 8, "attention_factor": -1},
    "attention-factor-text":
        {"type": "longrope", "short_factor": [1] * 8, "long_factor": [1] * 8, "attention_factor": "1"},
}.items():  # fmt: skip
    config(f"rope-scaling-{name}", rope_scaling=scaling)
config("original-context-of-one", original_max_position_embeddings=1,
       rope_scaling={"type": "longrope", "short_factor": [1] * 8, "long_factor": [1] * 8})  # fmt: skip
config("original-context-zero", original_max_position_embeddings=0)
for name, value in {
    "negative": -1,
    "text": "120",
    "true": True,
    "fraction": 1.5,
    "deep": [[[1]]],
    "object": {},
}.items():
    if value != {}:
        spoiled(f"config-eos-{name}", edited("generation_config.json", lambda raw, v=value: raw.update(eos_token_id=v)))

for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
    for name, content in {
        "empty": "", "null": "null", "list": "[]", "number": "1", "open": "{", "text": '"a"',
        "binary": bytes(range(256)), "zeros": bytes(1000), "utf16": "{}".encode("utf-16"),
        "nan": '{"a": NaN}', "key-twice": '{"a": 1, "a": 2}',
        "deep": "[" * 200_000, "deep-objects": '{"a":' * 200_000 + "1" + "}" * 200_000,
        "deep-and-closed": '{"a":' + "[" * 99_999 + "]" * 99_999 + "}",
        "digits": '{"a": ' + "1" * 500_000 + "}",
        "lfs-pointer": "version https://git-lfs.github.com/spec/v1\n", "html": "<!DOCTYPE html><html>404</html>",
    }.items():  # fmt: skip
        spoiled(f"{file}-{name}", text(file, content))

for key, value in {
    "temperature": -1, "top_k": -5, "top_p": 7, "min_p": "a", "repetition_penalty": 0, "max_new_tokens": -1,
    "num_beams": 10**9, "length_penalty": "x", "guidance_scale": 7.5, "no_repeat_ngram_size": 3, "bad_words_ids": [[1]],
    "suppress_tokens": [1], "\x1b[2J": 7,
}.items():  # fmt: skip
    spoiled(f"generation-{key.encode('unicode_escape').decode()}-{json.dumps(value)}", edited(
        "generation_config.json", lambda raw, k=key, v=value: raw.update({"do_sample": True, k: v})))  # fmt: skip
spoiled("generation-temperature-infinite", text("generation_config.json", '{"do_sample": true, "temperature": 1e999}'))
spoiled("generation-do_sample-of-text", text("generation_config.json", '{"do_sample": "false", "temperature": 1.0}'))
