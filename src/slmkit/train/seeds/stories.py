"""Short stories by rule: a hero that the user asked for, a plot, and chance for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.train.seeds.plots import BUILDS, FEARS, SKILLS, WISHES, frame, plots
from slmkit.train.seeds.words import (
    ANIMALS,
    BOYS,
    COLOURS,
    DAYS,
    FOODS,
    GIRLS,
    LOOKS,
    NOUNS,
    PEOPLE,
    PETS,
    PLACES,
    THINGS,
    TREASURES,
    a,
)

if TYPE_CHECKING:
    import random

_FORMS = {"he": ("he", "him", "his", "himself"), "she": ("she", "her", "her", "herself")}


@dataclass(frozen=True)
class Character:
    """Somebody in a story."""

    kind: str
    name: str
    sex: str  # "he" or "she"
    home: str
    likes: str
    good_at: str


@dataclass(frozen=True)
class Story:
    """A story, who is in it, and what it turns on: the questions about it are asked from these."""

    text: str
    hero: Character
    friend: Character
    plot: str
    thing: str
    place: str


def character(kind: str, chance: random.Random, name: str = "") -> Character:
    """Somebody of a kind (an animal, a person or a thing of `words`), with a name and tastes."""
    sex = PEOPLE.get(kind, ("", ""))[1] or chance.choice(["he", "she"])
    names = (BOYS if sex == "he" else GIRLS) if kind in PEOPLE or chance.random() < 0.5 else PETS
    if kind in ANIMALS:
        home, likes, good_at = ANIMALS[kind]
    else:
        home = PEOPLE[kind][0] if kind in PEOPLE else THINGS.get(kind, ("small town", ""))[0]
        likes, good_at = (
            chance.choice(FOODS),
            chance.choice(["singing", "helping others", "telling stories", "playing"]),
        )
    return Character(kind, name or chance.choice(names), sex, home, likes, good_at)


def any_kind(chance: random.Random) -> str:
    """The kind of somebody: mostly an animal, sometimes a person, a thing or any other noun."""
    return chance.choice(chance.choices([list(ANIMALS), list(PEOPLE), list(THINGS), NOUNS], [5, 2, 2, 2])[0])


def tell(
    chance: random.Random,
    kind: str = "",
    *,
    name: str = "",
    look: str = "",
    friend_kind: str = "",
    place: str = "",
    plot: str = "",
) -> Story:
    """A story; what is not given is left to chance."""
    hero = character(kind or any_kind(chance), chance, name)
    friend = character(friend_kind or _other(hero.kind, chance), chance)
    while friend.name == hero.name:
        friend = character(friend.kind, chance)
    plot = plot or chance.choice(list(plots()))
    places = chance.sample([p for p in PLACES if p != place], 2)
    look = look or (f"{chance.choice(LOOKS)} " if chance.random() < 0.85 else "")
    thing = chance.choice(TREASURES)
    wish = THINGS.get(hero.kind, ("", ""))[1] or chance.choice(WISHES)
    words = _Words(
        hero,
        friend,
        chance,
        {
            "a_hero": a(look + hero.kind),
            "a_home": a(hero.home),
            "place": place or places[0],
            "place2": places[1],
            "thing": thing,
            "food": chance.choice(FOODS),
            "good": hero.good_at,
            "likes": hero.likes,
            "day": chance.choice(DAYS),
            "fear": chance.choice(FEARS),
            "build": chance.choice(BUILDS),
            "skill": chance.choice(SKILLS),
            "wish": wish,
            "colour": chance.choice(COLOURS),
            "look": look,
            "gkind": _other(hero.kind, chance),
            "G": f"the {chance.choice(['old ', '', 'wise ', 'big '])}{_other(friend.kind, chance)}",
        },
    )
    openings, traits, endings = frame()
    parts = [chance.choice(openings), chance.choice(traits) if plot not in ("friend", "birthday") else ""]
    body = [chance.choice(beat) for beat in plots()[plot]]
    ending = chance.choice(endings)
    sentences = [capitalised(part.format_map(words)) for part in [*parts, *body, ending] if part]
    return Story(_paragraphs(sentences, chance), hero, friend, plot, thing, words["place"])


def capitalised(text: str) -> str:
    """Text whose sentences start with capitals; what follows a spoken "!" or "?" stays as it is."""
    return re.sub(r"(^\"?|[^\"]\. |[!?] (?!\")|\.\" |[.!?] \")([a-z])", lambda m: m[1] + m[2].upper(), text)


def _other(kind: str, chance: random.Random) -> str:
    return chance.choice([k for k in ANIMALS if k != kind])


def _paragraphs(sentences: list[str], chance: random.Random) -> str:
    """Two or three paragraphs, or one."""
    if chance.random() < 0.35:
        return " ".join(sentences)
    third = max(2, len(sentences) // 3)
    pieces = [sentences[:third], sentences[third : 2 * third + 1], sentences[2 * third + 1 :]]
    return "\n\n".join(" ".join(piece) for piece in pieces if piece)


class _Words(Mapping[str, str]):
    """What a placeholder stands for; the hero and the friend are named or described as chance has it."""

    def __init__(self, hero: Character, friend: Character, chance: random.Random, fixed: dict[str, str]):
        he, him, his, himself = _FORMS[hero.sex]
        fhe, fhim, fhis, _ = _FORMS[friend.sex]
        self._chance, self._hero, self._friend = chance, hero, friend
        self._fixed = fixed | {
            "name": hero.name,
            "kind": hero.kind,
            "he": he,
            "him": him,
            "his": his,
            "himself": himself,
            "He": he.capitalize(),
            "His": his.capitalize(),
            "fname": friend.name,
            "fkind": friend.kind,
            "fhe": fhe,
            "fhim": fhim,
            "fhis": fhis,
            "fHe": fhe.capitalize(),
            "fHis": fhis.capitalize(),
        }
        self._fixed["skill"] = self._fixed["skill"].format(his=his)

    def __getitem__(self, key: str) -> str:
        if key == "N":
            names = [self._hero.name, f"the {self._hero.kind}", f"the {self._fixed['look']}{self._hero.kind}"]
            return self._chance.choices(names, [6, 3, 1])[0]
        if key == "F":
            look = self._chance.choice(["", "", "", f"{self._chance.choice(LOOKS)} "])
            if self._introduced():
                return self._friend.name
            return self._chance.choice(
                [
                    f"{self._friend.name} the {self._friend.kind}",
                    f"{a(look + self._friend.kind)} named {self._friend.name}",
                    f"{a(look + self._friend.kind)} called {self._friend.name}",
                ]
            )
        return self._fixed[key]

    def _introduced(self) -> bool:
        """True from the second time on that the friend is named."""
        before, self._met = getattr(self, "_met", False), True
        return before

    def __iter__(self) -> Iterator[str]:
        return iter(self._fixed)

    def __len__(self) -> int:
        return len(self._fixed)
