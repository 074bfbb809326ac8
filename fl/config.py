"""One frozen description of a run, from TOML or JSON, to JSON. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fl.data import DATASETS
from fl.data.files import write_atomically
from fl.protection import Protection

MODELS = ("cnn", "mlp", "logistic")  # fl.models.MODELS, which imports torch
CHOICES: dict[str, tuple[str, ...]] = {
    "model": MODELS,
    "dataset": tuple(DATASETS),
    "scheme": ("masking", "ckks", "plain"),
    "adversary": ("active", "semi-honest"),
    "ending": ("release", "keep"),
    "graph": ("auto", "complete", "sparse"),
    "device": ("auto", "cpu", "cuda", "mps"),
}


class ConfigError(ValueError):
    """The description of a run is not usable. The message names the key, the file and what would do."""


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run. The defaults are measured: at least 0.97 on digits at seeds 0 to 9.

    Raises: ConfigError for a value of the wrong type or out of its range.
    """

    clients: Annotated[int, Meta(ge=1, le=10_000)] = 8
    rounds: Annotated[int, Meta(ge=1, le=100_000)] = 15
    local_epochs: Annotated[int, Meta(ge=1, le=1_000)] = 2
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 8
    lr: Annotated[float, Meta(gt=0, le=100)] = 0.05
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.8
    model: str = "cnn"
    dataset: str = "digits"
    alpha: Annotated[float, Meta(ge=1e-3, le=1e6)] = 0.5
    """Dirichlet concentration of the clients' label mixtures: small is skewed, large is even."""
    scheme: str = "masking"
    adversary: str | None = None
    """What the server may do: anything (active), or only look (semi-honest). None: the worse that the scheme
    withstands: ckks only looks."""
    ending: str | None = None
    """Of ckks: three clients release the model to the server, or all clients keep it. None: release."""
    corrupt: Annotated[int, Meta(ge=0, le=10_000)] | Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Clients assumed on the server's side, a number or a fraction; None: a tenth."""
    dropout: Annotated[int, Meta(ge=0, le=10_000)] | Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Clients that a session may lose, a number or a fraction; None: three tenths, or what is possible."""
    graph: str = "auto"
    """Who deals shares to whom: all to all (complete), each to some (sparse); auto: by the cohort's size."""
    batch: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Sum by whole batches of so many clients, by id; 0: not."""
    bits: Annotated[int, Meta(ge=2, le=32)] = 16
    """Bits per coordinate of a client's encoded update."""
    bound: Annotated[float, Meta(gt=0, le=1e6)] = 3.0
    """Range [-bound, bound] of a coordinate of an update. The largest seen in 60 default runs is 0.97."""
    clip: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    """L2 norm to which an update is scaled down; None: not at all."""
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Of the partition, the initial weights and the order of examples; of no key and no mask."""
    device: str = "auto"
    """auto (CUDA where there is one, else cpu), cpu, cuda, cuda:N or mps."""
    drop: tuple[str, ...] = ()
    """Clients to lose on purpose, ID@ROUND[:TRAINING-ROUND] each; the command line reads them."""
    data_dir: str | None = None
    max_examples: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """Largest weight of a client, public; None: the data set's number of training examples."""
    small_cohort: bool = False
    """Allow one or two clients, where a sum hides nothing: for experiments."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = _checked(field, getattr(self, field.name))
            msgspec.structs.force_setattr(self, field.name, value)  # 1 becomes 1.0, a list a tuple

    @property
    def protection(self) -> Protection:
        names = (
            field.name for field in dataclasses.fields(Protection) if field.name in self.__struct_fields__
        )
        return Protection(**{name: getattr(self, name) for name in names})

    @classmethod
    def read(cls, path: str | PathLike[str], **overrides: Any) -> RunConfig:
        """The description in a .toml or .json file, with `overrides` in place of what it says.

        Raises: ConfigError, naming the file where the fault is the file's.
        """
        path = Path(path)
        given = _parse(path)
        _known(given, f"{path}: ")
        _known(overrides)
        for field in msgspec.structs.fields(cls):
            if field.name in given and field.name not in overrides:
                _checked(field, given[field.name], f"{path}: ")
        return cls(**{**given, **overrides})

    def write(self, path: str | PathLike[str]) -> None:
        """Write as JSON that `read` accepts; a file already there is replaced whole."""
        write_atomically(Path(path), msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def _parse(path: Path) -> dict[str, Any]:
    """The file's top-level table, keys and values as they stand."""
    parsers: dict[str, Callable[[bytes], Any]] = {
        ".toml": lambda content: tomllib.loads(content.decode()),
        ".json": msgspec.json.decode,
    }
    if path.suffix not in parsers:
        raise ConfigError(f"{path}: a configuration's name ends in .toml or .json")
    try:
        given = parsers[path.suffix](path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except ValueError as error:  # of both parsers, and of text that is not UTF-8
        raise ConfigError(f"{path}: not {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError(f'{path}: the file must hold one table of keys, such as {{"rounds": 10}}')
    return given


def _known(given: Mapping[str, Any], where: str = "") -> None:
    fields = RunConfig.__struct_fields__
    for key in given:
        if key not in fields:
            raise ConfigError(f"{where}unknown key {key!r}{_nearest(key, fields)}")


def _checked(field: msgspec.structs.FieldInfo, value: Any, where: str = "") -> Any:
    """The value as its field's type, or ConfigError."""
    name = field.name
    try:
        value = msgspec.convert(value, field.type)
        msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}{name} = {value!r}: give text that UTF-8 can hold") from error
    except msgspec.ValidationError as error:
        wanted = str(error).replace("`", "").removeprefix("Expected ")
        raise ConfigError(f"{where}{name} = {value!r}: give {wanted}") from error
    if (
        name in CHOICES
        and value is not None
        and re.sub(r"^cuda:\d{1,3}\Z", "cuda", value) not in CHOICES[name]
    ):
        nearest = _nearest(value, CHOICES[name])
        raise ConfigError(f"{where}{name} = {value!r}: give one of {', '.join(CHOICES[name])}{nearest}")
    return value


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
