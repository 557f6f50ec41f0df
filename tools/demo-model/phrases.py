"""Reads the phrase files and turns one phrase into one of its many wordings."""

import functools
import pathlib
import random
import re

import yaml

HERE = pathlib.Path(__file__).parent
INNERMOST = re.compile(r"\{([^{}]*)\}")


def expand(rng: random.Random, text: str) -> str:
    """Takes one choice of each `{a|b|c}`, inner ones first."""
    while found := INNERMOST.search(text):
        choice = rng.choice(found[1].split("|"))
        text = text[: found.start()] + choice + text[found.end() :]
    return re.sub(r"  +", " ", text).strip()


def read_phrases(names: str) -> dict[str, list[str]]:
    """Reads `text/NAMES.txt`, where `*` stands for anything: lines of phrases below lines of `# topic`."""
    topics: dict[str, list[str]] = {}
    for path in sorted((HERE / "text").glob(f"{names}.txt")):
        topic = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("# "):
                topic = line[2:].strip()
                topics.setdefault(topic, [])
            elif line.strip():
                if topic is None or line.count("{") != line.count("}"):
                    raise SystemExit(f"{path}:{number}: no topic, or braces that do not match")
                topics[topic].append(line.strip())
    return topics


def bare(text: str) -> str:
    """A text without capitals, signs at its end, and double spaces, to compare it."""
    return " ".join(text.lower().split()).strip(" .?!")


def read_answers() -> dict[str, list[str]]:
    """Reads `answers.yaml`, with the facts filled in."""
    facts = yaml.safe_load((HERE / "facts.yaml").read_text())
    answers = yaml.safe_load((HERE / "answers.yaml").read_text())
    return {topic: [text.format(**facts) for text in texts] for topic, texts in answers.items()}


QUESTION = re.compile(
    r"^(so |and |but |ok |well |hey |hi |hello |then |also |please )*(what|where|which|who|whose|when|why|how|is|are|am|"
    r"do|does|did|can|could|will|would|should|may|might|must|shall|has|have|had|was|were|whats|wheres|hows|what's|"
    r"where's|how's|who's|any)\b",
    re.I,
)
BEFORE = [
    "please", "hey,", "hi,", "hello,", "hello!", "hi!", "so,", "ok,", "okay,", "well,", "quick question:", "question:",
    "one question:", "i have a question:", "i was wondering,", "sorry,", "excuse me,", "can you tell me:", "tell me,",
    "another thing:", "next question:", "just asking:", "my friend asks:", "a beginner's question:", "and", "also,",
]
AFTER = [
    "please", "thanks", "thank you", "thx", "thanks in advance", "i am new to this", "in short", "exactly", "just curious",
    "i wonder", "please help", "briefly", "for me", "then", "now", "again", "by the way", "can you tell me", "any idea",
]
NOISE = "a e i o u n r s t l d m".split()


def typo(rng: random.Random, text: str) -> str:
    """Damages one letter of a word."""
    places = [at for at, letter in enumerate(text) if letter.isalpha()]
    if len(places) < 6:
        return text
    at = rng.choice(places[1:])
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    if kind == 2:
        return text[:at] + rng.choice(NOISE) + text[at + 1 :]
    return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]


def drop_word(rng: random.Random, text: str) -> str:
    """Leaves out one of the shorter words of a longer text."""
    words = text.split(" ")
    short = [at for at, word in enumerate(words) if len(word) <= 4 and word.isalpha()]
    if len(words) < 6 or not short:
        return text
    del words[rng.choice(short)]
    return " ".join(words)


SMALL_WORDS = set(
    "a an the is are am was were be been do does did can could will would shall should may might must i you he she it we "
    "they me my your his her its our their this that these those to of in on at by for with from as and or so if then "
    "there here have has had please just any some how what which where when why who tell show explain give want need"
    .split()
)


def telegram(rng: random.Random, text: str) -> str:
    """Leaves only the words that carry the question, and some others, as people type into a search field."""
    words = text.split(" ")
    kept = [word for word in words if word.lower().strip("?,.!") not in SMALL_WORDS or rng.random() < 0.25]
    return " ".join(kept) if len(kept) >= 2 else text


def blur(rng: random.Random, text: str) -> str:
    """Leaves out words at random, so that no single word decides what is asked."""
    kept = [word for word in text.split(" ") if rng.random() > 0.15]
    return " ".join(kept) if len(kept) >= 3 else text


@functools.cache
def synonyms() -> dict[str, list[str]]:
    """The groups of `synonyms.txt`: what may stand for a word or a phrase."""
    others: dict[str, list[str]] = {}
    for line in (HERE / "synonyms.txt").read_text().splitlines():
        group = line.strip().split("|")
        for word in group:
            others.setdefault(word, []).extend(other for other in group if other != word)
    return {word: found for word, found in others.items() if word and found}


@functools.cache
def synonym_pattern() -> re.Pattern[str]:
    longest_first = sorted(synonyms(), key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, longest_first)) + r")\b")


def reword(rng: random.Random, text: str) -> str:
    """Puts synonyms in the place of some words."""
    return synonym_pattern().sub(lambda found: rng.choice(synonyms()[found[0]]) if rng.random() < 0.4 else found[0], text)


def dress(rng: random.Random, text: str, plain: bool = False) -> str:
    """Writes a phrase as people write: capitals, signs, politeness and small faults. `plain` leaves the faults out."""
    asks = bool(QUESTION.match(text))
    if not plain:
        if rng.random() < 0.4:
            text = reword(rng, text)
        chance = rng.random()
        if chance < 0.08:
            text = drop_word(rng, text)
        elif chance < 0.14:
            text = telegram(rng, text)
        elif chance < 0.26:
            text = blur(rng, text)
        if rng.random() < 0.08:
            text = typo(rng, text)
    words = text.count(" ") + 1
    if not plain and words < 25 and text[-1:].isalnum():
        chance = rng.random()
        if chance < 0.10:
            text = f"{rng.choice(BEFORE)} {text}"
        elif chance < 0.16:
            text = f"{text}{rng.choice([',', '', ' -'])} {rng.choice(AFTER)}"
    if rng.random() < 0.62:
        text = text[:1].upper() + text[1:]
    elif rng.random() < 0.4:
        text = text.lower()
    elif rng.random() < 0.04:
        text = text.upper()
    if text[-1:].isalnum() or text[-1:] in ")*/\"'":
        if asks:
            text += rng.choices(["?", "", " ?", "??"], [74, 21, 4, 1])[0]
        else:
            text += rng.choices(["", ".", "!", "?", "..."], [50, 34, 8, 7, 1])[0]
    return text
