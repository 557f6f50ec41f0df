"""The network (llama architecture) and its optimizer, in JAX."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head: int = 64
    hidden: int = 704
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5


# Matrices that Muon trains; the others are trained by Adam.
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def fresh(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Random weights. Matrices map rows to columns and are stacked over layers."""
    rng = np.random.RandomState(seed)
    n, d, f = shape.layers, shape.width, shape.hidden
    q, kv = shape.heads * shape.head, shape.kv_heads * shape.head

    def normal(*size: int, std: float) -> np.ndarray:
        return (rng.randn(*size) * std).astype(np.float32)

    small = 0.5 / (2 * n) ** 0.5
    return {
        "embedding": normal(shape.vocabulary, d, std=0.02),
        "norm": np.ones(d, np.float32),
        "attention_norm": np.ones((n, d), np.float32),
        "feed_norm": np.ones((n, d), np.float32),
        "q": normal(n, d, q, std=d**-0.5),
        "k": normal(n, d, kv, std=d**-0.5),
        "v": normal(n, d, kv, std=d**-0.5),
        "o": normal(n, q, d, std=small * d**-0.5),
        "gate": normal(n, d, f, std=d**-0.5),
        "up": normal(n, d, f, std=d**-0.5),
        "down": normal(n, f, d, std=small * f**-0.5),
    }


def root_mean_square(x, weight, epsilon):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * weight


def rotate(x, cosine, sine):
    """Rotary positions in interleaved pairs, as llama.cpp reads this architecture, so that nothing is permuted."""
    pairs = x.reshape(x.shape[:-1] + (x.shape[-1] // 2, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    return jnp.stack([a * cosine - b * sine, a * sine + b * cosine], -1).reshape(x.shape)


def logits(shape: Shape, weights, batch):
    """Scores of the next token at each place: (rows x length) x vocabulary."""
    tokens = batch["input"]
    rows, length = tokens.shape
    d, groups = shape.head, shape.heads // shape.kv_heads
    # Products of two plain matrices are several times as fast on a CPU as those of stacks.
    hidden = weights["embedding"][tokens.reshape(-1)]
    angle = batch["position"][:, None, :, None] * (shape.rope_base ** (-jnp.arange(0, d, 2) / d))
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    same_group = batch["group"][:, :, None] == batch["group"][:, None, :]
    own = batch["segment"][:, :, None] == batch["segment"][:, None, :]
    shared = batch["segment"][:, None, :] == 0
    before = jnp.tril(jnp.ones((length, length), bool))[None]
    mask = jnp.where(before & same_group & (own | shared), 0.0, -1e9)[:, None, None]

    def split(x, heads):
        return x.reshape(rows, length, heads, d).transpose(0, 2, 1, 3)

    for layer in range(shape.layers):
        x = root_mean_square(hidden, weights["attention_norm"][layer], shape.epsilon)
        query = rotate(split(x @ weights["q"][layer], shape.heads), cosine, sine)
        query = query.reshape(rows, shape.kv_heads, groups, length, d) * d**-0.5
        key = rotate(split(x @ weights["k"][layer], shape.kv_heads), cosine, sine)
        value = split(x @ weights["v"][layer], shape.kv_heads)
        score = jax.nn.softmax(jnp.einsum("bghtd,bgsd->bghts", query, key) + mask, -1)
        mixed = jnp.einsum("bghts,bgsd->bghtd", score, value)
        mixed = mixed.transpose(0, 3, 1, 2, 4).reshape(rows * length, shape.heads * d)
        hidden = hidden + mixed @ weights["o"][layer]
        x = root_mean_square(hidden, weights["feed_norm"][layer], shape.epsilon)
        hidden = hidden + (jax.nn.silu(x @ weights["gate"][layer]) * (x @ weights["up"][layer])) @ weights["down"][layer]
    return root_mean_square(hidden, weights["norm"], shape.epsilon) @ weights["embedding"].T


def losses(shape: Shape, weights, batch):
    """Cross entropy of each target, in nats."""
    scores = logits(shape, weights, batch)
    # As a product, for the gradient of picking one is slow on a CPU.
    picked = (scores * jax.nn.one_hot(batch["target"].reshape(-1), shape.vocabulary)).sum(-1)
    return jax.nn.logsumexp(scores, -1) - picked


def loss(shape: Shape, weights, batch):
    """Weighted mean of the cross entropy, and the means over the first tokens of answers and over the others."""
    each, weight = losses(shape, weights, batch), batch["weight"].reshape(-1)

    def mean(chosen):
        return (each * chosen).sum() / chosen.sum()

    return mean(weight), jnp.stack([mean(weight > 1.0), mean(weight == 1.0)])


def orthogonal(matrix):
    """Newton-Schulz iteration of Muon: all singular values near 1."""
    wide = matrix.shape[0] < matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (jnp.sqrt((x * x).sum()) + 1e-7)
    for _ in range(5):
        y = x @ x.T
        x = 3.4445 * x + (-4.7750 * y + 2.0315 * y @ y) @ x
    return x if wide else x.T


def make_step(shape: Shape):
    """The compiled training step: Muon for matrices, Adam for the rest."""

    def step(weights, state, batch, rate, number):
        (_, answers), slope = jax.value_and_grad(lambda w: loss(shape, w, batch), has_aux=True)(weights)
        norm = jnp.sqrt(sum((slope[name] ** 2).sum() for name in slope))
        clip = jnp.minimum(1.0, 1.0 / norm)
        new, first, second = {}, {}, {}
        for name, old in weights.items():
            if name in MATRICES:
                first[name] = 0.95 * state["first"][name] + slope[name]
                layers = [orthogonal(one) for one in slope[name] + 0.95 * first[name]]
                update = jnp.stack(layers) * (0.2 * max(old.shape[1:]) ** 0.5)
                new[name] = old * (1 - 0.05 * rate) - rate * update
            else:
                gradient = slope[name] * clip
                first[name] = 0.9 * state["first"][name] + 0.1 * gradient
                second[name] = 0.98 * state["second"][name] + 0.02 * gradient * gradient
                mean = first[name] / (1 - 0.9 ** (number + 1))
                spread = second[name] / (1 - 0.98 ** (number + 1))
                new[name] = old - rate * mean / (jnp.sqrt(spread) + 1e-8)
        return new, {"first": first, "second": second}, answers

    return jax.jit(step, donate_argnums=(0, 1))


def fresh_state(weights):
    """The optimizer's memory before the first step."""
    return {
        "first": {name: jnp.zeros_like(value) for name, value in weights.items()},
        "second": {name: jnp.zeros_like(value) for name, value in weights.items() if name not in MATRICES},
    }
