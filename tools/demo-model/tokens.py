"""Writes 1,000 random texts with their tokens as the training tokenizer cuts them, for a test to compare.

    python tokens.py --model demo.gguf --out ../../tests/demo-model/tokens.json
"""

import argparse
import json
import pathlib
import random

from conversations import Grammar
from gguf_file import read_gguf
from tokenizer import SPECIAL

SCRIPTS = [
    (0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x460), (0x5D0, 0x5EB), (0x620, 0x650),
    (0x905, 0x940), (0x3041, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F300, 0x1F600), (0x300, 0x320), (0x2000, 0x2070),
]
PARTS = ["\n", "\n\n", " ", "  ", "\t", "   \n", "\r\n", "'s", "'LL", "--", "...", "123", "4096", "models/llama_cpp/", "LOLLMSD_", "é", *SPECIAL]


def text(rng: random.Random, grammar: Grammar) -> str:
    chance = rng.random()
    if chance < 0.3:
        return "".join(piece.text for piece in grammar.raw())
    parts = []
    for _ in range(rng.randint(1, 12)):
        if rng.random() < 0.4:
            parts.append(rng.choice(PARTS))
        else:
            first, last = rng.choice(SCRIPTS)
            parts.append("".join(chr(rng.randrange(first, last)) for _ in range(rng.randint(1, 8))))
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    _, tokenizer = read_gguf(options.model)
    rng = random.Random(1000)
    grammar = Grammar(rng)
    cases = []
    while len(cases) < 1000:
        one = text(rng, grammar)
        cases.append([one, tokenizer.encode(one, add_special_tokens=False).ids])
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    options.out.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
