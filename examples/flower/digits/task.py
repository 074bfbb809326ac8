"""What is learned: softmax regression on scikit-learn's handwritten digits, in numpy."""

import numpy as np
from sklearn.datasets import load_digits

STEPS = 20


def initial():
    return {"w": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32), "steps": np.array(0)}


def share(partition, partitions):
    """The examples of one node: of each a part of its own, of other sizes."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(int)
    edges = np.linspace(0, 1, partitions + 1) ** 1.5 * len(x)
    mine = slice(int(edges[partition]), int(edges[partition + 1]))
    return x[mine], y[mine]


def scores(model, x, y):
    """(loss, accuracy, probabilities)."""
    logits = x @ model["w"] + model["b"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]).mean(), (p.argmax(axis=1) == y).mean(), p


def train(model, x, y, learning_rate):
    """Full gradient steps. Returns the mean loss."""
    losses = []
    for _ in range(STEPS):
        loss, _, p = scores(model, x, y)
        p[np.arange(len(y)), y] -= 1
        model["w"] = model["w"] - np.float32(learning_rate) * (x.T @ p) / len(x)
        model["b"] = model["b"] - np.float32(learning_rate) * p.mean(axis=0)
        losses.append(loss)
    model["steps"] = np.asarray(model["steps"]).astype(np.int64) + STEPS
    return float(np.mean(losses))
