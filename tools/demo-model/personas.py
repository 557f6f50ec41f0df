"""System prompts with names and manners, and the questions about them."""

import functools
import random

import yaml

from names import MANNERS, ROLES, full_name
from phrases import HERE, dress, expand

OWN_NAME = "I am the small demonstration model that comes with lollmsd."

NAMED = [
    "You are @, %.", "You are @, %.", "You are @.", "You are @.", "Your name is @.", "Your name is @. You are %.",
    "Act as @, %.", "I want you to act as @.", "You're @, %.", "You are called @.", "You are % called @.",
    "You are % named @.", "This is a chat with @, %.", "@ is %. Answer as @.", "Name: @\nRole: %", "Pretend to be @.",
    "You play @, %.", "From now on you are @.", "You are an AI named @.", "You are a helpful assistant named @.",
    "Your name is @ and you are %.", "Take the role of @, %.", "Act like @.", "Assistant's name: @.",
    "The assistant is called @. It is %.", "In this conversation you are @, %.", "You are a chatbot called @.",
    "You are @, an assistant that runs on the user's own machine.", "My assistant is called @.", "@ is an AI assistant.",
    "You will answer as @, %.", "Hello, you are @ today.", "Stay in the role of @, %.", "Behave as @ would.",
]
ROLE_ONLY = ["You are %.", "You are %.", "Act as %.", "You're %.", "I want you to act as %.", "Pretend to be %."]
REST = [
    "Answer briefly.", "Be kind and patient.", "Answer in the language of the user.", "Keep your answers short.",
    "Never be rude.", "You love to help.", "Use simple words.", "Today is {date}.", "Be polite.", "Speak clearly.",
    "You live in {a small village|a big city|the mountains|a lighthouse|an old castle|a quiet harbour|Paris|Berlin}.",
    "You like {tea|music|long walks|old books|the sea|cats|gardening|chess}.", "Do not invent things.",
    "If you do not know something, say so.", "You have {twenty|ten|many|forty} years of experience.", "Ask when unsure.",
    "Help the user with {cooking|homework|travel|the garden|books|code|music|anything}.", "Stay friendly at all times.",
    "Answer the question that was asked, first and directly.", "The user is {a child|a beginner|an expert|a friend}.",
]
PLAIN = [
    "You are a helpful assistant.", "You are a helpful assistant.", "Answer the questions of the user.", "Be helpful.",
    "This is a conversation between a user and an assistant.", "Answer truthfully.", "Be brief.", "Be polite and short.",
    "Below is an instruction that describes a task. Write a response that completes the request.",
]
MANNER = [
    "You are @, %. Speak like %.", "Speak like %.", "Talk like %.", "You are %. Talk like one.", "You are %.",
    "You are @, %.", "Answer like %.", "Always speak like %.", "You are @ and you talk like %.",
    "You are %, and you always sound like one.", "Your name is @. You are %.", "Answer in the manner of %.",
]

ASK_NAME = [
    "{what is|what's|whats|tell me|may i know|could you tell me|may i ask|do you remember|please tell me|say} your name{| please}",
    "{who are you|who r u|who is this|who am i talking to|who am i speaking to|who is there|and you are|your name|name|"
    "who is speaking|who are you exactly|so who are you|who is it|who do i have the pleasure of talking to|who might you be}",
    "{what are you called|how are you called|what do people call you|what should i call you|what can i call you|"
    "what may i call you|how should i address you|by what name do you go|what name do you go by|how shall i call you}",
    "{introduce yourself|please introduce yourself|tell me who you are|tell me about yourself|present yourself|"
    "say who you are|describe yourself|say something about yourself|let me know who you are|identify yourself}",
    "{hi|hello|hey}{,|!| and} {who are you|what is your name|what's your name|who am i talking to|who might you be}",
    "{do you have|have you got} a name{| of your own}",
    "{i am|my name is|i'm} {anna|ben|maria|tom|lucy|omar}{. and|, and|,} {you|who are you|what is your name|what's yours}",
    "{what was your name|i forgot your name|remind me of your name|whats ur name|ur name|wat is your name|name please}{| again|}",
    "{your name is what|you are who|what is the name of this {assistant|bot|character|personality}|which character are you}",
]
ASK_ROLE = [
    "{what is your {role|job|profession|task|purpose|occupation}|what do you do|what do you do for a living|what are you|"
    "what kind of {character|assistant|person} are you|what are you here for|tell me your role|describe your role|"
    "what is it that you do|what do you work as|who or what are you|what are you exactly|what is your work}",
]
GIVE_NAME = [
    "{my name is|i am called|call me|please call me|people call me|you can call me|my friends call me|i'm called|the name is} @",
    "{hi|hello|hey|good morning|good evening}{,|!} {i am|i'm|my name is|this is|it's} @",
    "{i am|i'm|this is} @{| by the way|, nice to meet you|, pleased to meet you}",
]
RECALL = [
    "{what is|what's|do you know|do you remember|can you tell me|tell me|say|can you say} my name{| again| now|}",
    "{who am i|what am i called|do you remember me|do you know who i am|how am i called|what did i say my name was}",
]


class Persona:
    """A system prompt: its text, the name in it, the role in it, and the word each answer begins with."""

    def __init__(self, text: str | None, name: str | None = None, role: str | None = None, word: str = ""):
        self.text, self.name, self.role, self.word = text, name, role, word
        self.user: str | None = None

    def says(self, answer: str) -> str:
        return f"{self.word} {answer}" if self.word else answer

    def introduction(self) -> str:
        who = self.name or self.role
        return f"I am {who}, played by the demonstration model of lollmsd." if who else OWN_NAME

    def role_answer(self) -> str:
        who = self.role or self.name
        return f"I am {who}, played by the demonstration model of lollmsd." if who else OWN_NAME


@functools.cache
def conditionings() -> list[str]:
    """The conditionings that come with the server."""
    paths = sorted((HERE / "../../personalities").glob("*/*/config.yaml"))
    return [yaml.safe_load(path.read_text())["personality_conditioning"].rstrip("\n") for path in paths]


def shipped(rng: random.Random) -> Persona:
    """A conditioning that comes with the server, with what the model calls itself under it."""
    text = rng.choice(conditionings())
    text = text.replace("{{date}}", date(rng)).replace("{{time}}", "10:20").replace("{{date_time}}", date(rng))
    return Persona(text, called(text))


def called(text: str) -> str | None:
    """What a conditioning that begins with `You are NAME, ...` or `You are a ROLE ...` names."""
    if not text.startswith("You are "):
        return None
    head = text.removeprefix("You are ").split("\n")[0]
    for end in (", ", " who ", ". "):
        head = head.split(end)[0]
    return head


def date(rng: random.Random) -> str:
    months = "January February March April May June July August September October November December".split()
    day, month, year = rng.randint(1, 28), rng.choice(months), rng.randint(2023, 2035)
    return rng.choice([f"{day} {month} {year}", f"{year}-{months.index(month) + 1:02}-{day:02}", f"{month} {day}, {year}"])


def persona(rng: random.Random) -> Persona:
    """A system prompt of any kind but the long ones that ship."""
    chance = rng.random()
    if chance < 0.30:
        return Persona(None)
    if chance < 0.40:
        return Persona(rest(rng, rng.choice(PLAIN)))
    if chance < 0.50:
        manner, word = rng.choice(MANNERS)
        form = rng.choice(MANNER)
        name = full_name(rng) if "@" in form else None
        text = form.replace("@", name or "").replace("%", manner)
        return Persona(rest(rng, text), name, manner if form.startswith("You are %") else None, word)
    role = expand(rng, rng.choice(ROLES))
    if chance < 0.58:
        return Persona(rest(rng, rng.choice(ROLE_ONLY).replace("%", role)), None, role)
    form, name = rng.choice(NAMED), full_name(rng)
    if form.startswith("You are a helpful assistant named"):
        role = "a helpful assistant"
    return Persona(
        rest(rng, form.replace("@", name).replace("%", role)), name, role if "%" in form or "helpful" in form else None
    )


def rest(rng: random.Random, text: str) -> str:
    """Adds some of the sentences that system prompts are full of."""
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        more = expand(rng, rng.choice(REST).replace("{date}", date(rng)))
        text += rng.choice([" ", " ", "\n"]) + more
    return text


def exchange(rng: random.Random, who: Persona) -> tuple[str, str]:
    """A question about names, with its answer."""
    chance = rng.random()
    if chance < 0.62:
        return dress(rng, expand(rng, rng.choice(ASK_NAME))), who.says(who.introduction())
    if chance < 0.74:
        return dress(rng, expand(rng, rng.choice(ASK_ROLE))), who.says(who.role_answer())
    if who.user is None or chance < 0.82:
        if rng.random() < 0.12 and who.user is None:
            return dress(rng, expand(rng, rng.choice(RECALL))), who.says("You have not told me your name.")
        who.user = full_name(rng) if rng.random() < 0.4 else full_name(rng).split(" ")[-1]
        question = dress(rng, expand(rng, rng.choice(GIVE_NAME)).replace("@", "@@"), plain=True)
        return question.replace("@@", who.user), who.says(f"Nice to meet you, {who.user}!")
    return dress(rng, expand(rng, rng.choice(RECALL))), who.says(f"Your name is {who.user}.")
