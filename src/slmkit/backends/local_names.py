"""Which of our models is the one that a service calls by a name of its own."""

from __future__ import annotations

from slmkit.weights.names import PUBLISHED, SHORT_NAMES, short_name


def local_name(name: str) -> str | None:
    """The short name of a published model; None where the name is that of none, as a deployment's may be.

    Names are compared without their owner, tag of Ollama's latest, and case.
    """
    plain = name.strip().lower().removesuffix(":latest")
    if plain in SHORT_NAMES:
        return short_name(SHORT_NAMES[plain])
    last = plain.rpartition("/")[2]
    return next((short_name(id) for id in PUBLISHED if id.lower().rpartition("/")[2] == last), None)
