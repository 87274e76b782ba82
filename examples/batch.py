"""Many prompts at once: one batch, each answer the same to the bit as if it were alone."""

import slmkit

prompts = ["Once upon a time", "The sun", "In the old house by the sea there lived"]
with slmkit.load("tiny") as model:
    together = model.generate(prompts, max_tokens=24)
    alone = [model.generate(prompt, max_tokens=24) for prompt in prompts]
    for prompt, answer in zip(prompts, together, strict=True):
        print(f"{prompt}{answer}\n")
    assert [answer.text for answer in together] == [answer.text for answer in alone]
