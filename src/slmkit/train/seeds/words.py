"""The words that the made stories and talks are filled with: who, where, what. Written by hand for this project."""

# ruff: noqa: E501, SIM905 (tables)
from __future__ import annotations

# fmt: off
# animal: (where it lives, what it likes to eat, what it is good at)
ANIMALS: dict[str, tuple[str, str, str]] = {
    "dog": ("house with a red door", "bones", "running"), "cat": ("old house", "fish", "climbing"),
    "rabbit": ("burrow under a hill", "carrots", "hopping"), "mouse": ("hole in the wall", "cheese", "hiding"),
    "bear": ("cave in the woods", "honey", "climbing"), "fox": ("den in the forest", "berries", "thinking"),
    "bird": ("nest in a tall tree", "seeds", "singing"), "duck": ("pond", "bread", "swimming"),
    "frog": ("green pond", "flies", "jumping"), "horse": ("stable on a farm", "apples", "running"),
    "cow": ("field near the farm", "grass", "resting"), "pig": ("warm barn", "corn", "finding food"),
    "sheep": ("field on a green hill", "grass", "staying warm"), "goat": ("hut on a mountain", "leaves", "climbing"),
    "hen": ("little red barn", "corn", "counting"), "lion": ("wide grassland", "meat", "roaring"),
    "tiger": ("jungle", "meat", "swimming"), "elephant": ("forest by the river", "leaves", "lifting heavy things"),
    "monkey": ("tall tree", "bananas", "climbing"), "giraffe": ("wide grassland", "leaves", "seeing far away"),
    "zebra": ("wide grassland", "grass", "running"), "hippo": ("river", "grass", "swimming"),
    "crocodile": ("muddy river", "fish", "swimming"), "turtle": ("quiet lake", "leaves", "being patient"),
    "tortoise": ("hole on a dry hill", "leaves", "being patient"), "snake": ("pile of stones", "eggs", "hiding"),
    "owl": ("hole in an old oak tree", "nuts", "seeing in the dark"), "squirrel": ("oak tree", "nuts", "jumping"),
    "hedgehog": ("pile of leaves", "apples", "rolling into a ball"), "wolf": ("dark forest", "meat", "running"),
    "deer": ("quiet forest", "berries", "jumping"), "penguin": ("white land of ice and snow", "fish", "sliding"),
    "whale": ("deep blue sea", "fish", "swimming"), "dolphin": ("warm sea", "fish", "jumping"),
    "fish": ("clear stream", "worms", "swimming"), "crab": ("hole on a sandy beach", "seaweed", "digging"),
    "bee": ("hive", "honey", "working hard"), "butterfly": ("garden full of flowers", "sweet flowers", "flying"),
    "ant": ("little hill of sand", "crumbs", "working hard"), "spider": ("corner of a barn", "flies", "making webs"),
    "snail": ("garden", "leaves", "being patient"), "parrot": ("tall palm tree", "fruit", "talking"),
    "kitten": ("basket in the kitchen", "milk", "playing"), "puppy": ("basket near the fire", "bones", "playing"),
    "donkey": ("barn on a hill", "hay", "carrying things"), "camel": ("desert", "dry grass", "walking far"),
    "kangaroo": ("warm dry valley", "grass", "jumping"), "panda": ("forest of bamboo", "bamboo", "resting"),
    "koala": ("tall tree", "leaves", "sleeping"), "swan": ("silver lake", "water plants", "swimming"),
    "goose": ("hut by the lake", "corn", "shouting"), "chick": ("nest of straw", "seeds", "asking questions"),
    "dragon": ("cave on a mountain", "hot soup", "flying"), "dinosaur": ("green valley", "leaves", "walking far"),
    "unicorn": ("magic forest", "flowers", "running"), "bat": ("dark cave", "fruit", "flying at night"),
}

# person: (where they live, "he", "she" or "" for either)
PEOPLE: dict[str, tuple[str, str]] = {
    "boy": ("small village", "he"), "girl": ("small village", "she"), "king": ("castle", "he"),
    "queen": ("castle", "she"), "prince": ("castle on a hill", "he"), "princess": ("castle by the sea", "she"),
    "farmer": ("farm in the valley", ""), "teacher": ("small town", ""), "doctor": ("busy town", ""),
    "baker": ("busy town", ""), "fisherman": ("hut by the sea", "he"), "sailor": ("house by the harbour", ""),
    "pirate": ("ship with black sails", ""), "witch": ("hut in the woods", "she"), "wizard": ("tall stone tower", "he"),
    "knight": ("castle", ""), "giant": ("big house on a mountain", "he"), "fairy": ("flower in the garden", "she"),
    "grandmother": ("house with a blue roof", "she"), "grandfather": ("house near the woods", "he"),
    "old man": ("little hut", "he"), "old woman": ("little hut", "she"), "baby": ("warm house", ""),
    "mermaid": ("deep blue sea", "she"), "shepherd": ("hut on a green hill", ""), "painter": ("room full of colours", ""),
}

# thing that can be a hero: (where it is, what it wishes)
THINGS: dict[str, tuple[str, str]] = {
    "robot": ("old shed", "to have a friend"), "star": ("dark night sky", "to see the earth"),
    "cloud": ("wide blue sky", "to bring rain to the fields"), "tree": ("green field", "to have a bird's nest"),
    "flower": ("quiet garden", "to see the sea"), "boat": ("little harbour", "to cross the lake"),
    "train": ("busy station", "to see the mountains"), "car": ("dark garage", "to go on a long trip"),
    "bus": ("big town", "to carry children to the beach"), "balloon": ("toy shop", "to fly over the hills"),
    "kite": ("box under the bed", "to fly up high"), "ball": ("corner of a garden", "to roll down a hill"),
    "doll": ("toy shop", "to belong to a child"), "teddy bear": ("toy shop", "to be hugged"),
    "snowman": ("white garden", "to see the spring"), "lamp": ("old room", "to light the way for someone"),
    "drop of rain": ("grey cloud", "to reach the sea"), "leaf": ("tall tree", "to travel with the wind"),
    "pencil": ("box on a school desk", "to write a story"), "book": ("dusty library", "to be read by a child"),
    "clock": ("warm kitchen", "to rest for a minute"), "river": ("high mountain", "to find the sea"),
    "moon": ("dark night sky", "to play with the children"), "sun": ("bright sky", "to see the night"),
    "house": ("quiet street", "to have a family"), "tractor": ("barn", "to win a race"),
    "plane": ("big airport", "to fly around the world"), "rocket": ("wide field", "to visit the moon"),
    "umbrella": ("dark cupboard", "to go out in the rain"), "spoon": ("kitchen drawer", "to stir something sweet"),
}

# Things that are heroes more rarely; they show that anything can be asked for.
NOUNS = (
    "pumpkin apple pear banana potato carrot onion cabbage tomato lemon cherry melon mushroom cookie cake pie pancake egg "
    "cup plate bowl pot kettle bottle fork knife pan oven stove table chair bed pillow blanket carpet curtain mirror "
    "window door key lock bell candle broom bucket brush comb soap towel bathtub sponge hat coat scarf sock shoe boot "
    "shirt dress button needle thread ribbon basket box bag suitcase wallet coin crown ring necklace jewel drum flute "
    "violin piano trumpet guitar song dance picture painting statue mask puppet puzzle dice card swing slide sandcastle "
    "bicycle wagon truck ship submarine helicopter airplane sled ladder hammer saw nail wheel rope net tent flag map "
    "compass telescope camera radio phone computer letter stamp newspaper notebook crayon eraser ruler desk stone pebble "
    "rock shell island volcano waterfall cave bridge tower castle lighthouse windmill well gate fence wall road path "
    "garden forest desert meadow pond lake sea ocean wave wind storm rainbow snowflake icicle shadow dream wish secret "
    "ghost monster troll elf gnome goblin angel alien astronaut cowboy clown magician dancer singer soldier hunter miner "
    "cook waiter tailor shoemaker postman nurse dentist pilot captain judge thief spy detective inventor poet student "
    "child sister brother mother father uncle aunt cousin twin neighbour stranger friend lizard beaver badger otter seal "
    "shark octopus starfish jellyfish lobster worm caterpillar ladybird beetle moth mosquito fly dragonfly crow raven "
    "eagle hawk seagull pigeon sparrow robin peacock ostrich flamingo turkey rooster lamb calf pony foal bull ox buffalo "
    "rhino leopard cheetah gorilla lemur hamster mole skunk raccoon weasel rat moose reindeer llama walrus salmon cactus "
    "rose daisy tulip sunflower seed acorn pinecone grass bush branch root feather nest egg cloud planet comet"
).split()

BOYS = ("Tom Ben Sam Max Leo Jack Tim Dan Finn Noah Oscar Hugo Adam Omar Ali Kofi Juma Ravi Arun Peter Henry Luke "
        "Nico Paul Theo Milo Otto Jonah Felix Toby").split()
GIRLS = ("Anna Mia Lily Rosa Nina Ella Lucy Zoe Emma Maya Sara Ruby Ada Ivy Clara Grace Amina Zuri Lina Meera Tara "
         "Julia Kate Molly Nora Daisy Alice Hana Eva Stella").split()
PETS = ("Pip Momo Biscuit Coco Bruno Rusty Bella Nutty Dot Spot Buddy Fluffy Tiny Sunny Star Pepper Bubbles Honey Toto "
        "Gus Kiki Lulu Rex Misty Berry Button Patch Chip Snowy Scout").split()

LOOKS = ("little small tiny young brown white grey clever brave shy kind curious happy friendly sleepy funny gentle "
         "cheerful quiet hungry").split()
PLACES = ("forest", "garden", "river", "hill", "village", "farm", "lake", "park", "beach", "meadow", "market", "school",
          "mountain", "bridge", "old well", "field", "pond", "wood")
TREASURES = ("red ball", "blue hat", "silver bell", "golden key", "warm scarf", "little drum", "wooden boat", "green kite",
             "yellow boot", "picture book", "shiny stone", "soft blanket", "music box", "paper star", "tiny lamp",
             "toy train", "pink shell", "brown bag", "glass bead", "small flute", "striped sock", "old map")
FOODS = ("apples", "berries", "bread", "soup", "cakes", "nuts", "pancakes", "honey", "rice", "plums", "pears", "cookies",
         "corn", "cherries", "cheese", "mangoes", "sweet potatoes")
DAYS = ("One day", "One morning", "One sunny day", "One warm afternoon", "One cold morning", "One windy day",
        "One evening", "One spring day", "One summer day", "One rainy day")
COLOURS = ("red", "blue", "green", "yellow", "white", "orange", "purple", "pink", "brown", "black", "golden", "silver")
# fmt: on


def a(noun: str) -> str:
    """The noun with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" and not noun.startswith("uni") else "a ") + noun
