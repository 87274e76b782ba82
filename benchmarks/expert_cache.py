"""Hit rates of rules for which experts stay in memory, on made-up routes of a true shape.

    python benchmarks/expert_cache.py [--tokens 4000]

32 layers of 16 experts, two a token. In each layer some experts are liked more than others (a power law), and every 500
tokens the subject changes: half of the layers shuffle their likes. A weight of 0 is what random weights do.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from slmkit.weights.resident import Resident

LAYERS, EXPERTS, CHOICES, SUBJECT = 32, 16, 2, 500


def routes(tokens: int, skew: float, rng: np.random.Generator) -> np.ndarray:
    """Chosen experts: (tokens, layers, choices)."""
    likes = np.stack([rng.permutation(-skew * np.log(np.arange(1, EXPERTS + 1))) for _ in range(LAYERS)])
    out = np.empty((tokens, LAYERS, CHOICES), np.int64)
    for t in range(tokens):
        if t and t % SUBJECT == 0:
            for layer in rng.permutation(LAYERS)[: LAYERS // 2]:
                rng.shuffle(likes[layer])
        out[t] = np.argsort(-(likes + rng.gumbel(size=likes.shape)), axis=1)[:, :CHOICES]
    return out


def fading(trace: np.ndarray, room: int) -> float:
    """slmkit's own: the least used of late goes."""
    keys = {(layer, e): [] for layer in range(LAYERS) for e in range(EXPERTS)}
    resident = Resident(room, keys, LAYERS)
    resident._sizes = dict.fromkeys(keys, 1)
    for token in trace:
        for layer, chosen in enumerate(token):
            resident.use([(layer, int(e)) for e in chosen])
    return 1 - resident.misses / resident.uses


def least_recent(trace: np.ndarray, room: int) -> float:
    held: OrderedDict[tuple[int, int], None] = OrderedDict()
    hits = 0
    for token in trace:
        for layer, chosen in enumerate(token):
            for e in chosen:
                hits += (layer, e) in held
                held[layer, e] = None
                held.move_to_end((layer, e))
                if len(held) > room:
                    held.popitem(last=False)
    return hits / trace.size


def pinned(trace: np.ndarray, room: int) -> float:
    """The most used of the first fifth stay for ever; what is left of the room is the least layer's two."""
    keys = trace + np.arange(LAYERS)[None, :, None] * EXPERTS
    counts = np.bincount(keys[: len(keys) // 5].ravel(), minlength=LAYERS * EXPERTS)
    return float(np.isin(keys, np.argsort(-counts)[: room - CHOICES]).mean())


RULES: dict[str, Callable[[np.ndarray, int], float]] = {"fading": fading, "LRU": least_recent, "pinned": pinned}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4000)
    tokens = parser.parse_args().tokens
    print("hits of", ", ".join(RULES))
    for skew in (0.0, 0.7, 1.2):
        trace = routes(tokens, skew, np.random.default_rng(1))
        for share in (0.25, 0.5, 0.75):
            room = int(LAYERS * EXPERTS * share)
            rates = "  ".join(f"{rule(trace, room):.3f}" for rule in RULES.values())
            print(f"skew {skew}, room for {share:.0%}: {rates}", flush=True)


if __name__ == "__main__":
    main()
