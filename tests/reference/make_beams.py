"""Make tests/reference/beams.json again: beam searches of `transformers` over stored tiny checkpoints.

    python tests/reference/make_beams.py

The oracle is `generate(num_beams=..., early_stopping=False)` in float32. A search is stored only if no choice in it was
a near tie: it comes out the same with noise of 1e-4 on every logit, ten times what rounding does to them.
"""

import itertools
import json
import sys
from typing import Any

import numpy as np
import torch
import transformers
from make_phi3 import OUT, load

SCORES_TOLERANCE = 1e-3  # scores of the stored answers differ by more than this from each other
CASES = ("gqa", "tied", "longrope")
SETTINGS = [
    {
        "num_beams": beams,
        "length_penalty": penalty,
        "max_new_tokens": limit,
        "n_stops": stops,
        "repetition_penalty": rep,
    }
    for beams, penalty, limit, stops, rep in [
        (2, 1.0, 6, 1, 1.0),
        (3, 1.0, 12, 20, 1.0),
        (3, 0.0, 12, 20, 1.0),
        (3, 2.0, 12, 20, 1.0),
        (4, -1.0, 10, 40, 1.0),
        (4, 1.0, 10, 60, 1.0),
        (2, 1.0, 8, 90, 1.0),
        (5, 0.5, 16, 10, 1.0),
        (3, 1.0, 10, 20, 1.3),
    ]
]


def main() -> int:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = []
    for case, (number, setting) in itertools.product(CASES, enumerate(SETTINGS)):
        config = json.loads((OUT / case / "config.json").read_text())
        model = load(OUT / case, config)
        for attempt in range(50):
            rng = np.random.default_rng([number, attempt, len(case)])
            prompt = rng.integers(3, 120, 26).tolist()
            stops = sorted(rng.choice(np.arange(3, 120), setting["n_stops"], replace=False).tolist())
            ids, scores = search(model, prompt, stops, setting)
            if ids == search(model, prompt, stops, setting, noise=1e-4)[0] and apart(scores):
                found.append(
                    {"case": case, "prompt": prompt, "stop_ids": stops, **setting, "ids": ids, "scores": scores}
                )
                break
        else:
            sys.exit(f"{case} {setting}: every search of 50 has a near tie")
    made_by = {
        "command": "python tests/reference/make_beams.py",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "early_stopping": False,
        "dtype": "float32",
    }
    lines = ",\n".join("  " + json.dumps(entry) for entry in found)
    (OUT.parent / "beams.json").write_text(
        f'{{\n "made_by": {json.dumps(made_by)},\n "searches": [\n{lines}\n ]\n}}\n', encoding="utf-8"
    )
    print(len(found), sum(len(set(map(len, e["ids"]))) > 1 for e in found), "with answers of unequal length")
    return 0


@torch.no_grad()
def search(
    model: Any, prompt: list[int], stops: list[int], setting: dict[str, Any], noise: float = 0.0
) -> tuple[list[list[int]], list[float]]:
    """Ids of the answers, best first, end tokens included, and their scores to six digits."""
    torch.manual_seed(0)
    head = model.lm_head.register_forward_hook(lambda module, args, out: out + noise * torch.randn_like(out))
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        early_stopping=False,
        num_beams=setting["num_beams"],
        num_return_sequences=setting["num_beams"],
        length_penalty=setting["length_penalty"],
        max_new_tokens=setting["max_new_tokens"],
        eos_token_id=stops,
        repetition_penalty=setting["repetition_penalty"],
        pad_token_id=127,
        return_dict_in_generate=True,
        output_scores=True,
    )
    head.remove()
    ids = [row[len(prompt) :].tolist() for row in out.sequences]
    for row in ids:
        while row[-1] == 127:
            row.pop()
    return ids, [round(float(score), 6) for score in out.sequences_scores]


def apart(scores: list[float]) -> bool:
    return all(a - b > SCORES_TOLERANCE for a, b in itertools.pairwise(scores))


if __name__ == "__main__":
    sys.exit(main())
