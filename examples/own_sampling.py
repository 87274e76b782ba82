"""A function of one's own takes part in the sampling, and a loop of one's own looks at every token."""

import slmkit


def no_letter_e(ids, logits):
    """Forbid every token with an e in it (a lipogram)."""
    logits = logits.copy()
    logits[tokens_with_e] = -float("inf")
    return logits


with slmkit.load("tiny") as model:
    tokenizer = model.backend.loaded.tokenizer
    tokens_with_e = [i for i in range(tokenizer.vocab_size) if b"e" in tokenizer.bytes_of(i).lower()]

    generator = model.generator("A small cat", processors=[no_letter_e], max_tokens=40, temperature=0.8, seed=1)
    while not generator.done:
        print(generator.next().text, end="", flush=True)
    print()
