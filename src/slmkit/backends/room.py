"""How many tokens a prompt leaves for its answer, in the words of every runtime in this process."""

from __future__ import annotations

from slmkit.errors import ContextExceeded, OptionError


def context_of(asked: int | None, most: int) -> int:
    """The context to run with.   asked: the caller's ctx.   most: the model's own.   Raises OptionError beyond it."""
    if asked is not None and asked > most:
        raise OptionError(f"ctx is {asked}; this model was made for at most {most} tokens")
    return asked or most


def answer_limit(n_prompt: int, asked: int | None, default: int | None, context: int, most: int) -> int:
    """Most tokens to generate.   Raises ContextExceeded, with both numbers, for more than fit.

    asked: the caller's own max_tokens.   default: the checkpoint's, which gives way to the context.
    most: the context that the model could be loaded with.
    """
    room = context - n_prompt
    larger = f", or load the model with a larger ctx (up to {most})" if context < most else ""
    if room < 1:
        raise ContextExceeded(
            f"the prompt has {n_prompt} tokens, which leaves no room for an answer in a context of {context}; shorten "
            f"the prompt{larger}"
        )
    if (asked or 1) > room:
        raise ContextExceeded(
            f"the prompt has {n_prompt} tokens and max_tokens is {asked}, together over the context of {context}; "
            f"shorten the prompt or lower max_tokens{larger}"
        )
    return asked or min(room, default or room)
