"""A trained model as an ordinary Hugging Face folder, in the names and shapes of the published Phi-3 files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from slmkit.train.files import write_whole
from slmkit.train.tokenizer import BASE, CHAT_TEMPLATE, SPECIAL, SWALLOWS_BLANKS

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from slmkit.train.model import Phi3
    from slmkit.train.recipe import Recipe


def export(model: Phi3, tokenizer: Tokenizer, recipe: Recipe, folder: Path) -> None:
    """Write config, weights (bfloat16), tokenizer and generation settings. Raises StorageError.

    The weights come last: a folder without them does not load, so an interrupted export is never mistaken for a model.
    """
    texts = {
        "config.json": config(recipe, tokenizer),
        "generation_config.json": generation_config(recipe, tokenizer),
        "tokenizer.json": json.loads(tokenizer.to_str()),
        "tokenizer_config.json": tokenizer_config(recipe, tokenizer),
        "special_tokens_map.json": {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
                                    "unk_token": "<unk>"},
    }  # fmt: skip
    for name, content in texts.items():
        write_whole(folder / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    tensors = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def config(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json, with every key that the published Phi-3 files have."""
    shape, end_of_text = recipe.model, tokenizer.token_to_id("<|endoftext|>")
    return {
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<s>"),
        "embd_pdrop": 0.0,
        "eos_token_id": end_of_text,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "model_type": "phi3",
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "original_max_position_embeddings": shape.max_position_embeddings,
        "pad_token_id": end_of_text,
        "resid_pdrop": 0.0,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "sliding_window": shape.max_position_embeddings,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }


def generation_config(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json: the stop ids, in the order of Phi-3.5's file, and the recipe's sampling defaults."""
    return {
        "bos_token_id": tokenizer.token_to_id("<s>"),
        "eos_token_id": [tokenizer.token_to_id(t) for t in ("<|end|>", "<|assistant|>", "<|endoftext|>")],
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
        **recipe.generation,
    }


def tokenizer_config(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer_config.json: special tokens with their flags, no BOS, the chat template."""
    special = {
        str(tokenizer.token_to_id(token)): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": token in SWALLOWS_BLANKS,
            "single_word": False, "special": True,
        }
        for token in [*BASE, *SPECIAL]
    }  # fmt: skip
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": special,
        "bos_token": "<s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": recipe.model.max_position_embeddings,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
