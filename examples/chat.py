"""A conversation of two turns, streamed as it is made."""

import slmkit

messages = []
with slmkit.load("tiny") as model:
    for question in ["Tell me a story about a dog.", "And what did the cat do?"]:
        print(f"> {question}")
        messages.append({"role": "user", "content": question})
        answer = ""
        for text in model.stream(messages, max_tokens=120, temperature=0.7, seed=1):
            print(text, end="", flush=True)
            answer += text
        print("\n")
        messages.append({"role": "assistant", "content": answer})
