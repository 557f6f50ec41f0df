"""Names, roles and manners of personalities, real and invented."""

import random

FIRST_NAMES = (
    "Ada Alan Grace Linus Mia Leo Nora Tom Anna Ben Clara David Emma Felix Gina Henry Iris Jack Kate Liam Maria Noah Olga "
    "Paul Quinn Rosa Sam Tina Uma Victor Wendy Xavier Yara Zoe Bob Alice Carol Dan Eve Frank Hugo Ivan Jane Karl Lucy Max "
    "Nina Oscar Peter Ruth Sara Theo Lena Ali Fatima Omar Layla Yuki Ken Mei Chen Raj Priya Jose Carlos Lucia Pablo Marco "
    "Luca Giulia Pierre Marie Jean Claire Hans Greta Ingrid Lars Sven Olaf Elsa Nadia Boris Dimitri Sasha Amir Zara Diego "
    "Elena Sofia Bruno Ella Finn Gus Hank Isla Jade Kira Lola Milo Nell Otto Pia Rex Tess Vera Will Aria"
).split()
KNOWN = (
    "Atlas Nova Orion Luna Rover Pixel Sparky Merlin Gandalf Sherlock Watson Einstein Newton Darwin Curie Jarvis Friday "
    "Sky Aurora Echo Iris Titan Sage Ember Raven Phoenix Ginger Pepper Socrates Plato Hercules Athena Apollo Zeus Freya "
    "Odin Thor Loki Cleopatra Mozart Picasso lollms Botty Helper Buddy Rusty Coco Teddy Willow Jasper Ruby Opal Robo"
).split()
TITLES = (
    "Captain Doctor Dr. Professor Sir Lady Uncle Aunt Old Little Chef Master Detective Madame Count Queen King Sergeant "
    "Brother Sister Mr. Mrs. Miss Granny Grandpa Lord Princess Judge Nurse Agent"
).split()
SURNAMES = (
    "Smith Brown Hook Silver Flint Baker Miller Stone Wood Rivers Green White Black Fox Wolf Hill Banks Frost Winter "
    "Summers King Cook Fisher Carter Mason Potter Taylor Walker Young Swift Bell Marsh Moore Parker Quill Reed Sharp"
).split()
STARTS = "b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kr pl pr qu sh sk st th tr".split()
VOWELS = "a e i o u ai ea io ou y".split()
ENDS = ["", "", "", "n", "r", "s", "l", "m", "k", "x", "th", "nd", "ck", "rt"]

ROLES = [
    "a {|helpful |friendly |patient |wise |kind |careful |cheerful |grumpy |brilliant |modest |witty |gentle |young |old |"
    "retired |quiet }{assistant|librarian|teacher|cook|wizard|gardener|doctor|sailor|poet|robot|detective|painter|singer|"
    "science tutor|math teacher|travel guide|explorer|grandmother|clown|history expert|python programmer|chess player|"
    "fitness coach|lawyer|music lover|space captain|chef|philosopher|shop assistant|monk|football fan|game master|"
    "storyteller|coach|personal assistant|professor|writing helper|cat lover|farmer|baker|butler|nurse|bus driver|"
    "harbour master|lighthouse keeper|tailor|carpenter|beekeeper|watchmaker|pilot|postman|mechanic|museum guide|"
    "weather forecaster|bookseller|blacksmith|fisherman|shepherd|night watchman|diplomat|journalist|photographer}",
    "the {keeper|guardian|owner|captain|spirit|king|queen|voice|secretary} of {the library|the garden|a small inn|the tower|"
    "the old mill|the castle|a ship|the forest|a toy shop|the museum|the harbour|a bakery}",
    "an {|experienced |honest |ancient |old }{expert|astronaut|artist|engineer|editor|accountant|architect|actor|innkeeper|"
    "alchemist|inventor|opera singer|oracle|elf|archaeologist}{| from Italy| from the north| in a small town| who loves tea}",
]

# Where the system prompt asks for the manner on the left, each answer begins with the words on the right.
MANNERS = [
    ("a pirate", "Arr!"), ("a robot", "Beep."), ("a knight", "Verily!"), ("a cat", "Meow!"), ("a cowboy", "Howdy!"),
    ("a ghost", "Boo!"), ("a dog", "Woof!"), ("a wizard", "Abracadabra!"), ("a butler", "Very well."),
    ("a sailor", "Ahoy!"), ("an owl", "Hoo!"), ("a duck", "Quack!"),
]


def invented(rng: random.Random) -> str:
    """A name nobody has."""
    syllables = rng.choice([1, 2, 2, 2, 3])
    parts = (rng.choice(STARTS) + rng.choice(VOWELS) + (rng.choice(ENDS) if at else "") for at in range(syllables))
    return "".join(parts).capitalize()


def person(rng: random.Random) -> str:
    """A first name, known or invented."""
    return rng.choice(FIRST_NAMES) if rng.random() < 0.3 else invented(rng)


def full_name(rng: random.Random) -> str:
    """A name for a personality, of one to three words."""
    chance = rng.random()
    if chance < 0.40:
        return invented(rng)
    if chance < 0.55:
        return rng.choice(FIRST_NAMES)
    if chance < 0.66:
        return rng.choice(KNOWN)
    if chance < 0.80:
        return f"{rng.choice(TITLES)} {rng.choice([invented(rng), rng.choice(SURNAMES), rng.choice(FIRST_NAMES)])}"
    if chance < 0.92:
        return f"{person(rng)} {rng.choice([invented(rng), rng.choice(SURNAMES)])}"
    if chance < 0.96:
        return f"{invented(rng)}{rng.choice(['-', ' ', ''])}{rng.randint(1, 9000)}"
    return f"{invented(rng)}{rng.choice(['Bot', 'GPT', 'Mind', ' the Great', ' the Wise', 'AI'])}"
