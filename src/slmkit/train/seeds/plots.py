"""The plots of the made stories, read from plots.txt, and what fills their places."""

from __future__ import annotations

from functools import cache
from pathlib import Path

Beat = tuple[str, ...]  # wordings to choose from; "" skips the beat

# fmt: off
FEARS = ("the dark", "water", "thunder", "high places", "the big river", "loud noises", "strangers", "the forest",
         "the old bridge", "storms", "deep water", "shadows")
BUILDS = ("boat", "kite", "little house", "bridge", "swing", "cart", "drum", "lamp", "chair", "tree house")
SKILLS = ("swim", "sing", "dance", "read", "ride a bicycle", "climb the tall tree", "whistle", "paint",
          "count to one hundred", "bake bread", "play the drum", "jump over the stream",
          "write {his} name", "skate on the ice", "tie a knot")
WISHES = ("to see the sea", "to fly like a bird", "to touch the moon", "to see the snow", "to find a friend",
          "to have a garden", "to see the world", "to hear the song of the sea", "to make the king laugh")
# fmt: on


@cache
def frame() -> tuple[Beat, Beat, Beat]:
    """How a story opens, what its hero is like, how it ends."""
    openings, traits, endings = _sections()[""]
    return openings, traits, endings


@cache
def plots() -> dict[str, tuple[Beat, ...]]:
    """The beats of each plot, by its name."""
    return {name: tuple(beats) for name, beats in _sections().items() if name}


@cache
def _sections() -> dict[str, list[Beat]]:
    text = (Path(__file__).parent / "plots.txt").read_text(encoding="utf-8")
    sections: dict[str, list[Beat]] = {"": []}
    name = ""
    for block in text.split("\n\n"):
        lines = [line for line in block.strip().split("\n") if not line.startswith("#")]
        if lines and lines[0].startswith("= "):
            name = lines[0].removeprefix("= ")
            sections[name] = []
        elif lines:
            sections[name].append(tuple("" if line == "-" else line for line in lines))
    return sections
