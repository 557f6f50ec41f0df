"""Trains the demonstration model: python train.py --minutes 90 --out demo.gguf

Writes the file every 500 steps and at the end. The text is the same for the same seed; how many steps fit into the
time depends on the machine.
"""

import argparse
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax.numpy as jnp  # noqa: E402  (after its settings)
import numpy as np  # noqa: E402

from conversations import Grammar  # noqa: E402
from gguf_file import read_gguf, write_gguf  # noqa: E402
from network import Shape, fresh, fresh_state, make_step  # noqa: E402
from rows import batches  # noqa: E402
from tokenizer import train_tokenizer  # noqa: E402

# Rows x tokens of a step, in turns: mostly short texts, then long system prompts, then long conversations.
SHAPES = [(16, 256), (16, 256), (16, 256), (8, 512), (16, 256), (16, 256), (8, 512), (16, 256), (16, 256), (4, 1024)]
CHUNK = 100  # steps whose text is made at once
WARM_UP = 60  # steps


def main() -> None:
    options = arguments()
    shape = Shape()
    if options.start:
        start, tokenizer = read_gguf(options.start)
    else:
        start, tokenizer = fresh(shape, options.seed), train_tokenizer(sample(options.seed), shape.vocabulary)
    tokenizer_text = tokenizer.to_str()
    weights = {name: jnp.asarray(value) for name, value in start.items()}
    print(f"parameters {sum(value.size for value in weights.values())}", flush=True)
    state = fresh_state(weights)
    step = make_step(shape)
    started, number, tokens, recent = time.monotonic(), 0, 0, []
    shapes = [SHAPES[at % len(SHAPES)] for at in range(CHUNK)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
        pending = maker.submit(batches, tokenizer_text, options.seed * 1_000_000, shapes)
        done = 0.0
        while done < 1.0:
            chunk = pending.result()
            pending = maker.submit(batches, tokenizer_text, options.seed * 1_000_000 + number + CHUNK, shapes)
            for made in chunk:
                done = (time.monotonic() - started) / (60 * options.minutes)
                if done >= 1.0:
                    break
                tokens += int((made["group"] >= 0).sum())
                rate = np.float32(options.rate * schedule(number, done, options.level))
                weights, state, answers = step(weights, state, made, rate, np.float32(number))
                recent.append(answers)
                number += 1
                if number % 25 == 0 or number < 3:
                    choice, rest = np.mean([np.asarray(value) for value in recent], 0)
                    recent = []
                    spent = time.monotonic() - started
                    print(f"step {number} choice {choice:.4f} rest {rest:.4f} tokens {tokens} {spent:.0f} s {tokens / spent:.0f}/s", flush=True)
            if (number // CHUNK) % 5 == 0 or done >= 1.0:
                host = {name: np.asarray(value) for name, value in weights.items()}
                write_gguf(options.out, shape, host, tokenizer)
        pending.cancel()
    print(f"steps {number}, tokens {tokens}, {time.monotonic() - started:.0f} s", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--out", type=Path, default=Path("demo.gguf"))
    parser.add_argument("--start", type=Path, help="a model file of this program to go on with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--level", type=float, default=0.35, help="part of the run before the rate falls")
    return parser.parse_args()


def schedule(number: int, done: float, level: float) -> float:
    """The rate at a step: up at once, level for that part of the run, then down to nearly nothing."""
    warm = min(1.0, (number + 1) / WARM_UP)
    return warm * (1.0 if done < level else max(0.01, (1 - done) / (1 - level)))


def sample(seed: int) -> list[str]:
    """Text for the tokenizer, in the same mixture as the training text."""
    grammar = Grammar(random.Random(seed))
    texts = []
    for _ in range(6000):
        pieces, who = grammar.system(grammar.rng.random() < 0.1)
        pieces += grammar.segment(who, 1)
        texts.append("".join(piece.text for piece in pieces if not piece.special))
        texts.append("".join(piece.text for piece in grammar.raw() if not piece.special))
    return texts


if __name__ == "__main__":
    main()
