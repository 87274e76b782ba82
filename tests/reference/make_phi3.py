"""Make tests/reference/phi3 again: tiny checkpoints, and their logits by `transformers` in float32.

    python tests/reference/make_phi3.py [NAME ...]

Every logit comes from one plain forward pass over one whole prompt (eager attention, no cache, no padding, no
batch), because that is the only call of `transformers` whose LongRoPE table depends on that prompt alone.
"""

import argparse
import json
import platform
import sys
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import phi3_float64
import torch
import transformers
from phi3_bugs import CACHE_KEPT, with_bug
from phi3_checkpoint import Tensors, random_tensors, write_checkpoint, write_json
from phi3_variations import VARIATIONS, Variation, config_of
from transformers import Phi3Config, Phi3ForCausalLM

SEED = 20240423
OUT = Path(__file__).parent / "phi3"
LEAST_EFFECT = 1e-3  # of a bug on some stored row: a hundred times the tolerance of the tests
MOST_ROUNDING = 1e-5  # of float32 against float64 on any stored row: the tolerance of the tests
LEAST_MARGIN = 1e-2  # of the greedy choice over the second, in standard deviations of the logits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="variations; all if none is named")
    names = parser.parse_args().names or list(VARIATIONS)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # the order of sums, and so the last bits, depend on it
    index = OUT / "cases.json"
    cases = {case["name"]: case for case in json.loads(index.read_text())["cases"]} if index.exists() else {}
    for name in names:
        cases[name] = make(name, VARIATIONS[name])
        print(name, cases[name]["error_from_float64_with_angles"], cases[name]["error_if"], flush=True)
    made_by = {
        "command": "python tests/reference/make_phi3.py",
        "seed": SEED,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "dtype": "float32",
        "attention": "eager",
    }
    write_json(index, {"made_by": made_by, "cases": [cases[name] for name in VARIATIONS if name in cases]})
    return 0


def make(name: str, variation: Variation) -> dict[str, Any]:
    """Write one folder; return its entry of cases.json."""
    config, seed = config_of(variation), SEED + zlib.crc32(name.encode())
    tensors = random_tensors(config, seed, variation.full_precision)
    write_checkpoint(OUT / name, config, tensors, variation.n_shards)
    model = load(OUT / name, config)

    rng = np.random.default_rng(seed + 1)
    prompts = [rng.integers(0, config["vocab_size"], length) for length in variation.lengths]
    positions = [stored_positions(length) for length in variation.lengths]
    logits = [forward(model, *pair) for pair in zip(prompts, positions, strict=True)]
    steps = rng.integers(0, config["vocab_size"], max(variation.step_lengths))
    step_logits = [forward(model, steps[:length], [length - 1])[0] for length in variation.step_lengths]
    greedy_prompt, greedy_ids, margin = greedy(model, config, rng, *variation.greedy)

    arrays = {
        "greedy_prompt": greedy_prompt,
        "greedy_ids": greedy_ids,
        "steps_ids": steps,
        "steps_lengths": variation.step_lengths,
        "steps_logits": step_logits,
        **frequencies(model),
    }
    for i, parts in enumerate(zip(prompts, positions, logits, strict=True)):
        arrays |= dict(zip((f"prompt_{i}", f"positions_{i}", f"logits_{i}"), parts, strict=True))
    np.savez_compressed(OUT / name / "reference.npz", **{key: narrow(value) for key, value in arrays.items()})

    entry = {
        "name": name,
        "about": variation.about,
        "folder": name,
        "reference": f"{name}/reference.npz",
        "exact_in": ["float32"] if variation.full_precision else ["float32", "float16", "bfloat16"],
        "prompts": [
            {"key": i, "length": length, "positions": positions[i]} for i, length in enumerate(variation.lengths)
        ],
        "steps": list(variation.step_lengths),
        "greedy": {"prompt_length": len(greedy_prompt), "ids": greedy_ids, "least_margin": round(margin, 4)},
        "attention_factor": model.model.rotary_emb.attention_scaling,
        "error_from_float64_with_angles": rounding(config, tensors, prompts, positions, logits),
        "error_if": {
            bug: effect(bug, config, tensors, variation, prompts, positions, logits, steps, step_logits)
            for bug in variation.bugs
        },
    }
    blind = [bug for bug, error in entry["error_if"].items() if error["largest"] < LEAST_EFFECT]
    if blind or entry["error_from_float64_with_angles"]["float32"] > MOST_ROUNDING:
        sys.exit(f"{name}: does not show {blind}, or rounds too much: {json.dumps(entry, indent=1)}")
    return entry


def load(folder: Path, config: dict[str, Any]) -> Phi3ForCausalLM:
    model, report = Phi3ForCausalLM.from_pretrained(
        folder, config=oracle_config(config), dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    if any(report.values()):
        sys.exit(f"{folder}: transformers found other tensors than those of the architecture: {report}")
    return model.eval()


def oracle_config(config: dict[str, Any]) -> Phi3Config:
    """transformers 5.23 stops with a KeyError at `su`, though it means to accept it; it is `longrope` there."""
    config = deepcopy(config)  # Phi3Config writes into the dictionaries it is given
    if (config.get("rope_scaling") or {}).get("type") == "su":
        config["rope_scaling"]["type"] = "longrope"
    return Phi3Config(**config)


def stored_positions(length: int) -> list[int]:
    return sorted({p for p in (0, 7, 31, length // 2, length - 2, length - 1) if 0 <= p < length})


@torch.no_grad()
def forward(model: Phi3ForCausalLM, ids: np.ndarray, positions: list[int]) -> np.ndarray:
    out = model(torch.tensor(ids)[None], use_cache=False, logits_to_keep=torch.tensor(positions))
    return out.logits[0].numpy()


def greedy(
    model: Phi3ForCausalLM, config: dict[str, Any], rng: np.random.Generator, length: int, count: int
) -> tuple[np.ndarray, list[int], float]:
    """A prompt, its greedy continuation by a full pass for each token, and the least margin of a choice.

    Tries prompts until no choice is a near tie, none is a special id, and the text does not only repeat itself.
    """
    for _ in range(100):
        prompt = rng.integers(0, config["vocab_size"], length)
        ids, margin = [], np.inf
        while len(ids) < count and margin > LEAST_MARGIN:
            logits = forward(model, np.append(prompt, ids).astype(np.int64), [length + len(ids) - 1])[0]
            second, first = np.sort(logits)[-2:]
            ids.append(int(logits.argmax()))
            margin = min(margin, float((first - second) / logits.std()))
            if not 2 < ids[-1] < config["eos_token_id"]:
                break
        if len(ids) == count and margin > LEAST_MARGIN and len(set(ids)) >= count // 3:
            return prompt, ids, margin
    sys.exit("no prompt in 100 has a clear greedy continuation")


def frequencies(model: Phi3ForCausalLM) -> dict[str, np.ndarray]:
    """The float32 inverse frequencies in use, by table."""
    rope = model.model.rotary_emb
    if rope.rope_type == "default":
        return {"inv_freq": rope.original_inv_freq.numpy()}
    return {"inv_freq_short": rope.original_inv_freq.numpy(), "inv_freq_long": rope.long_inv_freq.numpy()}


def rounding(
    config: dict[str, Any],
    tensors: Tensors,
    prompts: list[np.ndarray],
    positions: list[list[int]],
    logits: list[np.ndarray],
) -> dict[str, float]:
    """Largest relative error of the stored rows against float64, for each way to round the angles there."""
    result = {}
    for angles in ("float32", "float64 inv_freq", "exact"):
        exact = [
            phi3_float64.logits(config, tensors, ids, np.array(at), angles)
            for ids, at in zip(prompts, positions, strict=True)
        ]
        result[angles] = figure(max(errors(a, b).max() for a, b in zip(logits, exact, strict=True)))
    return result


def effect(
    bug: str,
    config: dict[str, Any],
    tensors: Tensors,
    variation: Variation,
    prompts: list[np.ndarray],
    positions: list[list[int]],
    logits: list[np.ndarray],
    steps: np.ndarray,
    step_logits: list[np.ndarray],
) -> dict[str, Any]:
    """Largest relative error that a bug causes, and at which lengths it is large enough to be seen."""
    if bug == CACHE_KEPT:
        wrong = cached_steps(load_edited(config, tensors), steps, variation.step_lengths)
        by_length = {
            length: errors(a[None], b[None]).max()
            for length, a, b in zip(variation.step_lengths, wrong, step_logits, strict=True)
        }
    else:
        model = load_edited(*with_bug(bug, config, tensors))
        by_length = {
            len(ids): errors(forward(model, ids, at), right).max()
            for ids, at, right in zip(prompts, positions, logits, strict=True)
        }
    return {
        "largest": figure(max(by_length.values())),
        "lengths": [length for length, error in by_length.items() if error > LEAST_EFFECT],
    }


def load_edited(config: dict[str, Any], tensors: Tensors) -> Phi3ForCausalLM:
    config = oracle_config(config)
    config._attn_implementation = "eager"
    model = Phi3ForCausalLM(config).eval()
    tensors = {name: torch.tensor(tensor) for name, tensor in tensors.items()}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True)
    return model


@torch.no_grad()
def cached_steps(model: Phi3ForCausalLM, ids: np.ndarray, lengths: tuple[int, ...]) -> list[np.ndarray]:
    """Last logits of each prefix, decoded with one cache that is never rebuilt."""
    out = model(torch.tensor(ids[: lengths[0]])[None], use_cache=True, logits_to_keep=1)
    rows = [out.logits[0, -1].numpy()]
    for length in lengths[1:]:
        token = torch.tensor(ids[length - 1 : length])[None]
        out = model(
            token, past_key_values=out.past_key_values, use_cache=True, position_ids=torch.tensor([[length - 1]])
        )
        rows.append(out.logits[0, -1].numpy())
    return rows


def errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Relative error of each row of logits, in the norm of that row."""
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


def narrow(value: Any) -> np.ndarray:
    """Arrays as they are stored: float32 and int32."""
    array = np.asarray(value)
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def figure(value: float) -> float:
    return float(f"{value:.2g}")


if __name__ == "__main__":
    sys.exit(main())
