"""A task of one's own: one file of Python with the model and the data of a run, and its training if that is
not the one of this package. `Task` says what such a file defines, docs/task.md how it is used.

Security: whoever names a file runs it, as any program of theirs. It never comes over the network: a server
sends the digest of its own copy, in every task of a round and so in every context, and a client that was
given another file, or none, refuses.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from os import PathLike
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fl.data.examples import OWN, Dataset, Inputs, Labels, Shape, check_own
from fl.data.files import write_atomically

if TYPE_CHECKING:
    import torch
    from torch import nn

FILE = "task.py"  # what its copy is called in a run's folder, and in each party's
NEEDED, OPTIONAL = ("model", "data"), ("train",)
TOLD = ("examples", "loss")  # by train()
MOST_WORDS = 300  # of an error's message, which torch may make as long as a page
OURS = ("secagg", "transport", "fl")

Examples = tuple[Inputs, Labels]
"""(x, y): x (N, ...) real or integer, of two to four dimensions, y (N,) integer in 0..classes-1; N >= 1."""


class TaskError(Exception):
    """A task of one's own cannot be used, or its code has failed. The message says in which line."""


class Task(Protocol):
    """What a file for `--task` defines, as functions: the first two at least."""

    def model(self) -> nn.Module:
        """The model with its first weights, float32, drawn from torch's generator alone if at all: that is
        seeded with the run's seed. It takes x and gives logits, (N, classes).
        """

    def data(self, client: int | None, clients: int, folder: Path | None) -> tuple[Examples, Examples]:
        """What this client, by its id, trains on, and what it would test a model on; for client None, the
        server, of which the second is used alone.

        clients: how many the run has, whose ids are 0..clients-1, or those of the roster. folder: that of
        `secagg join --data`; else `--data-dir`, or `data_dir` of a file, None without.
        """

    def train(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, plan: Any) -> Mapping[str, float]:
        """Train the model, in place, on this client's examples, and say on how many, `examples`, its weight
        in the mean, 1..N, and with which mean `loss`. Left out, the trainer's own steps are taken.

        plan: `fl.config.plan.LocalPlan`: epochs, steps, batch_size, lr and momentum are for this loop to
        keep. torch's generator is seeded before, from the client's secret and the round: what is drawn from
        it is nobody else's to foretell, and the same when a run goes on.
        """


@dataclass(frozen=True)
class OwnTask:
    """A file that was read, once: what is run is what the digest is of."""

    path: Path
    source: bytes = field(repr=False)
    functions: Mapping[str, Callable[..., Any]] = field(repr=False)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> OwnTask:
        """Read and run a file. Raises: TaskError where it cannot be read or run, or lacks a function."""
        path = Path(path)
        try:
            source = path.read_bytes()
        except OSError as error:
            raise TaskError(f"{path}: not readable: {error.strerror}") from error
        module = ModuleType(f"task_{sha256(source).hexdigest()[:16]}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # where dataclasses, among others, look for what they decorate
        try:
            code = compile(source, str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError) as error:
            line, why = getattr(error, "lineno", None) or 1, getattr(error, "msg", error)
            raise TaskError(f"{path}, line {line}: not Python: {why}") from error
        with told(path, {}, "its imports"):
            exec(code, module.__dict__)  # noqa: S102 - whoever named the file wants it run
        names = [name for name in (*NEEDED, *OPTIONAL) if hasattr(module, name)]
        functions = {name: getattr(module, name) for name in names}
        if missing := [f"{name}()" for name in NEEDED if name not in functions]:
            raise TaskError(f"{path} defines no {' and no '.join(missing)}: a task has both, as functions")
        if odd := [name for name, function in functions.items() if not callable(function)]:
            raise TaskError(f"{path}: {odd[0]} is no function: a task's model, data and train are")
        return cls(path, source, functions)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return sha256(self.source).hexdigest()

    @property
    def name(self) -> str:
        """What the model is called in tasks and files: by the digest of all that makes it."""
        return OWN + self.digest

    @property
    def trains(self) -> bool:
        """Whether it has a loop of its own."""
        return "train" in self.functions

    def write(self, folder: Path) -> None:
        """Leave a copy in this folder."""
        write_atomically(folder / FILE, self.source)

    def told(self, function: str) -> Any:
        """Around what runs its code: an error becomes one that says where. function: where nothing of the
        file is on the way to it, as of a layer that does not fit.
        """
        return told(self.path, self.functions, function)

    def _at(self, function: str) -> str:
        return _at(self.path, self.functions, function)

    # The model

    @property
    def models(self) -> Mapping[str, Callable[[Shape, int], nn.Module]]:
        """Its one model by name, as `fl.models.architectures.MODELS` has the others."""
        return {self.name: lambda shape, classes: self.model()}

    def model(self) -> nn.Module:
        """A new one, on the CPU. Raises: TaskError for anything that cannot be averaged and kept."""
        import torch
        from torch import nn

        with self.told("model"):
            model = self.functions["model"]()
        where = self._at("model")
        if not isinstance(model, nn.Module):
            raise TaskError(f"{where}: it gives {_kind(model)}, not a torch.nn.Module")
        parameters = list(model.named_parameters(remove_duplicate=False))
        if not parameters:
            raise TaskError(f"{where}: its module has no parameters to train")
        for name, tensor in (*parameters, *model.named_buffers()):
            summed = tensor.is_floating_point() or tensor.is_complex()
            if summed and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
                raise TaskError(
                    f"{where}: {name} is {tensor.dtype} on {tensor.device}: give it as float32, on the CPU"
                )
        if len({id(tensor) for _, tensor in parameters}) < len(parameters):
            raise TaskError(f"{where}: two of its layers share a tensor: give each its own")
        return model

    def classes(self, x: Inputs) -> int:
        """How many logits the model gives of each example. Raises: TaskError where it gives none."""
        import torch

        with torch.random.fork_rng(devices=[]):
            model = self.model().eval()
        with self.told("model"), torch.no_grad():
            logits = model(torch.as_tensor(x[:1]))
        where = self._at("model")
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 1:
            given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else _kind(logits)
            raise TaskError(f"{where}: of one example its module gives {given}, not logits (1, classes)")
        return logits.shape[1]

    def has_statistics(self) -> bool:
        """Whether the model keeps numbers beside its weights that are averaged with them."""
        import torch

        with torch.random.fork_rng(devices=[]):
            return any(buffer.is_floating_point() for buffer in self.model().buffers())

    # The data

    def served(self, clients: int, folder: Path | None) -> Dataset:
        """What the server has: a test set, and nothing to train on. Raises: TaskError, DataError."""
        at = self._at("data")
        where = f"{at}: for the server"
        x, y = _checked(self._given(None, clients, folder, where)[1], f"{where} to test on")
        classes = self.classes(x)
        _check_labels(y, classes, where)
        return Dataset(self.name, x[:0], y[:0], x, y, classes)

    def examples(
        self, client: int, clients: int, folder: Path | None, like: Dataset | None = None
    ) -> tuple[Examples, Examples]:
        """What this client trains on, and what it tests on, as float32 or int64. like: what the server has,
        if that is here. Raises: TaskError, DataError.
        """
        at = self._at("data")
        where = f"{at}: for client {client}"
        train, test = self._given(client, clients, folder, where)
        both = _checked(train, f"{where} to train on"), _checked(test, f"{where} to test on")
        first, classes = both[0][0], like.classes if like is not None else self.classes(both[0][0])
        asked = first[0] if like is None else like.test_x[0]
        for x, y in both:
            _check_labels(y, classes, where)
            if (x.dtype, x.shape[1:]) != (asked.dtype, asked.shape):
                raise TaskError(
                    f"{where} an example is {x.dtype} of shape {x.shape[1:]}, elsewhere {asked.dtype} of "
                    f"shape {asked.shape}"
                )
        return both

    def _given(self, client: int | None, clients: int, folder: Path | None, where: str) -> tuple[Any, Any]:
        with self.told("data"):
            given = self.functions["data"](client, clients, folder)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TaskError(f"{where} it gives {_kind(given)}, not ((x, y), (x, y)) to train and to test on")
        return given[0], given[1]

    # The training

    def trained(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, plan: Any) -> tuple[int, float]:
        """(examples, mean loss) that its loop says. Raises: TaskError for anything else."""
        with self.told("train"):
            said = self.functions["train"](model, x, y, plan)
        where = self._at("train")
        if not isinstance(said, Mapping) or set(said) != set(TOLD):
            given = sorted(map(str, said)) if isinstance(said, Mapping) else _kind(said)
            raise TaskError(f"{where}: it gives {given}, not {{'examples': ..., 'loss': ...}}")
        try:
            examples, loss = int(said["examples"]), float(said["loss"])
        except (TypeError, ValueError, OverflowError) as error:
            raise TaskError(f"{where}: examples and loss are numbers: {error}") from error
        if examples != said["examples"] or not 1 <= examples <= len(y):
            raise TaskError(f"{where}: {said['examples']} examples are none of 1 to {len(y)}, which it has")
        return examples, loss

    def check_same(self, after: int, received: int) -> None:
        """Raises: TaskError where training has left a model of another size."""
        where = self._at("train")
        if after != received:
            raise TaskError(f"{where}: it leaves a model of {after} numbers, and was given one of {received}")


@contextmanager
def told(path: Path, functions: Mapping[str, Any], function: str) -> Iterator[None]:
    """Raises: TaskError, of one line, for whatever is raised but what this package says itself."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if type(error).__module__.split(".")[0] in OURS:
            raise
        raise TaskError(_failed(path, functions, function, error)) from error


def _failed(path: Path, functions: Mapping[str, Any], function: str, error: BaseException) -> str:
    """Where in the file, and what: the innermost line of it on the way to the error."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    words = " ".join(what.split())
    words = words if len(words) <= MOST_WORDS else words[:MOST_WORDS] + "..."
    passed = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == str(path)
    ]
    if not passed:
        return f"{_at(path, functions, function)}, outside of the file: {words}"
    code, line = passed[-1]
    within = "" if code.co_name == "<module>" else f"{code.co_qualname}(), "
    return f"{path}, {within}line {line}: {words}"


def _at(path: Path, functions: Mapping[str, Any], function: str) -> str:
    """The file, the function, and the line in which it begins."""
    code = getattr(functions.get(function), "__code__", None)
    line = f", line {code.co_firstlineno}" if isinstance(code, CodeType) else ""
    return f"{path}, {function}(){line}" if function in functions else f"{path}, {function}"


def _check_labels(y: Labels, classes: int, where: str) -> None:
    if y.min() < 0 or y.max() >= classes:
        raise TaskError(
            f"{where} labels run from {y.min()} to {y.max()}, and model() gives {classes} logits, for 0 to "
            f"{classes - 1}"
        )


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _checked(given: Any, where: str) -> Examples:
    """(x, y) as float32 or int64. Raises: TaskError."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TaskError(f"{where} it gives {_kind(given)}, not (x, y)")
    try:
        x, y = (_number(np.asarray(each)) for each in given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TaskError(f"{where} it gives what is no array: {error}") from error
    check_own(x, y, where)
    return x, y


def _number(each: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As float32 or int64 where it is of real numbers; else as it is, which `check` refuses."""
    if each.dtype.kind in "iub":
        return each.astype(np.int64)
    return each.astype(np.float32) if each.dtype.kind == "f" else each
