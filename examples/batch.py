"""Many prompts at once: one batch, each answer the same to the bit as if it were alone."""

import slmkit

prompts = ["Once upon a time", "The sun", "In the old house by the sea there lived"]
settings = {"max_tokens": 24, "seed": 1}  # tiny samples its answers; a seed makes them repeatable
with slmkit.load("tiny") as model:
    together = model.generate(prompts, **settings)
    alone = [model.generate(prompt, **settings) for prompt in prompts]
    for prompt, answer in zip(prompts, together, strict=True):
        print(f"{prompt}{answer}\n")
    assert [answer.text for answer in together] == [answer.text for answer in alone]
