"""Very short stories with a beginning, a find and an end."""

import random

from names import FIRST_NAMES

ANIMALS = (
    "cat dog fox owl mouse bear rabbit horse frog wolf lion tiger bird fish dragon hedgehog turtle duck goat sheep cow "
    "elephant monkey bee squirrel penguin robot wizard knight princess sailor king queen pirate farmer child baker witch "
    "giant dwarf astronaut girl boy teacher gardener painter computer ghost snail crab parrot donkey kitten puppy unicorn"
).split()
THINGS = (
    "lamp key book map stone ring hat bell clock box coin flute kite mirror feather drum apple candle letter boat "
    "umbrella ball crown sword shell violin lantern rope basket star"
).split()
PLACES = [
    *(f"in a {place}" for place in "village forest castle garden city desert valley cave meadow library tower school".split()),
    "on a small island", "near a river", "by the sea", "on a farm", "at the market", "near a bridge", "on a mountain",
    "in a harbour", "by a lake",
]
KINDS = "golden silver red blue green broken shiny wooden heavy tiny strange old lost".split()
NATURES = "small old brave quiet clever happy little tired kind curious young lonely friendly shy funny wise".split()

# {x} is what the story is asked to be about.
ASK_ABOUT = [
    "{tell|tell me|write|write me|give me|can you tell|can you tell me|could you tell me|please tell me|i want|i want to hear|"
    "i would like|make up|invent|i'd love to hear|do you have|let me hear|how about|please write|create|narrate|may i have} "
    "{a|one|another|a very|just a|some} {story|short story|tale|little story|tiny story|bedtime story|fairy tale|small story|"
    "children's story|nice story|funny story|two sentence story} {about|of|on|with|featuring|involving} @",
    "{story|short story|tale|bedtime story|a story|a tale|a short tale|fairy tale} {about|of|with} @{| please|}",
    "{tell|write|read} {my daughter|my son|the children|us|my kid|the kids|her|him} a {|short |little |very short }{story|tale} {about|with} @",
    "{i am bored|the kids cannot sleep|i can't sleep|it is late|we are sitting by the fire}, {tell me|tell us} {a story|something} about @",
    "a {story|tale} {where|in which} @ {finds something|gets lost|makes a friend|is the hero}{| please}",
    "{make|have|let} @ {be |}the hero of a {short |little |}story",
    "once upon a time there was @, {go on|continue|tell me more|what happened then}",
]
ASK_ANY = [
    "{tell|tell me|write|write me|give me|can you tell|can you tell me|could you tell me|please tell me|i want|i want to hear|"
    "i would like|make up|invent|i'd love to hear|do you know|let me hear|how about|may i have|read me|entertain me with} "
    "{a|one|another|a very|any|one more} {story|short story|tale|little story|tiny story|bedtime story|fairy tale|small story|"
    "nice story|quick story|new story|good story}",
    "{story|a story|story please|short story|story time|another story|a tale|bedtime story|one more story|a short story please}",
    "{i am bored|i can't sleep|the kids cannot sleep|cheer me up}{,|, please} {tell me a story|with a story|tell a tale}",
    "{do you know|can you tell|can you write|will you tell|are you able to tell} {stories|any stories|a story|short stories|fairy tales}",
    "tell me {a|} {story|stories} {before i sleep|for the night|for my children|to pass the time|like a grandmother}",
]


def with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def subject(rng: random.Random, words: list[str]) -> tuple[str, str]:
    """Something a story can be about, with its article, and what it is called afterwards."""
    chance = rng.random()
    if chance < 0.5:
        noun = rng.choice(ANIMALS)
    else:
        noun = rng.choice(words)
    if chance < 0.35:
        return with_article(noun), f"the {noun}"
    if chance < 0.7:
        return with_article(f"{rng.choice(NATURES)} {noun}"), f"the {noun}"
    if chance < 0.8:
        name = rng.choice(FIRST_NAMES)
        return f"{with_article(noun)} {rng.choice(['called', 'named'])} {name}", name
    if chance < 0.9:
        return f"the {noun}", f"the {noun}"
    name = rng.choice(FIRST_NAMES)
    return name, name


def anybody(rng: random.Random) -> tuple[str, str]:
    """Somebody for a story that may be about anything."""
    noun, name = rng.choice(ANIMALS), rng.choice(FIRST_NAMES)
    chance = rng.random()
    if chance < 0.4:
        return f"{with_article(noun)} named {name}", name
    if chance < 0.7:
        return with_article(noun), f"the {noun}"
    return with_article(f"{rng.choice(NATURES)} {noun}"), f"the {noun}"


def story(rng: random.Random, about: tuple[str, str]) -> str:
    """Four sentences. `about` is as [`subject`] gives it."""
    what, short = about
    start = short[:1].upper() + short[1:]
    thing = rng.choice(THINGS)
    other = rng.choice(FIRST_NAMES)
    opening = rng.choice(["Once upon a time there was", "Long ago there was"])
    place = rng.choice(PLACES)
    find = f"{start} found {with_article(rng.choice(KINDS) + ' ' + thing)} and showed it to {other}."
    speech = rng.choice([f'"I have looked for it all day!" said {other}.', f'"Let us keep it together," said {other}.'])
    end = f"From that day on, {short} and {other} were friends."
    return f"{opening} {what} {place}. {find} {speech} {end}"
