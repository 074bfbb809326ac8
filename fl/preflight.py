"""What a client's update would give away of its own examples: the analytic attack, on itself, before anything
leaves. It knows the truth, and so needs no guess of what an image is.

The verdict is the leak, whoever made the model: an honest one gives away most of a few examples, too. It is
of the single update, before it is rounded: by these means no more is read of a sum that holds it, in which a
neuron has to be moved by one example of all clients alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.plan import LocalPlan
from fl.config.preflight import Preflight
from fl.data.examples import Inputs
from fl.models.architectures import Centred
from secagg.errors import counted

Vector = NDArray[np.float32]

NEAR: Final = 1e-3  # mean squared error of pixels, 30 dB: an example that has come out
SILENT: Final = 1e-7  # of the largest move of a bias: a neuron that nothing has moved
PIXELS: Final = 48  # in which all but some hundred pairs of 500,000 are seen to differ
SKETCHED: Final = 16  # own examples, by whose answers rows of weights are compared
LIKE: Final = 0.9  # cosine of two rows that point the same way
FLOAT: Final = 1e-5  # of squared lengths, by which float32 may be off
TINY: Final = 1e-6
NOTHING: Final = (
    "the preflight reads what enters a first linear layer, and this model begins with another: what its "
    "update gives away is not known"
)
MUCH: Final = 0.1  # of a client's examples: told as a warning, whatever its policy lets out
LEADERS: Final = 64  # rows that all are compared with
CHUNK: Final = 1024  # pairs compared in all their pixels at a time
SMALL: Final = 1e-30  # instead of a length that is none


class Withheld(Exception):  # noqa: N818 - reads as what happened
    """This client's update would have given more of its examples away than its policy lets it."""


@dataclass(frozen=True)
class Verdict:
    """Of one update. nothing: why there is nothing that is read so, "" where there is. examples: that are in
    it, at most; out: how many of the client's own come out. largest: share that may. alike: neurons whose
    weights point the same way as those of two others, where most do, as in a layer made for reading: then
    none may, for a narrow one reads few and stays below any share.
    """

    nothing: str
    examples: int
    out: int = 0
    largest: float = 1.0
    alike: int = 0

    @property
    def share(self) -> float:
        return min(1.0, self.out / self.examples)

    @property
    def leaks(self) -> bool:
        return self.share > self.largest or (self.alike > 0 and self.out > 0)

    @property
    def noteworthy(self) -> bool:
        """More than may come out, or much of it, or a layer made for reading."""
        return self.leaks or self.share >= MUCH or self.alike > 0

    def sentence(self) -> str:
        """What there is to say, and what to do."""
        if self.nothing:
            return self.nothing
        of_them = f"{self.out} of the {counted(self.examples, 'example')} in this client's update"
        may = (
            f"none may, since {self.alike} of its neurons have weights that point the same way"
            if self.alike
            else f"{self.largest:.0%} may"
        )
        return (
            f"{of_them} can be read off its first layer ({self.share:.0%}; {may}): more local steps, larger "
            "batches, noise or another model hide more"
        )


def preflight(
    model: nn.Module,
    x: Inputs,
    update: NDArray[np.floating],
    plan: LocalPlan,
    rules: Preflight,
    *,
    noise: float = 0.0,
    kept: Kept | None = None,
) -> Verdict:
    """How many of this client's examples come out of its update.

    model: as it was received, on the CPU. x: (N, ...), all that this client holds. update: (d,), as
    `LocalResult.upload`. noise: standard deviation of what is still to be added to each number of it. kept:
    of the rounds before with these same x, and for those after; filled here.

    Read are the rows of a first linear layer, each over the move of its bias, which a neuron that one example
    alone has moved holds to the last digit (Phong et al., IEEE TIFS 13(5), 2018), after one local step or
    many; and the differences of rows whose weights point the same way, in the order in which the neurons fire
    (Fowl et al., Robbing the Fed, ICLR 2022).
    """
    most = len(x) if plan.algorithm == "fedsgd" else plan.steps_of(len(x)) * plan.batch_size
    examples = min(len(x), most)
    before, first, rest = opened(model)
    if first is None:
        return Verdict(NOTHING, examples)
    kept = {} if kept is None else kept
    centred = sum(isinstance(one, Centred) for one in before)
    if (own := kept.get(centred)) is None:
        own = kept[centred] = Own.of(entered(x, before), NEAR * 4.0**centred)
    layer = Layer.of(first, rest)
    moved, groups = Moved.of(layer, update, plan, noise), layer.groups(own)
    out = np.zeros(len(x), dtype=bool)
    for read in (moved, differences_of(moved, layer, groups, own)):
        if read is not None:
            own.come_out(read, lambda of: entered(x[of], before), out)
    sizes = np.bincount(groups)
    alike = int(sizes[sizes > 2].sum())
    # Of few examples any row looks like another, and of a trained model some do.
    alike = alike if len(x) > SKETCHED and 2 * alike > len(groups) else 0
    return Verdict("", examples, int(out.sum()), rules.largest(examples), alike)


def inspector(
    received: Callable[[bytes], nn.Module],
    x: Inputs,
    plan: LocalPlan,
    rules: Preflight,
    *,
    name: str = "update",
    told: Callable[[Verdict], None] = lambda verdict: None,
) -> Callable[[bytes, Mapping[str, NDArray[np.floating]]], None]:
    """For `transport.join(inspect=)` in a loop of one's own: (task, vectors) -> None, the preflight of
    the vector of that name.

    received: of a task the model as it came, on the CPU. x, plan, rules: as of `preflight`; x stays as it is.
    name: of that vector. told: hears every verdict.

    Raises, when it is called: Withheld, where more comes out than may, and the rules are to refuse.
    """

    kept: Kept = {}

    def look(task: bytes, vectors: Mapping[str, NDArray[np.floating]]) -> None:
        if rules.action == "off":
            return
        verdict = preflight(received(task), x, vectors[name], plan, rules, kept=kept)
        told(verdict)
        if verdict.leaks and rules.action == "refuse":
            raise Withheld(f"nothing was sent: {verdict.sentence()}")

    return look


def opened(model: nn.Module) -> tuple[list[nn.Module], nn.Linear | None, list[nn.Module]]:
    """What examples go through before a first linear layer with a bias, which moves no pixel; that layer,
    None where examples do not enter one so; and what follows it.
    """
    layers = list(model.children()) if isinstance(model, nn.Sequential) else []
    before = list(takewhile(lambda layer: isinstance(layer, Centred | nn.Flatten), layers))
    first = layers[len(before)] if len(before) < len(layers) else None
    if not isinstance(first, nn.Linear) or first.bias is None:
        return before, None, []
    return before, first, layers[len(before) + 1 :]


def entered(x: Inputs, before: list[nn.Module]) -> Vector:
    """(N, d): these examples as they enter the layer."""
    with torch.no_grad():
        entering = torch.as_tensor(x).float()
        for one in before:
            entering = one(entering)
    flat: Vector = torch.flatten(entering, 1).numpy()
    return flat


@dataclass(frozen=True)
class Layer:
    """The first linear layer as it was received. weight: (H, d), bias: (H,). following: (H, K), what each
    neuron is multiplied by in the linear layer behind, (H, 1) of ones where there is none.
    """

    weight: Vector
    bias: Vector
    following: Vector

    @classmethod
    def of(cls, first: nn.Linear, rest: list[nn.Module]) -> Layer:
        weight, bias = first.weight.detach().numpy(), first.bias.detach().numpy()
        behind = next((layer for layer in rest if isinstance(layer, nn.Linear)), None)
        following = (
            np.ones((len(bias), 1), np.float32) if behind is None else behind.weight.detach().numpy().T
        )
        return cls(weight, bias, following)

    def groups(self, own: Own) -> NDArray[np.int64]:
        """(H,): of each neuron one whose weights point the same way, itself where there is none: seen from
        this client's own examples, which a server that hides a likeness does not know.
        """
        if own.seen is None:  # one image many times
            return np.arange(len(self.bias))
        answers = _product(self.weight, own.seen)
        answers /= np.maximum(np.linalg.norm(answers, axis=1, keepdims=True), SMALL)
        # Rows that are alike stand together in this order: of any LEADERS-th of all one is among them.
        order = np.argsort(answers[:, -1], kind="stable")
        leaders = order[:: max(1, len(order) // LEADERS)]
        alike = _product(answers, answers[leaders].T) > LIKE
        first = alike.argmax(axis=1)
        one = np.arange(len(order))
        found: NDArray[np.int64] = np.where(alike[one, first], leaders[first], one)
        return found

    def scale(self, of: NDArray[np.int64], groups: NDArray[np.int64]) -> Vector:
        """By how much more than its group's first each of these neurons counts behind."""
        of_first = self.following[groups[of]]
        dots = np.einsum("hk,hk->h", self.following[of], of_first)
        scale: Vector = dots / np.maximum(np.square(of_first).sum(axis=1), SMALL)
        return scale

    def firing(self, of: NDArray[np.int64], mean: Vector) -> Vector:
        """How far the mean of the examples, (d,), is above the threshold of each of these neurons, in lengths
        of its row.
        """
        weight = self.weight[of]
        lengths = np.maximum(np.linalg.norm(weight, axis=1), SMALL)
        answers: Vector = (weight @ mean + self.bias[of]) / lengths
        return answers


@dataclass(frozen=True)
class Moved:
    """How far a linear layer has moved, or differences of its neurons. weight: (M, d), bias: (M,). deviation:
    (M,), of the noise that each number of a neuron is still to get.
    """

    weight: Vector
    bias: Vector
    deviation: Vector

    @classmethod
    def of(cls, layer: Layer, update: NDArray[np.floating], plan: LocalPlan, noise: float) -> Moved:
        size, (hidden, width) = layer.weight.size, layer.weight.shape
        weight, bias = update[:size].reshape(hidden, width), update[size : size + hidden]
        if plan.algorithm == "fedavg-weights":
            weight, bias = weight - layer.weight, bias - layer.bias
        return cls(
            weight.astype(np.float32, copy=False),
            bias.astype(np.float32, copy=False),
            np.full(hidden, noise, np.float32),
        )

    @property
    def heard(self) -> NDArray[np.int64]:
        """Neurons that something has moved."""
        sizes = np.abs(self.bias)
        return np.flatnonzero(sizes > SILENT * sizes.max(initial=0))

    def rows(self, of: NDArray[np.int64], pixels: NDArray[np.int64] | None = None) -> Vector:
        """Weights of these neurons over their biases, in these pixels, or in all."""
        rows: Vector = (self.weight if pixels is None else self.weight[:, pixels])[of]
        rows /= self.bias[of, None]
        return rows

    def variance(self, of: NDArray[np.int64], squares: Vector) -> Vector:
        """Of each number in these rows, by the noise. squares: the mean of each row's, squared."""
        variance: Vector = np.square(self.deviation[of] / self.bias[of]) * (1 + squares)
        return variance


def differences_of(moved: Moved, layer: Layer, groups: NDArray[np.int64], own: Own) -> Moved | None:
    """Of neighbours in a group, in the order in which they fire: what makes the one fire and not the other.
    Each is brought to the scale on which the group's first is multiplied behind. None where all are alone.
    """
    some = np.flatnonzero(np.bincount(groups, minlength=len(groups))[groups] > 1)
    if not len(some):
        return None
    order = some[np.lexsort((layer.firing(some, own.mean), groups[some]))]
    near = groups[order[1:]] == groups[order[:-1]]
    scale = layer.scale(order, groups)
    near &= np.minimum(np.abs(scale[1:]), np.abs(scale[:-1])) > TINY
    (one, of_one), (other, of_other) = (
        (each[near], by[near]) for each, by in ((order[1:], scale[1:]), (order[:-1], scale[:-1]))
    )
    return Moved(
        moved.weight[one] / of_one[:, None] - moved.weight[other] / of_other[:, None],
        moved.bias[one] / of_one - moved.bias[other] / of_other,
        np.hypot(moved.deviation[one] / of_one, moved.deviation[other] / of_other),
    )


@dataclass(frozen=True)
class Own:
    """What follows from a client's examples alone, as they enter the layer, the same in all rounds.

    near: mean squared error below which one has come out. mean: (d,). seen: (d, SKETCHED), by whose answers
    rows of weights are compared, None where no two examples differ. pixels: (p,), in which they differ. few:
    (N, p), the examples there; squares: (N,), of each the sum.
    """

    near: float
    mean: Vector
    seen: Vector | None
    pixels: NDArray[np.int64]
    few: Vector
    squares: Vector

    @classmethod
    def of(cls, inputs: Vector, near: float) -> Own:
        """inputs: (N, d)."""
        some = inputs[:SKETCHED] - inputs[:SKETCHED].mean(axis=0)
        # Between two of them lies as much as between any others of what differs: of an image, all over it.
        # SMALL: all over it, too, where these few are one image and the rest is not.
        mass = np.cumsum(np.square(some).sum(axis=0) + SMALL)
        pixels = np.unique(np.searchsorted(mass, (np.arange(PIXELS) + 0.5) / PIXELS * mass[-1]))
        few = inputs[:, pixels]
        mean: Vector = inputs.mean(axis=0)
        return cls(
            near, mean, _seen(some if len(inputs) > 2 else inputs), pixels, few, np.square(few).sum(axis=1)
        )

    def come_out(
        self, moved: Moved, taken: Callable[[NDArray[np.int64]], Vector], out: NDArray[np.bool_]
    ) -> None:
        """Mark in out, (N,), which examples are near to a row over its bias. taken: (n,) of them -> (n, d).

        All pairs are compared in a few pixels first, in which they can only be nearer than in all: no pair is
        missed, and it costs a small part of a step of training.
        """
        for which, of in self._pairs(moved, ~out):
            rows = moved.rows(which)
            variance = moved.variance(which, _means(rows))
            rows -= taken(of)
            out[of[_means(rows) + variance < self.near]] = True

    def _pairs(
        self, moved: Moved, left: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(neurons, examples) that the few pixels do not tell apart, of examples that are left, CHUNK at a
        time.
        """
        heard, width = moved.heard, len(self.mean)
        rows = moved.rows(heard, self.pixels)
        squares = np.einsum("hp,hp->h", rows, rows)
        # Longer than any example can be nearly, half of those that several examples have moved.
        longest = np.sqrt(self.squares.max()) + np.sqrt(self.near * width)
        possible = squares * (1 - FLOAT) < longest**2
        heard, rows, squares = heard[possible], rows[possible], squares[possible]
        squared = (self.near - moved.variance(heard, squares / width)) * width
        # "(a - b)^2 < s" as "ab > (a^2 + b^2 - s) / 2".
        dots = _product(rows, self.few.T)
        dots -= self.squares * ((1 - FLOAT) / 2)
        # `np.nonzero` of two axes takes longer than the product before it.
        pairs = np.flatnonzero(dots > (squares * (1 - FLOAT) - squared)[:, None] / 2)
        i, j = np.divmod(pairs, len(self.few))
        i, j = i[left[j]], j[left[j]]
        for at in range(0, len(i), CHUNK):
            yield heard[i[at : at + CHUNK]], j[at : at + CHUNK]


Kept = dict[int, Own]
"""Of one client, by how often a model centres what enters it, which the server may change."""


def _product(left: Vector, right: Vector) -> Vector:
    """Of two matrices, by the threads of training: numpy's own are as many as cores, wait for one another,
    and took ten times as long where others were at work.
    """
    product: Vector = torch.mm(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    return product


def _means(rows: Vector) -> Vector:
    """(M,): of each row the mean of its squares."""
    means: Vector = np.einsum("hd,hd->h", rows, rows) / rows.shape[1]
    return means


def _seen(some: Vector) -> Vector | None:
    """(d, n) of (n, d) examples: directions in which they differ, each by as much; None where they do not."""
    squares, turned = np.linalg.eigh(some @ some.T)
    kept = squares > TINY * max(1.0, squares[-1])
    if not kept.any():
        return None
    # All columns, those of nothing as zeros: products of 16 take two thirds of the time of those of 15.
    scale = np.where(kept, 1 / np.sqrt(np.where(kept, squares, 1)), 0)
    seen: Vector = some.T @ (turned * scale)
    return seen
