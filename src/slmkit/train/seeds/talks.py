"""Short conversations by rule: small talk, small questions, and stories with the talk around them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slmkit.train.seeds import facts, stories
from slmkit.train.seeds.words import ANIMALS, BOYS, GIRLS, LOOKS, PETS, PLACES, a

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

Messages = tuple[tuple[str, str], ...]
Turn = tuple[str, str]

SYSTEM = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are a helpful AI assistant.",
    "Answer briefly.",
    "You are tiny, a small language model.",
    "You are kind and helpful.",
    "Be brief and friendly.",
    "You tell stories to children.",
    "Use simple words.",
)
ASK_STORY = (
    "Tell me a story about {x}.",
    "Tell me a story about {x}.",
    "Tell me a short story about {x}.",
    "Write a story about {x}.",
    "Write a short story about {x}.",
    "Can you tell me a story about {x}?",
    "Please tell me a story about {x}.",
    "I want to hear a story about {x}.",
    "A story about {x}, please.",
    "Could you write a story about {x}?",
    "Do you know a story about {x}?",
    "Make up a story about {x}.",
    "Tell a story about {x}.",
    "Give me a story about {x}.",
    "I would like a story about {x}.",
    "Write a children's story about {x}.",
    "Tell me a bedtime story about {x}.",
)
ASK_ANY = (
    "Tell me a story.",
    "Tell me a short story.",
    "Can you tell me a story?",
    "Please tell me a story.",
    "A story, please.",
    "Write a story.",
    "I want to hear a story.",
    "Tell me a bedtime story.",
    "Do you know a story?",
    "Story time!",
    "Once more, a story please.",
    "Write a short story for children.",
    "Tell me a nice story.",
)
ANOTHER = (
    "Tell me another one.",
    "Another one, please.",
    "Tell me another story.",
    "One more story, please.",
    "One more!",
)
THEMES = {
    "friendship": "friend",
    "sharing": "share",
    "being brave": "fear",
    "a lost toy": "lost",
    "a treasure": "treasure",
    "a birthday": "birthday",
    "a storm": "storm",
    "a race": "race",
    "a seed": "seed",
    "honesty": "truth",
    "a strange noise": "noise",
    "learning something new": "learn",
    "helping a friend": "sick",
    "getting lost": "way home",
    "a wish": "wish",
}


def small_talk(chance: random.Random) -> Turn:
    """One of the hand-written exchanges of chat.txt."""
    said, answers = chance.choice(_exchanges())
    name = chance.choice(BOYS + GIRLS + PETS)
    return chance.choice(said).replace("{name}", name), chance.choice(answers).replace("{name}", name)


@cache
def _exchanges() -> list[tuple[list[str], list[str]]]:
    text = (Path(__file__).parent / "chat.txt").read_text(encoding="utf-8")
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.strip().split("\n") if not line.startswith("#")]
        said = [line[2:] for line in lines if line.startswith("> ")]
        answers = [line.replace("\\n", "\n") for line in lines if not line.startswith("> ")]
        if said:
            found.append((said, answers))
    return found


def question(chance: random.Random) -> Turn:
    """A small question and its answer."""
    which = chance.random()
    if which < 0.3:
        return facts.about_animal(chance)
    return facts.from_tables(chance) if which < 0.75 else chance.choice(facts.plain())


def story(chance: random.Random) -> tuple[str, stories.Story]:
    """A request for a story, and the story."""
    way = chance.random()
    if way < 0.12:
        return chance.choice(ASK_ANY), stories.tell(chance)
    if way < 0.2:
        theme = chance.choice(list(THEMES))
        return chance.choice(ASK_STORY).format(x=theme), stories.tell(chance, plot=THEMES[theme])
    kind = stories.any_kind(chance)
    if way < 0.28:
        name = chance.choice(PETS if kind in ANIMALS else BOYS + GIRLS)
        asked = chance.choice([f"{a(kind)} named {name}", f"{a(kind)} called {name}", f"{name} the {kind}"])
        return chance.choice(ASK_STORY).format(x=asked), stories.tell(chance, kind, name=name)
    if way < 0.4:
        friend = chance.choice([k for k in ANIMALS if k != kind])
        return chance.choice(ASK_STORY).format(x=f"{a(kind)} and {a(friend)}"), stories.tell(
            chance, kind, friend_kind=friend
        )
    if way < 0.48:
        place = chance.choice(PLACES)
        asked = chance.choice([f"{a(kind)} and the {place}", f"{a(kind)} near the {place}"])
        return chance.choice(ASK_STORY).format(x=asked), stories.tell(chance, kind, place=place)
    if kind in ("moon", "sun"):
        return chance.choice(ASK_STORY).format(x=f"the {kind}"), stories.tell(chance, kind)
    look = f"{chance.choice(LOOKS)} " if chance.random() < 0.3 else ""
    return chance.choice(ASK_STORY).format(x=a(look + kind)), stories.tell(chance, kind, look=look)


def about(told: stories.Story, chance: random.Random) -> Turn:
    """A question about a story, with its answer."""
    hero, friend = told.hero, told.friend
    asked = [
        (f"What was the {hero.kind}'s name?", f"The {hero.kind}'s name was {hero.name}."),
        (f"Who is {hero.name}?", f"{hero.name} is the {hero.kind} in the story."),
    ]
    if friend.name in told.text:
        asked += [
            (f"Who is {friend.name}?", f"{friend.name} is the {friend.kind} in the story."),
            ("Who else is in the story?", f"{friend.name} the {friend.kind} is in the story too."),
        ]
    if told.plot == "lost":
        asked.append((f"What did {hero.name} lose?", f"{hero.name} lost the {told.thing}."))
    return chance.choice(asked)


def typed(text: str, chance: random.Random) -> str:
    """What a user writes: sometimes without capitals, or without the last mark."""
    if chance.random() < 0.25:
        text = text[:-1] if text[-1] in ".!?" else text
    return text.lower() if chance.random() < 0.25 else text


def conversations(chance: random.Random) -> Iterator[Messages]:
    """Conversations without end: half of them one exchange, the others up to five, some with a system message."""
    while True:
        turns: list[Turn] = []
        told: stories.Story | None = None
        for _ in range(chance.choices([1, 2, 3, 4, 5], [5, 2, 2, 1, 1])[0]):
            way = chance.random()
            if told and way < 0.5:
                turns.append(about(told, chance))
            elif told and way < 0.6 and len(turns) < 3:
                told = stories.tell(chance)
                turns.append((chance.choice(ANOTHER), told.text))
            elif way < 0.7:
                turns.append(small_talk(chance))
            elif way < 0.93 or told:
                turns.append(question(chance))
            else:
                asked, told = story(chance)
                turns.append((asked, told.text))
        yield messages(turns, chance)


def story_requests(chance: random.Random) -> Iterator[Messages]:
    """Single exchanges without end in which a story is asked for and told."""
    while True:
        asked, told = story(chance)
        yield messages([(asked, told.text)], chance)


def messages(turns: list[Turn], chance: random.Random) -> Messages:
    """Turns as role and text, the user's as typed, with a system message now and then."""
    found = [("system", chance.choice(SYSTEM))] if chance.random() < 0.12 else []
    for asked, answer in turns:
        found += [("user", typed(asked, chance)), ("assistant", answer)]
    return tuple(found)
