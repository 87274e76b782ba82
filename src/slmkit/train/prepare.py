"""The tokens of a stage: its sources read, split by hash, encoded, and kept on disk for the next start."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from slmkit.train import data, packing
from slmkit.train import tokenizer as tokenization
from slmkit.train.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slmkit.train.recipe import Recipe, Source

TOKENIZER_SAMPLE = 6_000_000  # characters; more does not change the pieces worth having


def tokenizer_of(recipe: Recipe, folder: Path, out: Path, say: Callable[[str], None]) -> Tokenizer:
    """The run's tokenizer: learned on the first call, read from `out` on later ones."""
    path = out / "tokenizer.json"
    if not path.exists():
        texts = []
        for source in recipe.tokenizer:
            kept, _ = data.parts(folder, source, recipe)
            order = np.random.default_rng(recipe.seed).permutation(len(kept))
            budget = int(TOKENIZER_SAMPLE * source.share / sum(s.share for s in recipe.tokenizer))
            for index in order:
                budget -= len(kept[index].text)
                if budget < 0:
                    break
                texts += [text for _, text in kept[index].messages]
        made = tokenization.train(texts, recipe.model.vocab_size)
        write_whole(path, made.to_str(pretty=True).encode())
        say(f"tokenizer: {made.get_vocab_size()} ids from {sum(map(len, texts)) / 1e6:.1f} M characters")
    return Tokenizer.from_file(str(path))


def documents(
    source: Source, recipe: Recipe, folder: Path, out: Path, tokenizer: Tokenizer, say: Callable[[str], None]
) -> list[packing.Document]:
    """The training documents of a source, encoded; a later call with the same settings reads them back."""
    path = out / "tokens" / f"{_key(source, recipe, tokenizer)}.npz"
    if path.exists():
        with np.load(path) as stored:
            ends = stored["ends"]
            parts = zip(
                np.split(stored["ids"], ends[:-1]),
                np.split(stored["scored"], ends[:-1]),
                stored["may_split"],
                strict=False,
            )
            return [packing.Document(ids, scored, bool(may_split)) for ids, scored, may_split in parts]
    kept, _ = data.parts(folder, source, recipe)
    found = [packing.encode(row, tokenizer) for row in kept]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=np.concatenate([d.ids for d in found]),
        scored=np.concatenate([d.scored for d in found]),
        ends=np.cumsum([len(d.ids) for d in found]),
        may_split=np.array([d.may_split for d in found]),
    )
    write_whole(path, buffer.getvalue())
    say(f"{source.name}: {len(found)} rows, {sum(len(d.ids) for d in found) / 1e6:.2f} M tokens")
    return found


def held_out(source: Source, recipe: Recipe, folder: Path) -> list[data.Row]:
    """The rows of a source that no stage has seen."""
    return data.parts(folder, source, recipe)[1]


def _key(source: Source, recipe: Recipe, tokenizer: Tokenizer) -> str:
    """A name for the encoded source that changes whenever what is encoded would."""
    settings: dict[str, Any] = {
        **dataclasses.asdict(source),
        "share": 0,
        "seed": recipe.seed,
        "hold_out": recipe.hold_out,
        "made": data.made_version(source),
    }
    text = json.dumps(settings, sort_keys=True) + tokenizer.to_str()
    return f"{source.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
