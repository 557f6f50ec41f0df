"""Packs conversations into rows of tokens.

A row holds groups; a group is a system prompt and segments that all stand after it and do not see each other. So a
long system prompt is computed once for many questions.
"""

import random

import numpy as np
from tokenizers import Tokenizer

from conversations import ANSWER, CHOICE, CHOICE_TOKENS, Grammar, Piece
from personas import Persona
from tokenizer import SPECIAL

# Part of the rows that repeat random tokens: to call itself by a name it has never seen, a model must have learnt
# to say again what stood there before, whatever it is.
REPEATS = 0.08
REPEATED = 0.5  # weight of a repeated token

# Columns of a row: token, weight as a target, group, segment (0: the system prompt), position.
COLUMNS = 5


class Packer:
    """Fills rows from a grammar."""

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer):
        self.grammar, self.rng = grammar, grammar.rng
        self.plain = tokenizer

    def encode(self, pieces: list[Piece]) -> tuple[list[int], list[float]]:
        tokens, weights = [], []
        for piece in pieces:
            # What users write is never read as a mark of the template; the phrases hold none.
            ids = self.plain.encode(piece.text, add_special_tokens=False).ids
            if piece.short:
                ids = ids[: CHOICE_TOKENS + 1]
            tokens += ids
            if piece.weight == CHOICE:
                weights += [CHOICE] * min(len(ids), CHOICE_TOKENS) + [ANSWER] * (len(ids) - CHOICE_TOKENS)
            else:
                weights += [piece.weight] * len(ids)
            if piece.short:
                break
        return tokens, weights

    def row(self, length: int) -> np.ndarray:
        """One row of `length` + 1 tokens."""
        if self.rng.random() < REPEATS:
            return self.repeats(length)
        size = length + 1
        row = np.zeros((COLUMNS, size), np.float32)
        row[2] = -1
        at, group, segment, full = 0, 0, 0, 0
        while size - at > 24 and full < 5:
            raw = self.rng.random() < 0.4
            long = not raw and length >= 512 and size - at > 320 and self.rng.random() < 0.8
            who = None
            prefix: list[Piece] = []
            if not raw:
                prefix, who = self.grammar.system(long)
            tokens, weights = self.encode(prefix)
            if len(tokens) + 40 > size - at:
                full += 1
                continue
            start, depth = at, len(tokens)
            self.place(row, at, tokens, weights, group, 0, 0)
            at += depth
            for _ in range(self.rng.choice([6, 8, 12]) if long else self.rng.choice([1, 2, 3])):
                tokens, weights = self.encode(self.segment(who, length))
                if len(tokens) > size - at:
                    continue
                segment += 1
                self.place(row, at, tokens, weights, group, segment, depth)
                at += len(tokens)
            if at == start + depth:
                row[1:4, start:] = np.array([0, -1, 0])[:, None]
                at, full = start, full + 1
            else:
                group += 1
        return row

    def repeats(self, length: int) -> np.ndarray:
        """A row of short runs of random tokens, each with its beginning said again later."""
        size, at, group = length + 1, 0, 0
        row = np.zeros((COLUMNS, size), np.float32)
        row[2] = -1
        ordinary = range(len(SPECIAL), self.plain.get_vocab_size())
        while size - at > 80:
            first = [self.rng.choice(ordinary) for _ in range(self.rng.randint(6, 24))]
            tokens, weights = list(first), [0.0] * len(first)
            for _ in range(self.rng.randint(1, 2)):
                start = self.rng.randrange(len(first) - 4)
                again = first[start : start + self.rng.randint(4, 12)]
                tokens += [self.rng.choice(ordinary), *again]
                # The first one comes from nowhere; what follows it is known.
                weights += [0.0, 0.0] + [REPEATED] * (len(again) - 1)
            if len(tokens) > size - at:
                break
            self.place(row, at, tokens, weights, group, 0, 0)
            at, group = at + len(tokens), group + 1
        return row

    def segment(self, who: Persona | None, length: int) -> list[Piece]:
        """What stands after a system prompt, or a text without the chat template."""
        if who is None:
            return self.grammar.raw()
        turns = self.rng.choice([1, 1, 1, 2, 3, 4]) if length < 1024 else self.rng.randint(6, 16)
        # What the user says about himself is known in his own segment alone.
        who.user = None
        return self.grammar.segment(who, turns)

    @staticmethod
    def place(row, at, tokens, weights, group, segment, position):
        end = at + len(tokens)
        row[0, at:end], row[1, at:end] = tokens, weights
        row[2, at:end], row[3, at:end] = group, segment
        row[4, at:end] = np.arange(position, position + len(tokens))


def batch(packer: Packer, rows: int, length: int) -> dict[str, np.ndarray]:
    """A batch: inputs, targets with weights, and what attention needs."""
    stack = np.stack([packer.row(length) for _ in range(rows)])
    token, weight, group, segment, position = (stack[:, column] for column in range(COLUMNS))
    follows = (segment[:, 1:] == segment[:, :-1]) & (group[:, 1:] == group[:, :-1])
    return {
        "input": token[:, :-1].astype(np.int32),
        "target": token[:, 1:].astype(np.int32),
        "weight": weight[:, 1:] * follows,
        "group": group[:, :-1].astype(np.int32),
        "segment": segment[:, :-1].astype(np.int32),
        "position": position[:, :-1].astype(np.int32),
    }


def batches(tokenizer: str, seed: int, shapes: list[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
    """Batches of the shapes asked for; runs in a process of its own."""
    grammar = Grammar(random.Random(seed))
    packer = Packer(grammar, Tokenizer.from_str(tokenizer))
    return [batch(packer, rows, length) for rows, length in shapes]
