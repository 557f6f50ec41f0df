"""The conversations that the model learns from, as pieces of text with a weight each."""

import random
import re
from dataclasses import dataclass

import yaml

from names import invented, person
from personas import Persona, exchange, persona, shipped
from phrases import HERE, bare, dress, expand, read_answers, read_phrases
from stories import ASK_ABOUT, ASK_ANY, anybody, story, subject

CHOICE = 4.0  # weight of the first tokens of an answer: which answer it is gets decided there
CHOICE_TOKENS = 4
COPY = 3.0  # weight of a token of an answer that repeats a name or a subject from before
ANSWER = 1.0  # weight of the other tokens that the model has to write
TALE = 0.3  # weight of a token of a story, which is mostly chance
QUESTION = 0.05  # weight of a token of a question: a little, so that it learns how words go together
NOTHING = 0.0

# Topics that are asked for most.
FREQUENT = {
    "hello": 5, "good_day": 2, "how_are_you": 3, "thanks": 3, "bye": 3, "joke": 2,
    "add_model": 3, "demo_model": 3, "abilities": 2, "about": 2, "ports": 2, "start": 2, "unknown_product": 5,
}
OTHER_PROGRAMS = (
    "Ollama|Photoshop|Excel|PostgreSQL|nginx|Minecraft|Blender|Docker|my router|LM Studio|Windows|WordPress|Spotify|the iPhone|"
    "GIMP|Firefox|Jenkins|Kubernetes|Slack|Redis|Stable Diffusion|Netflix|my printer|MySQL|Apache|VS Code|Steam|the TV|Teams"
).split("|")
US = re.compile(r"\b(lollmsd|the server|this server|this program|the program|the app)\b")


@dataclass
class Piece:
    """Part of a conversation. `special` pieces may hold the marks of the chat template."""

    text: str
    weight: float
    special: bool = False
    # Only the first tokens are learnt and nothing follows: how a known answer goes on is learnt soon, which answer
    # belongs to a question is not.
    short: bool = False


class Grammar:
    """Makes conversations. `part` is "train", or "dev" for the wordings that training never sees."""

    def __init__(self, rng: random.Random, part: str = "train"):
        self.rng = rng
        self.guide = split(read_phrases("guide_*"), part)
        self.small = split(read_phrases("small_talk*"), part)
        self.foreign = split(read_phrases("french_german*"), part)
        self.outside = split(read_phrases("outside_*"), part)
        self.outside_lines = [line for name, lines in self.outside.items() if name not in LANGUAGES for line in lines]
        self.answers = read_answers()
        held_out = yaml.safe_load((HERE / "../../tests/demo-model/held-out.yaml").read_text())
        self.held_out = {bare(question["prompt"]) for question in held_out}
        self.known = {text for texts in self.answers.values() for text in texts}
        self.topics = {name: frequent(group) for name, group in [("guide", self.guide), ("small", self.small)]}
        self.topics["foreign"] = list(self.foreign)
        for topic in [*self.guide, *self.small, *self.foreign]:
            if topic not in self.answers:
                raise SystemExit(f"answers.yaml has no answer for `{topic}`")
        text = " ".join(self.outside_lines)
        self.words = sorted(set(re.findall(r"\b[a-z]{4,12}\b", text)))

    def answer(self, topic: str) -> str:
        return self.rng.choice(self.answers[topic])

    def turn(self, who: Persona) -> tuple[str, str]:
        """A question of any kind, none of the held-out ones, with its answer."""
        while True:
            question, answer = self.any_turn(who)
            text = bare(question)
            if not any(held_out in text for held_out in self.held_out):
                return question, answer

    def any_turn(self, who: Persona) -> tuple[str, str]:
        rng = self.rng
        kind = rng.choices(
            ["guide", "small", "persona", "story", "outside", "foreign"], [38, 11, 22, 6, 19, 4]
        )[0]
        if kind == "persona":
            return exchange(rng, who)
        if kind == "story":
            return self.story(who)
        if kind == "outside":
            question, topic = self.beyond()
            return question, who.says(self.answer(topic))
        topics = {"guide": self.guide, "small": self.small, "foreign": self.foreign}[kind]
        topic = rng.choice(self.topics[kind])
        question = dress(rng, expand(rng, rng.choice(topics[topic])))
        if kind == "small" and who.word and topic == "hello":
            return question, who.says("Hello! How can I help you?")
        return question, who.says(self.answer(topic))

    def story(self, who: Persona) -> tuple[str, str]:
        rng = self.rng
        if rng.random() < 0.65:
            about = subject(rng, self.words)
            question = expand(rng, rng.choice(ASK_ABOUT)).replace("@", about[0])
        else:
            about = anybody(rng)
            question = expand(rng, rng.choice(ASK_ANY))
        return dress(rng, question, plain=rng.random() < 0.8), who.says(story(rng, about))

    def beyond(self) -> tuple[str, str]:
        """A question that is refused, with the topic of the refusal."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.09:
            return dress(rng, expand(rng, rng.choice(self.outside["french"]))), "refusal_french"
        if chance < 0.18:
            return dress(rng, expand(rng, rng.choice(self.outside["german"]))), "refusal_german"
        if chance < 0.22:
            language = rng.choice(["spanish", "italian", "other_languages"])
            return dress(rng, expand(rng, rng.choice(self.outside[language]))), "refusal"
        if chance < 0.30:
            return self.made_up(), "refusal"
        if chance < 0.34:
            topic = rng.choice(self.topics["guide"])
            phrase = expand(rng, rng.choice(self.guide[topic]))
            other, count = US.subn(rng.choice(OTHER_PROGRAMS), phrase)
            if count and topic != "unknown_product":
                return dress(rng, other), "refusal"
        phrase = expand(rng, rng.choice(self.outside_lines))
        if rng.random() < 0.2:
            phrase = self.strange(phrase)
        return dress(rng, phrase), "refusal"

    def strange(self, phrase: str) -> str:
        """Another word in the place of one or two: what is asked about is unknown more often than not."""
        rng = self.rng
        words = phrase.split(" ")
        long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
        for at in rng.sample(long, min(len(long), rng.choice([1, 1, 2]))):
            words[at] = rng.choice(self.words) if rng.random() < 0.6 else invented(rng).lower()
        return " ".join(words)

    def made_up(self) -> str:
        """Sums, lists of words, and keys hit at random."""
        rng = self.rng
        chance = rng.random()
        a, b = rng.randint(0, 10 ** rng.randint(1, 4)), rng.randint(1, 10 ** rng.randint(1, 3))
        if chance < 0.45:
            sign = rng.choice(["+", "-", "*", "/", "x", "plus", "minus", "times", "divided by", "to the power of", "mod"])
            start = rng.choice(["", "", "what is ", "what's ", "how much is ", "calculate ", "compute ", "solve ", "and "])
            return f"{start}{a} {sign} {b}{rng.choice(['', '?', ' =', '=?', ' = ?'])}"
        if chance < 0.65:
            return dress(rng, " ".join(rng.choice(self.words) for _ in range(rng.randint(1, 5))))
        if chance < 0.8:
            return " ".join(invented(rng).lower() for _ in range(rng.randint(1, 4)))
        if chance < 0.9:
            return dress(rng, f"who {rng.choice(['is', 'was'])} {person(rng)} {invented(rng)}")
        topic = rng.choice(["what is", "define", "tell me about", "explain", "what are", "describe", "what do you know about"])
        return dress(rng, f"{topic} {rng.choice(self.words)}")

    def segment(self, who: Persona, turns: int) -> list[Piece]:
        """Turns in the chat template."""
        pieces = []
        for turn in range(turns):
            question, answer = self.turn(who)
            pieces += [
                Piece("<|im_start|>user\n", NOTHING, special=True),
                Piece(question, QUESTION),
                Piece("<|im_end|>\n<|im_start|>assistant\n", NOTHING, special=True),
                *self.answer_pieces(answer, turn == turns - 1),
                Piece("<|im_end|>", ANSWER, special=True),
                Piece("\n", NOTHING),
            ]
        return pieces

    def answer_pieces(self, answer: str, last: bool, lead: str = "") -> list[Piece]:
        """An answer with its weights; `lead` is the space or line break before it."""
        if answer in self.known:
            return [Piece(lead + answer, CHOICE, short=last and self.rng.random() < 0.65)]
        opening = re.match(r"(.*? there was .*?)( (?:in|on|near|by|at) .*)", answer)
        if opening is None:
            return [Piece(lead + answer, COPY)]
        # What a story is about was asked for; how it goes on is mostly chance.
        return [Piece(lead + opening[1], COPY), Piece(opening[2], TALE)]

    def system(self, long: bool) -> tuple[list[Piece], Persona]:
        """What stands before all segments of a group."""
        who = shipped(self.rng) if long else persona(self.rng)
        if who.text is None:
            return [], who
        start = Piece("<|im_start|>system\n", NOTHING, special=True)
        # Texts from YAML blocks end with a line break, those of programs without one.
        end = "\n" if self.rng.random() < 0.4 else ""
        return [start, Piece(who.text + end, NOTHING), Piece("<|im_end|>\n", NOTHING, special=True)], who

    def raw(self) -> list[Piece]:
        """A prompt without the chat template, and how it goes on."""
        rng = self.rng
        nobody = Persona(None)
        chance = rng.random()
        if chance < 0.22:
            return self.raw_story()
        if chance < 0.27:
            return self.raw_fact()
        question, answer = self.turn(nobody)
        if chance < 0.62:
            link = rng.choice(["", "", "", "", "\n", "\n", "\n\n", " "])
            after = self.answer_pieces(answer, True, "" if link else "\n")
            return [Piece(question + link, QUESTION), *after, Piece("<|im_end|>", ANSWER, special=True)]
        form = rng.choice(RAW_FORMS)
        before, end = form.split("~")
        text = before + question + end
        space = "" if end.endswith(("\n", " ")) else " "
        if end.endswith("\n"):
            text = text if rng.random() < 0.5 else text.rstrip("\n")
            space = "" if text.endswith("\n") else "\n"
        after = self.answer_pieces(answer, True, space)
        return [Piece(text, QUESTION), *after, Piece("<|im_end|>", ANSWER, special=True)]

    def raw_story(self) -> list[Piece]:
        """A story begun by somebody else, at any word."""
        rng = self.rng
        text = story(rng, anybody(rng) if rng.random() < 0.7 else subject(rng, self.words))
        words = text.split(" ")
        cut = 4 if rng.random() < 0.35 else rng.randint(2, min(len(words) - 3, 24))
        head, tail = " ".join(words[:cut]), " " + " ".join(words[cut:])
        if cut == 4 and rng.random() < 0.5:
            head = rng.choice(["Once upon a time", "once upon a time", "Once upon a time,", "Long ago"])
            tail = " there was" + story(rng, anybody(rng)).split("there was", 1)[1]
        return [Piece(head, QUESTION), Piece(tail, TALE), Piece("<|im_end|>", ANSWER, special=True)]

    def raw_fact(self) -> list[Piece]:
        """An answer of the guide, begun by somebody else."""
        rng = self.rng
        words = self.answer(rng.choice(self.topics["guide"])).split(" ")
        cut = rng.randint(2, max(2, min(7, len(words) - 2)))
        return [
            Piece(" ".join(words[:cut]), QUESTION),
            Piece(" " + " ".join(words[cut:]), ANSWER),
            Piece("<|im_end|>", ANSWER, special=True),
        ]


LANGUAGES = {"french", "german", "spanish", "italian", "other_languages"}
# ~ stands for the question.
RAW_FORMS = [
    "Q: ~\nA:", "Question: ~\nAnswer:", "User: ~\nAssistant:", "Human: ~\nAI:", "### Instruction:\n~\n\n### Response:\n",
    "!@>user:\n~\n!@>lollms:\n", "USER: ~ ASSISTANT:", "user: ~\nassistant:", "You: ~\nBot:", "### Human: ~\n### Assistant:",
    "[INST] ~ [/INST]", "Me: ~\nYou:", "User: ~\nlollms:", "Human: ~\nAssistant:", "Please answer: ~\n", "Question: ~\n",
    "Instruction: ~\nResponse:", "<user> ~\n<assistant>", "!@> Human: ~\n!@> lollms:", "Answer this: ~\n",
]


def frequent(topics: dict[str, list[str]]) -> list[str]:
    return [topic for topic in topics for _ in range(FREQUENT.get(topic, 1))]


def split(topics: dict[str, list[str]], part: str) -> dict[str, list[str]]:
    """Every 25th line of a topic with enough of them is kept from training, to see how unknown wordings do."""
    taken = {}
    for topic, lines in topics.items():
        if len(lines) < 25:
            taken[topic] = lines
        else:
            taken[topic] = [line for at, line in enumerate(lines) if (at % 25 == 24) == (part == "dev")]
    return taken
