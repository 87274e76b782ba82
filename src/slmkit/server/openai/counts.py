"""What an answer took: tokens and seconds, over all of its choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slmkit.events import Finished


def usage(prompts: Sequence[Sequence[Finished]]) -> dict[str, Any]:
    """prompts: for each prompt the ends of its choices, which read it once."""
    read = sum(choices[0].usage.prompt_tokens for choices in prompts)
    cached = sum(min(each.usage.cached_tokens for each in choices) for choices in prompts)
    written = sum(each.usage.completion_tokens for choices in prompts for each in choices)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def timing(prompts: Sequence[Sequence[Finished]]) -> dict[str, float]:
    """Seconds from the moment that the engine took the request."""
    ends = [each.timing for choices in prompts for each in choices]
    first, total = min(end.first_token_s for end in ends), max(end.total_s for end in ends)
    return {"first_token_s": round(first, 6), "total_s": round(total, 6)}
