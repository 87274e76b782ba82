"""What a model under training says: the plainest generation, for a look between stages. Answers come from slm run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from slmkit.train.model import Phi3

PROMPTS = ("Hello!", "Who are you?", "Tell me a story about a dog.")


@torch.no_grad()
def answer(model: Phi3, tokenizer: Tokenizer, prompt: str, *, temperature: float = 0.0, seed: int = 1,
           max_tokens: int = 300) -> str:  # fmt: skip
    """The assistant's answer to one user message, up to <|end|>; temperature 0 takes the likeliest token."""
    user, assistant, end = (tokenizer.token_to_id(t) for t in ("<|user|>", "<|assistant|>", "<|end|>"))
    ids: list[int] = [user, *tokenizer.encode(prompt).ids, end, assistant]  # type: ignore[list-item]
    start, chance = len(ids), torch.Generator().manual_seed(seed)
    while len(ids) < min(start + max_tokens, model.shape.max_position_embeddings):
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature > 0:
            token = int(torch.multinomial((logits / temperature).softmax(0), 1, generator=chance))
        else:
            token = int(logits.argmax())
        if token == end:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:])
