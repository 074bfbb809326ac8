"""One frozen description of a run, from TOML or JSON, to JSON. Nothing here imports torch."""

from __future__ import annotations

import codecs
import dataclasses
import re
import reprlib
import tomllib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from fl.config.alike import one_gradient
from fl.config.plan import Algorithm, LocalPlan, Optimiser, Precision, ServerStep
from fl.config.protection import Protection
from fl.data import DATASETS
from fl.data.files import write_atomically
from fl.mistyped import nearest
from secagg import Policy
from secagg.errors import counted
from secagg.schemes import SCHEMES

MODELS = (
    "cnn",
    "mlp",
    "logistic",
    "mlp-200",
    "mcmahan-cnn",
    "lenet-zhu",
    "lenet-4conv",
    "tolpegin-fmnist",
    "tolpegin-cifar10",
    "fed-cdp",
    "resnet18",
    "gru",
    "bag-of-words",
)  # fl.models.architectures.MODELS, which imports torch
CHOICES: dict[str, tuple[str, ...]] = {
    "model": MODELS,
    "dataset": tuple(DATASETS),
    "partition": ("dirichlet", "iid", "shards", "quantity"),
    "damage": ("noise", "missing", "labels"),
    "select": ("chance", "quality", "channel"),
    "cluster": ("label", "place", "mode"),
    "links": ("lte", "wifi", "5g", "mixed"),
    "algorithm": ("fedavg", "fedavg-weights", "fedsgd"),
    "server": ("average", "momentum", "adam", "yogi"),
    "precision": ("float32", "float64", "bfloat16"),
    "execution": ("processes", "auto", "batched", "sequential"),
    "scheme": tuple(SCHEMES),
    "adversary": ("active", "semi-honest"),
    "ending": ("release", "keep"),
    "graph": ("auto", "complete", "sparse"),
    "prg": ("aes-128-ctr", "chacha20"),
    "alike": ("auto", "always", "never"),
    "device": ("auto", "cpu", "cuda", "mps"),
}


class ConfigError(ValueError):
    """The description of a run is not usable. The message names the key, the file and what would do."""


def _of(panel: str, help: str, *, unset: str = "", **limits: Any) -> Meta:
    """The limits of a field, with what the command line says of it: its flag is made from this. unset: what
    None stands for.
    """
    return Meta(description=help, extra={"panel": panel, "unset": unset}, **limits)


COHORT, DATA, TRAINING, SERVER, PROTECTION = (
    "Who takes part",
    "Data",
    "Training",
    "The server's step",
    "Protection",
)
_CLIENTS = {"ge": 0, "le": 10_000}
_SHARE = {"ge": 0, "lt": 1}


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run. The defaults are measured: at least 0.97 on digits at seeds 0 to 9.

    Raises: ConfigError for a value of the wrong type, out of its range, or that contradicts another.
    """

    clients: Annotated[int, _of(COHORT, "Clients, N.", ge=1, le=10_000)] = 8
    sample: (
        Annotated[
            int, _of(COHORT, "Clients of each round, K: 10, or 0.1 of all.", unset="all", ge=1, le=10_000)
        ]
        | Annotated[float, Meta(gt=0, lt=1)]
        | None
    ) = None
    select: Annotated[str, _of(COHORT, "By what they are chosen: chance, or what they declare.")] = "chance"
    cluster: (
        Annotated[str, _of(COHORT, "One sum for each cluster of clients; mode is that of upload.")] | None
    ) = None
    links: Annotated[str, _of(COHORT, "Model of the clients' network; its delay is recorded.")] | None = None
    deadline: (
        Annotated[
            float,
            _of(
                COHORT, "Seconds for training and for the upload; in one process, of the links' model.", gt=0
            ),
        ]
        | None
    ) = None
    minimum: (
        Annotated[
            int,
            _of(
                COHORT,
                "Uploads that a sum needs, of each cluster where there are some, else it is abandoned.",
                ge=1,
                le=10_000,
            ),
        ]
        | None
    ) = None
    drop: tuple[str, ...] = ()
    """Clients to lose on purpose, ID@ROUND[:TRAINING-ROUND] each; the command line reads them."""
    baseline: Annotated[bool, _of(COHORT, "Run the plain scheme beside it.")] = True
    small_cohort: Annotated[bool, _of(COHORT, "Allow 1 or 2 clients, where a sum hides nothing.")] = False

    dataset: Annotated[str, _of(DATA, "See `secagg list data`.")] = "digits"
    data_dir: Annotated[str, _of(DATA, "Where data sets are looked for.")] | None = None
    partition: Annotated[str, _of(DATA, "Who holds what: `secagg data picture` draws it.")] = "dirichlet"
    alpha: Annotated[
        float,
        _of(
            DATA,
            "With --partition dirichlet or quantity, concentration: small is skewed, large is even.",
            ge=1e-3,
            le=1e6,
        ),
    ] = 0.5
    classes_per_client: Annotated[int, _of(DATA, "With --partition shards.", ge=1, le=65_536)] = 2
    examples_per_client: (
        Annotated[
            int, _of(DATA, "Just so many each; clients overlap if there are too few.", ge=1, le=2**31 - 1)
        ]
        | None
    ) = None
    validation: (
        Annotated[
            float,
            _of(
                DATA,
                "Share of the training data that the server keeps.",
                unset="0.1 with --until-accuracy, else none",
                ge=0,
                le=0.5,
            ),
        ]
        | None
    ) = None
    """For what the server decides, never the test set."""
    damage: Annotated[str, _of(DATA, "What is wrong with some clients' data.")] | None = None
    damage_level: Annotated[float, _of(DATA, "How wrong.", gt=0, le=1)] = 0.3
    damaged: Annotated[float, _of(DATA, "Share of the clients with damaged data.", ge=0, le=1)] = 0.3
    max_examples: (
        Annotated[
            int,
            _of(
                DATA,
                "Largest weight of a client, public.",
                unset="--examples-per-client, else all training examples",
                ge=1,
                le=2**31 - 1,
            ),
        ]
        | None
    ) = None

    model: Annotated[str, _of(TRAINING, "See `secagg list models`.")] = "cnn"
    algorithm: Annotated[str, _of(TRAINING, "Clients send updates, weights or gradients.")] = "fedavg"
    rounds: Annotated[int, _of(TRAINING, "Training rounds.", ge=1, le=100_000)] = 15
    until_accuracy: (
        Annotated[float, _of(TRAINING, "Stop at this accuracy on the validation data.", gt=0, le=1)] | None
    ) = None
    local_epochs: Annotated[int, _of(TRAINING, "Epochs a round and client.", ge=1, le=1_000)] = 2
    local_steps: (
        Annotated[int, _of(TRAINING, "Or so many steps, whatever a client holds.", ge=1, le=100_000)] | None
    ) = None
    batch_size: Annotated[int, _of(TRAINING, "Examples a step.", ge=1, le=65_536)] = 8
    lr: Annotated[float, _of(TRAINING, "Learning rate of SGD.", gt=0, le=100)] = 0.05
    momentum: Annotated[float, _of(TRAINING, "Of SGD.", **_SHARE)] = 0.8
    proximal: Annotated[
        float, _of(TRAINING, "FedProx: mu, how hard clients are held near the received model.", ge=0, le=100)
    ] = 0.0
    precision: Annotated[str, _of(TRAINING, "Of the clients' computation.")] = "float32"
    execution: Annotated[
        str,
        _of(
            TRAINING,
            "Clients as processes, or all in one process: auto is the faster of the other two.",
        ),
    ] = "processes"
    device: Annotated[str, _of(TRAINING, "Where models are trained; cuda:N for one of several.")] = "auto"
    """auto is CUDA where there is one, else cpu."""
    seed: Annotated[
        int,
        _of(
            TRAINING,
            "Of data and first weights; of no choice, order, key or mask.",
            ge=0,
            le=2**63 - 1,
        ),
    ] = 0

    server: Annotated[str, _of(SERVER, "How the model follows the mean update.")] = "average"
    server_lr: Annotated[float, _of(SERVER, "Of the step along the mean update.", gt=0, le=100)] = 1.0
    server_momentum: Annotated[float, _of(SERVER, "beta 1.", **_SHARE)] = 0.9
    server_beta2: Annotated[float, _of(SERVER, "Of adam and yogi.", **_SHARE)] = 0.99
    server_tau: Annotated[float, _of(SERVER, "Of adam and yogi: how adaptive.", gt=0, le=10)] = 1e-3

    scheme: Annotated[str, _of(PROTECTION, "How the sum is protected; see `secagg list`.")] = "masking"
    adversary: (
        Annotated[
            str,
            _of(
                PROTECTION,
                "What the server may do.",
                unset="active; with ckks semi-honest",
            ),
        ]
        | None
    ) = None
    ending: (
        Annotated[
            str,
            _of(
                PROTECTION,
                "With ckks: release the sum to the server, or keep it among the clients.",
                unset="release",
            ),
        ]
        | None
    ) = None
    corrupt: (
        Annotated[
            int,
            _of(PROTECTION, "Clients assumed on the server's side: 2, or 0.1.", unset="0.1", **_CLIENTS),
        ]
        | Annotated[float, Meta(**_SHARE)]
        | None
    ) = None
    dropout: (
        Annotated[
            int,
            _of(
                PROTECTION,
                "Clients that a session may lose: 2, or 0.3.",
                unset="0.3, or what can be",
                **_CLIENTS,
            ),
        ]
        | Annotated[float, Meta(**_SHARE)]
        | None
    ) = None
    graph: Annotated[str, _of(PROTECTION, "Who deals shares to whom; auto goes by size.")] = "auto"
    batch: Annotated[int, _of(PROTECTION, "Sum by whole batches of so many clients, by id.", **_CLIENTS)] = 0
    prg: Annotated[str, _of(PROTECTION, "Cipher of the masks.")] = "aes-128-ctr"
    alike: Annotated[
        str,
        _of(
            PROTECTION,
            "A client helps to two different sums at most of updates that come out alike: of one gradient "
            "(auto), of near models (always), or to any (never).",
        ),
    ] = "auto"
    bits: Annotated[int, _of(PROTECTION, "Bits of a coordinate as it is sent.", ge=2, le=32)] = 16
    bound: Annotated[float, _of(PROTECTION, "Range of a coordinate, [-bound, bound].", gt=0, le=1e6)] = 3.0
    """The largest seen in 60 default runs is 0.97."""
    clip: (
        Annotated[float, _of(PROTECTION, "L2 norm to which an upload is scaled down.", gt=0, le=1e6)] | None
    ) = None

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = _checked(field, getattr(self, field.name))
            msgspec.structs.force_setattr(self, field.name, value)  # 1 becomes 1.0, a list a tuple
        self._agrees_with_itself()

    def _agrees_with_itself(self) -> None:
        keep, one_process = self.ending == "keep", self.execution != "processes"
        some = self.sample is not None or self.cluster is not None
        by_links = self.select == "channel" or self.cluster in ("place", "mode")
        _holds(
            not isinstance(self.sample, int) or self.sample <= self.clients,
            f"sample = {self.sample}: the choice is of {counted(self.clients, 'client')}",
        )
        _holds(
            self.select == "chance" or self.sample is not None,
            f"select = {self.select!r} chooses the clients of a round: say how many with sample",
        )
        _holds(
            not by_links or self.links is not None,
            "to select by channel, or cluster by place or mode, there have to be links: give links too",
        )
        _holds(
            not one_process or self.deadline is None or self.links is not None,
            "deadline: in one process only the model of links takes time: give links too",
        )
        _holds(
            not (keep and some),
            "ending = 'keep': every client has to be in every sum: no sample and no cluster with it",
        )
        _holds(not (self.batch and some), "batch cuts the whole roster: no sample and no cluster with it")
        _holds(
            self.until_accuracy is None or self.held_out > 0,
            "until_accuracy is measured on validation data: leave validation out, or above 0",
        )
        _holds(
            self.minimum is None or self.minimum <= self.cohort,
            f"minimum = {self.minimum}: a round has {counted(self.cohort, 'client')}",
        )
        _holds(
            not (self.algorithm == "fedsgd" and self.local_steps is not None),
            "local_steps: with fedsgd a client takes one gradient of all it holds",
        )
        _holds(
            not (self.algorithm == "fedsgd" and self.proximal),
            "proximal: with fedsgd nobody moves away from the received model",
        )
        _holds(
            not (self.algorithm == "fedavg-weights" and self.clip is not None),
            "clip would scale whole models down: with fedavg-weights leave it out, or take fedavg",
        )
        _holds(
            not (keep and self.held_out),
            "until_accuracy, validation: with ending = 'keep' the server has no model to measure",
        )
        _holds(
            not (self.comes_out_alike and some),
            "fedsgd, one local step or a batch_size above 64: such updates come out alike in near models, "
            "and a client helps to two different sums of them at most: no sample and no cluster with it, or "
            "alike = 'never'",
        )
        _holds(
            not (self.comes_out_alike and self.scheme == "ckks"),
            "fedsgd, one local step or a batch_size above 64: such updates come out alike in near models, "
            "and with ckks a client helps to one sum of them: take masking, or alike = 'never'",
        )
        _holds(
            not (one_process and self.drop),
            "drop kills processes: give execution = 'processes' with it",
        )

    @property
    def cohort(self) -> int:
        """K, the clients of each round."""
        if isinstance(self.sample, float):
            return max(1, round(self.sample * self.clients))
        return self.clients if self.sample is None else self.sample

    @property
    def comes_out_alike(self) -> bool:
        """Whether clients keep to two different sums of updates from near models, whatever their order."""
        keeps_to_two = self.scheme != "plain" and self.alike != "never"
        return keeps_to_two and one_gradient(self.plan, Policy().alike_batch)

    @property
    def held_out(self) -> float:
        """Share of the training data that stays with the server for validation."""
        if self.validation is not None:
            return self.validation
        return 0.0 if self.until_accuracy is None else 0.1

    @property
    def plan(self) -> LocalPlan:
        return LocalPlan(
            cast(Algorithm, self.algorithm),  # as CHOICES has it
            self.local_epochs,
            self.local_steps or 0,
            self.batch_size,
            self.lr,
            self.momentum,
            self.proximal,
            cast(Precision, self.precision),
        )

    @property
    def server_step(self) -> ServerStep:
        return ServerStep(
            cast(Optimiser, self.server),
            self.server_lr,
            self.server_momentum,
            self.server_beta2,
            self.server_tau,
        )

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
        if path.suffix not in (".toml", ".json"):
            raise ConfigError(f"{path}: a configuration's name ends in .toml or .json")
        given = table_in(path)
        _known(given, f"{path}: ")
        _known(overrides)
        for field in msgspec.structs.fields(cls):
            if field.name in given and field.name not in overrides:
                _checked(field, given[field.name], f"{path}: ")
        return cls(**{**given, **overrides})

    def write(self, path: str | PathLike[str]) -> None:
        """Write as JSON that `read` accepts; a file already there is replaced whole."""
        write_atomically(Path(path), msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def table_in(path: Path) -> dict[str, Any]:
    """The top-level table of a file of JSON, if it is called so, or TOML: UTF-8, with a byte-order mark or
    without, lines ended as on any system.

    Raises: ConfigError for any other.
    """
    kind = {".json": "JSON"}.get(path.suffix, "TOML")
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file")
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
        given = msgspec.json.decode(text) if kind == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8, from byte {error.start} on: save it in that encoding"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not {kind}: nested too deeply") from error
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: not {kind}: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError(f'{path}: the file must hold one table of keys, such as {{"rounds": 10}}')
    return given


def _known(given: Mapping[str, Any], where: str = "") -> None:
    fields = RunConfig.__struct_fields__
    for key in given:
        if key not in fields:
            raise ConfigError(f"{where}unknown key {key!r}{nearest(key, fields)}")


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
        raise ConfigError(f"{where}{name} = {_short(value)}: give {wanted}") from error
    known = CHOICES.get(name, ())
    if known and value is not None and re.sub(r"^cuda:\d{1,3}\Z", "cuda", value) not in known:
        raise ConfigError(f"{where}{name} = {value!r}: give one of {', '.join(known)}{nearest(value, known)}")
    return value


def _short(value: Any) -> str:
    """For a line, however long or deep it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = 80
    return short.repr(value)


def _holds(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
