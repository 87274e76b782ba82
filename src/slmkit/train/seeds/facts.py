"""Small facts, written by hand, and the questions that ask for them."""

# ruff: noqa: E501, SIM905 (tables)
from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.train.seeds.words import ANIMALS, COLOURS, FOODS, a

if TYPE_CHECKING:
    import random

Turn = tuple[str, str]

# fmt: off
SOUNDS = {"dog": "woof", "cat": "meow", "cow": "moo", "pig": "oink", "sheep": "baa", "duck": "quack", "lion": "roar",
          "frog": "croak", "bee": "buzz", "owl": "hoot", "snake": "hiss", "mouse": "squeak", "horse": "neigh",
          "hen": "cluck", "wolf": "howl", "bird": "tweet", "donkey": "hee-haw", "goose": "honk", "goat": "maa"}
CLASSES = {
    "mammal": "dog cat rabbit mouse bear fox horse cow pig sheep goat lion tiger elephant monkey giraffe zebra hippo "
              "squirrel hedgehog wolf deer whale dolphin donkey camel kangaroo panda koala bat",
    "bird": "duck hen owl penguin parrot swan goose chick", "insect": "bee butterfly ant",
    "reptile": "crocodile turtle tortoise snake",
}
LEGS = {"mammal": "four", "bird": "two", "insect": "six"}
NOT_FOUR = {"monkey": "two", "whale": "no", "dolphin": "no", "bat": "two", "kangaroo": "two"}
BABIES = {"dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal", "lion": "cub", "bear": "cub",
          "duck": "duckling", "goat": "kid", "hen": "chick", "pig": "piglet", "frog": "tadpole", "deer": "fawn",
          "kangaroo": "joey", "goose": "gosling", "owl": "owlet", "swan": "cygnet", "fox": "cub", "wolf": "pup"}
OPPOSITES = ("big small", "hot cold", "up down", "happy sad", "day night", "fast slow", "old young", "open closed",
             "good bad", "high low", "long short", "light dark", "full empty", "rich poor", "strong weak", "wet dry",
             "hard soft", "loud quiet", "early late", "left right", "begin end", "black white", "in out", "near far",
             "clean dirty", "thick thin", "sweet sour", "first last", "win lose", "push pull", "love hate", "yes no",
             "asleep awake", "same different", "heavy light", "easy difficult", "deep shallow", "wide narrow")
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "England": "London",
    "Ireland": "Dublin", "Poland": "Warsaw", "Greece": "Athens", "Russia": "Moscow", "China": "Beijing", "Japan": "Tokyo",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa", "Mexico": "Mexico City",
    "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Australia": "Canberra", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Austria": "Vienna", "Switzerland": "Bern", "Belgium": "Brussels",
    "the Netherlands": "Amsterdam", "Turkey": "Ankara", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago",
    "Ghana": "Accra", "Ethiopia": "Addis Ababa", "South Korea": "Seoul", "Thailand": "Bangkok", "Iran": "Tehran",
    "Hungary": "Budapest", "the United States": "Washington, D.C.", "Iceland": "Reykjavik", "Ukraine": "Kyiv",
    "Colombia": "Bogota", "Nepal": "Kathmandu", "Scotland": "Edinburgh", "Wales": "Cardiff", "Vietnam": "Hanoi",
}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty").split()
COLOUR_OF = {"the sky": "blue", "grass": "green", "snow": "white", "the sun": "yellow", "a banana": "yellow", "milk": "white",
             "a tomato": "red", "an orange": "orange", "a carrot": "orange", "coal": "black", "a lemon": "yellow",
             "blood": "red", "an elephant": "grey", "chocolate": "brown", "a leaf": "green", "a frog": "green",
             "a strawberry": "red", "the sea": "blue", "a polar bear": "white", "a cherry": "red", "the night": "black"}
LISTS = {"animals": list(ANIMALS), "colours": list(COLOURS), "fruits": "apple banana pear plum cherry orange lemon grape mango "
         "peach".split(), "vegetables": "carrot potato onion cabbage pea bean tomato pumpkin".split(), "foods": list(FOODS),
         "days of the week": DAYS, "months": MONTHS, "toys": "ball doll kite drum train puzzle".split(),
         "farm animals": "cow pig sheep hen horse goat duck".split(), "birds": "owl duck swan parrot goose penguin".split(),
         "things in a kitchen": "pot spoon cup plate knife pan".split(), "clothes": "hat coat shirt sock shoe scarf".split()}
# fmt: on
PLAIN = """
What is the sun?|The sun is a star. It gives us light and warmth.
What is the moon?|The moon goes around the earth. At night, it shines with the light of the sun.
What is rain?|Rain is water that falls from the clouds.
What is snow?|Snow is frozen water that falls from the clouds in winter.
What is a star?|A star is a very big, very hot ball of gas, far away in space.
What is the sea?|The sea is a very large area of salt water.
What is a tree?|A tree is a tall plant with a trunk, branches and leaves.
What is a book?|A book has many pages with words on them. You can read it.
What is a friend?|A friend is someone who likes you and helps you.
What is love?|Love is a strong, warm feeling for someone.
What is music?|Music is sounds that are put together so that they are nice to hear.
What is water?|Water is a clear liquid that all living things need.
What is fire?|Fire is hot and bright. It is what happens when something burns.
What is wind?|Wind is air that moves.
What is a cloud?|A cloud is made of many tiny drops of water high in the sky.
What is a rainbow?|A rainbow is a bow of colours in the sky. You see it when the sun shines through rain.
What is a river?|A river is water that flows over the land to the sea.
What is a mountain?|A mountain is very high land, higher than a hill.
What is a school?|A school is a place where children learn.
What is a computer?|A computer is a machine that can work with numbers, words and pictures.
What is a robot?|A robot is a machine that can do some work by itself.
What is a doctor?|A doctor is a person who helps sick people to get well.
What is a teacher?|A teacher is a person who helps others to learn.
What is a farmer?|A farmer is a person who grows food and keeps animals.
What is winter?|Winter is the coldest season of the year.
What is summer?|Summer is the warmest season of the year.
What is spring?|Spring is the season when flowers begin to grow.
What is autumn?|Autumn is the season when leaves fall from the trees.
What is the earth?|The earth is the planet that we live on.
What is a planet?|A planet is a big round thing in space that goes around a star.
What is a language model?|A language model is a program that has read a lot of text and guesses the next word.
What is bread?|Bread is a food made from flour and water and baked in an oven.
What is milk?|Milk is a white drink that comes from cows and other animals.
What is honey?|Honey is a sweet food that bees make.
What is gold?|Gold is a yellow metal that is worth a lot of money.
What is ice?|Ice is water that is so cold that it has become hard.
Why is the sky blue?|The air spreads blue light more than other colours, so the sky looks blue.
Why do we sleep?|We sleep because the body and the brain need to rest.
Why do we eat?|We eat because food gives us the energy to live and grow.
Why does it rain?|Small drops of water in the clouds grow heavy and fall down.
Why do birds fly?|Birds fly to find food, to be safe, and to travel to warm places.
Why do we drink water?|Our bodies need water to live.
Why are leaves green?|Leaves are green because of something in them that takes in the light of the sun.
How many days are in a week?|There are seven days in a week.
How many months are in a year?|There are twelve months in a year.
How many hours are in a day?|There are twenty-four hours in a day.
How many minutes are in an hour?|There are sixty minutes in an hour.
How many days are in a year?|There are 365 days in a year, and 366 in a leap year.
How many seasons are there?|There are four seasons: spring, summer, autumn and winter.
How many legs does a spider have?|A spider has eight legs.
How many fingers do people have?|Most people have ten fingers.
How many continents are there?|There are seven continents.
How many planets are there?|Eight planets go around the sun.
What are the seasons?|The seasons are spring, summer, autumn and winter.
What are the days of the week?|Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.
Which animal is the biggest?|The blue whale is the biggest animal.
Which animal is the tallest?|The giraffe is the tallest animal.
Which animal is the fastest?|The cheetah is the fastest animal on land.
Which planet do we live on?|We live on the planet Earth.
Which is bigger, an elephant or a mouse?|An elephant is bigger than a mouse.
Which is faster, a car or a snail?|A car is faster than a snail.
Which is hotter, fire or ice?|Fire is hotter than ice.
Where does milk come from?|Milk comes from cows and other animals.
Where does honey come from?|Honey is made by bees.
Where do fish live?|Fish live in water.
Where do bees live?|Bees live in a hive.
Who lives in a castle?|Kings and queens live in a castle.
What do bees make?|Bees make honey.
What do we see with?|We see with our eyes.
What do we hear with?|We hear with our ears.
What do plants need to grow?|Plants need water, light, air and good soil.
What comes after night?|After the night comes the morning.
Is the sun hot?|Yes, the sun is very hot.
Is ice cold?|Yes, ice is cold.
Is the moon made of cheese?|No, the moon is made of rock.
Is a whale a fish?|No, a whale is a mammal. It breathes air.
Is a tomato a fruit?|Yes, a tomato is a fruit, but we cook it like a vegetable.
Is the earth flat?|No, the earth is round.
Can birds fly?|Most birds can fly, but penguins and ostriches cannot.
Can fish swim?|Yes, fish can swim very well.
Can dogs fly?|No, dogs cannot fly. They can run and jump.
Can cats swim?|Cats can swim, but most of them do not like water.
Do fish have legs?|No, fish have no legs. They have fins.
Do penguins fly?|No, penguins cannot fly, but they swim very well.
"""


def plain() -> list[Turn]:
    """The questions above, with their answers."""
    pairs = (line.split("|") for line in PLAIN.strip().splitlines())
    return [(question, answer) for question, answer in pairs]


def about_animal(chance: random.Random) -> Turn:
    """A question about an animal, from the tables."""
    kind = chance.choice(list(ANIMALS))
    _, food, good_at = ANIMALS[kind]
    group = next((name for name, members in CLASSES.items() if kind in members.split()), "")
    one = a(kind)
    asked: list[Turn] = [
        (f"What does {one} eat?", f"{one.capitalize()} likes to eat {food}."),
        (f"What do {plural(kind)} eat?", f"{plural(kind).capitalize()} like to eat {food}."),
        (f"What is {one} good at?", f"{one.capitalize()} is good at {good_at}."),
        (
            f"Write a sentence about {one}.",
            chance.choice(
                [
                    f"The {kind} likes to eat {food}.",
                    f"The little {kind} is good at {good_at}.",
                    f"There is {one} in the garden.",
                    f"I saw {one} near the river today.",
                ]
            ),
        ),
    ]
    if group:
        asked.append((f"What is {one}?", f"{one.capitalize()} is {a(group)}. It likes to eat {food}."))
        asked.append((f"What kind of animal is {one}?", f"{one.capitalize()} is {a(group)}."))
    if group in LEGS:
        n_legs = NOT_FOUR.get(kind, LEGS[group])
        asked.append((f"How many legs does {one} have?", f"{one.capitalize()} has {n_legs} legs."))
    if kind in SOUNDS:
        asked.append((f"What sound does {one} make?", f'{one.capitalize()} says "{SOUNDS[kind]}".'))
        asked.append((f"What does the {kind} say?", f'The {kind} says "{SOUNDS[kind]}".'))
    if kind in BABIES:
        asked.append((f"What is a baby {kind} called?", f"A baby {kind} is called {a(BABIES[kind])}."))
    return chance.choice(asked)


def from_tables(chance: random.Random) -> Turn:
    """A question about opposites, capitals, days, months, numbers, colours or lists."""

    def neighbours(names: list[str], what: str) -> Turn:
        i = chance.randrange(len(names))
        after, before = names[(i + 1) % len(names)], names[i - 1]
        return chance.choice(
            [
                (f"What {what} comes after {names[i]}?", f"{after} comes after {names[i]}."),
                (f"What {what} comes before {names[i]}?", f"{before} comes before {names[i]}."),
            ]
        )

    which = chance.randrange(8)
    if which == 0:
        pair = chance.choice(OPPOSITES).split()
        chance.shuffle(pair)
        return (
            chance.choice([f"What is the opposite of {pair[0]}?", f'What is the opposite of "{pair[0]}"?']),
            f"The opposite of {pair[0]} is {pair[1]}.",
        )
    if which == 1:
        country = chance.choice(list(CAPITALS))
        return chance.choice(
            [
                (f"What is the capital of {country}?", f"The capital of {country} is {CAPITALS[country]}."),
                (f"Which city is the capital of {country}?", f"{CAPITALS[country]} is the capital of {country}."),
            ]
        )
    if which == 2:
        return neighbours(DAYS, "day")
    if which == 3:
        return neighbours(MONTHS, "month")
    if which == 4:
        n = chance.randint(3, 12)
        digits = chance.random() < 0.5
        counted = ", ".join(str(i) if digits else NUMBERS[i] for i in range(1, n + 1))
        return f"Count to {n if digits else NUMBERS[n]}.", f"{counted.capitalize()}."
    if which == 5:
        thing = chance.choice(list(COLOUR_OF))
        return f"What colour is {thing}?", f"{thing.capitalize()} is {COLOUR_OF[thing]}."
    if which == 6:
        what = chance.choice(list(LISTS))
        n = chance.randint(2, 5)
        named = chance.sample(LISTS[what], n)
        if chance.random() < 0.3:
            return f"Make a list of {NUMBERS[n]} {what}.", "\n".join(f"- {name}" for name in named)
        return (
            f"{chance.choice(['Name', 'List', 'Tell me', 'Give me'])} {NUMBERS[n]} {what}.",
            f"{', '.join(named[:-1])} and {named[-1]}.".capitalize(),
        )
    x, y = chance.randint(0, 10), chance.randint(0, 10)
    if chance.random() < 0.5:
        return f"What is {x} + {y}?", f"{x} + {y} = {x + y}"
    x, y = max(x, y), min(x, y)
    return f"What is {x} - {y}?", f"{x} - {y} = {x - y}"


def plural(noun: str) -> str:
    """More than one of an animal."""
    irregular = {
        "mouse": "mice",
        "sheep": "sheep",
        "deer": "deer",
        "fish": "fish",
        "goose": "geese",
        "wolf": "wolves",
        "butterfly": "butterflies",
        "puppy": "puppies",
        "monkey": "monkeys",
        "donkey": "donkeys",
        "fox": "foxes",
    }
    return irregular.get(noun, noun + "s")
