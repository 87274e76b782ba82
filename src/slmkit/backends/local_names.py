"""Which of our models is the one that a service calls by a name of its own."""

from __future__ import annotations

from slmkit.weights.names import BUNDLED, PUBLISHED, SHORT_NAMES, short_name


def local_name(name: str) -> str | None:
    """The short name of a published model, or of the bundled one; None where a name tells none, as a deployment's may.

    Names are compared without their owner, tag of Ollama's latest, and case.
    """
    plain = name.strip().lower().removesuffix(":latest")
    if plain == BUNDLED:
        return BUNDLED
    if plain in SHORT_NAMES:
        return short_name(SHORT_NAMES[plain])
    last = plain.rpartition("/")[2]
    return next((short_name(id) for id in PUBLISHED if id.lower().rpartition("/")[2] == last), None)
