"""[training] and [server]: what a client does with its data in a round, and the server with the mean. The
part of each that travels to the clients is a struct of its own, of which the section is made.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from fl.config.preflight import Action
from fl.config.section import ConfigError, setting, settle
from secagg.specs import check_fields

Algorithm = Literal["fedavg", "fedavg-weights", "fedsgd"]
Precision = Literal["float32", "float64", "bfloat16"]
Sampling = Literal["shuffled", "poisson"]
Balance = Literal["none", "sampling", "loss"]
Way = Literal["batched", "sequential"]
"""How clients of one process are computed: see `fl.training.clients`."""
Optimiser = Literal["average", "momentum", "adam", "yogi"]
Execution = Literal["processes", "auto", "batched", "sequential", "ray"]
MODELS = (
    "cnn",
    "mlp",
    "logistic",
    "mlp-200",
    "mlp-1000",
    "mcmahan-cnn",
    "lenet-zhu",
    "lenet-4conv",
    "tolpegin-fmnist",
    "tolpegin-cifar10",
    "fed-cdp",
    "resnet18",
    "gru",
    "bag-of-words",
)  # as fl.models.architectures.MODELS, which imports torch; tests/fl/config/test_run.py compares the two
WITH_STATISTICS = ("tolpegin-fmnist", "tolpegin-cifar10")
"""Whose batch normalisation keeps running statistics, which travel with the weights."""
DEVICES = ("auto", "cpu", "cuda", "mps")


class LocalPlan(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A client's part of a round.

    algorithm: fedavg sends what training changed, w_k - w; fedavg-weights sends w_k; fedsgd sends the
    gradient of its whole data at w, after no training (McMahan et al. 2017, section 2). epochs: passes over
    its data, unless steps is above 0: then just so many steps, over as many passes as they take. momentum:
    of SGD, begun anew each round. proximal: mu of FedProx (Li et al. 2020): mu/2 |w_k - w|^2 is added to the
    loss. precision: bfloat16 is of the forward and backward pass; weights stay float32. sampling: which
    examples a step takes: shuffled cuts passes over all into batches; poisson takes each with probability
    batch_size in all that the client holds, for itself, in so many steps as shuffled would take: who does not
    know which were taken learns the less of any one (Abadi et al., CCS 2016). balance: every class that a
    client holds counts alike, with weights n / (its classes x examples of the class): sampling multiplies the
    probabilities of poisson by them, and means nothing to shuffled; loss multiplies each example's loss.
    """

    # The order of these fields is that of the wire, every one is written: a new one makes every task another.
    # The limits are the wire's, too, which docs/protocol.md states; what a person types is held to `typed`.
    algorithm: Annotated[Algorithm, setting("Clients send updates, weights or gradients.")] = "fedavg"
    epochs: Annotated[
        int,
        setting("Epochs a round and client.", name="local_epochs", ge=1, le=100_000, typed={"le": 1_000}),
    ] = 2
    steps: Annotated[
        int,
        setting("Or so many steps, whatever a client holds.", name="local_steps", unset="", ge=0, le=100_000),
    ] = 0
    batch_size: Annotated[int, setting("Examples a step.", ge=1, le=100_000, typed={"le": 65_536})] = 8
    lr: Annotated[float, setting("Learning rate of SGD.", ge=0, le=100, typed={"gt": 0})] = 0.05
    momentum: Annotated[float, setting("Of SGD.", ge=0, lt=1)] = 0.8
    proximal: Annotated[
        float, setting("FedProx: mu, how hard clients are held near the received model.", ge=0, le=100)
    ] = 0.0
    precision: Annotated[Precision, setting("Of the clients' computation.")] = "float32"
    sampling: Annotated[
        Sampling,
        setting(
            "Examples of a step: passes in random orders, or each by a coin of its own.", name="local_batches"
        ),
    ] = "shuffled"
    balance: Annotated[
        Balance,
        setting("Make up for classes that a client has few of: take them more often, or weigh their loss."),
    ] = "none"

    def __post_init__(self) -> None:
        check_fields(self, "plan")

    def steps_of(self, examples: int) -> int:
        """How many steps a client with so many examples takes."""
        if self.algorithm == "fedsgd":
            return 1
        return self.steps or self.epochs * -(-examples // self.batch_size)


def unknown_to_loops(plan: LocalPlan) -> str | None:
    """Which field of the plan is for the trainer's own steps, and would mean nothing to a loop of a task of
    one's own; None where there is none.
    """
    if plan.algorithm == "fedsgd":
        return "algorithm"
    usual, of_steps = LocalPlan(), ("proximal", "precision", "sampling", "balance")
    return next((name for name in of_steps if getattr(plan, name) != getattr(usual, name)), None)


class TrainingConfig(LocalPlan, frozen=True, kw_only=True, array_like=False):
    """What is trained, and the plan of each round.

    Raises: ConfigError for a value of the wrong type, out of its range, or that contradicts another.
    """

    model: Annotated[str, setting("See `secagg list models`.", words=MODELS)] = "cnn"
    task: (
        Annotated[
            str,
            setting("A file of Python with a model and data of one's own, which is run: docs/task.md."),
        ]
        | None
    ) = None
    """In a file relative to its folder, on the command line to where one is."""
    rounds: Annotated[int, setting("Training rounds.", ge=1, le=100_000)] = 15
    until_accuracy: (
        Annotated[float, setting("Stop at this accuracy on the validation data.", gt=0, le=1)] | None
    ) = None
    execution: Annotated[
        Execution,
        setting(
            "Clients as processes; or all in one process, trained batched or sequential, auto the faster of "
            "them, or ray: sequential by the workers of a Ray cluster.",
        ),
    ] = "processes"
    """ray: of the cluster that RAY_ADDRESS names, else one on this machine."""
    device: Annotated[str, setting("Where models are trained; cuda:N for one of several.", words=DEVICES)] = (
        "auto"
    )
    """auto is CUDA where there is one, else cpu."""
    metrics: Annotated[bool, setting("Sum the clients' own loss and accuracy, too.")] = True
    """Unnoised sums: whoever promises an epsilon leaves them out."""
    preflight: Annotated[
        Action, setting("Of an update off which more of a client's examples can be read than may be.")
    ] = "warn"
    """Of clients on this machine; over a network each has its own rule."""
    seed: Annotated[
        int,
        setting("Of data and first weights; of no choice, order, key or mask.", ge=0, le=2**63 - 1),
    ] = 0

    def __post_init__(self) -> None:
        settle(self)
        ConfigError.unless(
            self.task is None or self.execution not in ("batched", "ray"),
            f"execution = {self.execution!r}: a task of one's own is trained client by client, where its "
            "file is: take auto, which does so in one process, or processes",
        )
        ConfigError.unless(
            not (self.algorithm == "fedsgd" and self.steps),
            "local_steps: with fedsgd a client takes one gradient of all it holds",
        )
        ConfigError.unless(
            not (self.algorithm == "fedsgd" and self.proximal),
            "proximal: with fedsgd nobody moves away from the received model",
        )
        ConfigError.unless(
            not (self.algorithm == "fedsgd" and self.sampling == "poisson"),
            "local_batches: with fedsgd a client takes one gradient of all it holds",
        )
        ConfigError.unless(
            self.balance != "sampling" or self.sampling == "poisson",
            "balance = 'sampling': passes take every example as often: give local_batches = 'poisson' too",
        )
        ConfigError.unless(
            self.execution != "ray" or self.device in ("auto", "cpu"),
            f"device = {self.device!r}: the workers of execution = 'ray' train on CPUs: leave it out, or "
            "take execution = 'auto'",
        )

    @property
    def plan(self) -> LocalPlan:
        """What a client is told of it."""
        return LocalPlan(*(getattr(self, name) for name in LocalPlan.__struct_fields__))

    @property
    def one_process(self) -> bool:
        return self.execution != "processes"


class ServerStep(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How the mean update moves the model: see `fl.training.server`."""

    # In the order of the wire, as in LocalPlan.
    optimiser: Annotated[Optimiser, setting("How the model follows the mean update.", name="server")] = (
        "average"
    )
    lr: Annotated[
        float,
        setting("Of the step along the mean update.", name="server_lr", ge=0, le=100, typed={"gt": 0}),
    ] = 1.0
    momentum: Annotated[float, setting("beta 1.", name="server_momentum", ge=0, lt=1)] = 0.9
    beta2: Annotated[float, setting("Of adam and yogi.", name="server_beta2", ge=0, lt=1)] = 0.99
    tau: Annotated[
        float,
        setting(
            "Of adam and yogi: how adaptive.", name="server_tau", ge=0, le=100, typed={"gt": 0, "le": 10}
        ),
    ] = 1e-3

    def __post_init__(self) -> None:
        check_fields(self, "plan")


class ServerConfig(ServerStep, frozen=True, array_like=False):
    """The server's step, all of which its clients are told.

    Raises: ConfigError for a value of the wrong type or out of its range.
    """

    def __post_init__(self) -> None:
        settle(self)

    @property
    def step(self) -> ServerStep:
        return ServerStep(*(getattr(self, name) for name in ServerStep.__struct_fields__))
