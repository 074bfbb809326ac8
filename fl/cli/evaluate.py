"""`secagg evaluate`: what the model of a run is worth: by class, under a trigger, and by client."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl import marks
from fl.cli import pictures
from fl.cli.beside import BASELINE
from fl.cli.display import shown, since
from fl.cli.learn import TEST
from fl.cli.output import Output
from fl.cli.own import found_in
from fl.cli.parties import PARTIES, keeper
from fl.cli.results import check_folder, write_result
from fl.cli.rounds import last_accuracy, read_metrics
from fl.cohort.layout import Layout, lay_out
from fl.config.run import RunConfig
from fl.config.secret import RUN, SERVER
from fl.config.section import ConfigError
from fl.data import load
from fl.data.examples import Inputs, Labels, shape_of
from fl.data.shard import FILE, read_shard
from fl.own import FILE as TASK
from fl.own import OwnTask
from fl.page.state import CONFIG
from fl.poisoning.data import OF_VICTIM, stamp
from fl.scores import ByClass, Fairness, success
from secagg.errors import counted

if TYPE_CHECKING:
    from torch import nn

EVALUATION, CLASSES, CLIENTS = "evaluation.json", "classes.png", "clients.png"
OF_A_TASK = "the task"
SHOWN: Final = 20  # words, or clients: all of more are no table that anybody reads
FAR = 0.01
"""How far the accuracy may be from what the run itself measured: rounding turns an example or two of a
thousand, and other data turn more."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured beside accuracy and loss. victim: a class, beside all others. target: the class
    that images with a trigger are to be taken for. None for those of the run's own attack.

    Raises: ConfigError for a class without that which it is of.
    """

    per_class: bool = False
    victim: int | None = None
    backdoor: bool = False
    target: int | None = None
    per_client: bool = False

    def __post_init__(self) -> None:
        if self.victim is not None and not self.per_class:
            raise ConfigError("--victim counts with --per-class only")
        if self.target is not None and not self.backdoor:
            raise ConfigError("--target counts with --backdoor only")


@dataclass(frozen=True)
class Subject:
    """The model of a run and its test set. words: what the classes are, if they have names. layout: who holds
    what, where that was asked for. measured: the accuracy that the run came to itself, if it says so.
    victim, target: of its attack, where that is after one class, or stamps a trigger. own: whether it is of a
    task of one's own. unsafe_groups: whether it was an experiment with such.
    """

    model: nn.Module = field(repr=False)
    named: str
    dataset: str
    x: Inputs = field(repr=False)
    y: Labels = field(repr=False)
    classes: int
    words: tuple[str, ...] = ()
    layout: Layout | None = field(default=None, repr=False)
    measured: float | None = None
    victim: int | None = None
    target: int | None = None
    own: bool = False
    unsafe_groups: bool = False

    def called(self, c: int | np.integer) -> str:
        return self.words[c] if self.words else str(c)

    def check(self, flag: str, c: int | None) -> None:
        """Raises: ConfigError for a class that there is not."""
        if c is not None and not 0 <= c < self.classes:
            raise ConfigError(f"--{flag} {c}: the classes are 0 to {self.classes - 1}")

    def completed(self, asked: Asked) -> Asked:
        """With the victim and the target of the run's own attack, where no other is named.

        Raises: ConfigError for what cannot be measured on these examples.
        """
        self.check("victim", asked.victim)
        self.check("target", asked.target)
        if asked.backdoor and self.own:
            raise ConfigError(
                "--backdoor: the trigger is a pattern of pixels, and examples of a task may be anything"
            )
        if asked.backdoor and self.x.dtype != np.float32:
            raise ConfigError(f"--backdoor: the trigger is a pattern of pixels, and {self.dataset} is text")
        victim = self.victim if asked.per_class and asked.victim is None else asked.victim
        target = self.target if asked.backdoor and asked.target is None else asked.target
        if asked.backdoor and target is None:
            raise ConfigError(
                "--backdoor: the run was not attacked by one: say with --target which class the trigger is "
                "to bring about"
            )
        return replace(asked, victim=victim, target=target)


def run(
    out: Output, folder: Path, asked: Asked, *, data_dir: Path | None, device: str, to: Path | None
) -> None:
    """Measure, tell, and leave it in the folder `to`, by default the run's own, in the place of what an
    earlier evaluation left there.
    """
    from fl.training.local import device as device_called

    on, to = device_called(device), to or folder
    subject = found(folder, asked, data_dir)
    out.unsafe_groups = subject.unsafe_groups
    asked = subject.completed(asked)
    check_folder(to, force=True)
    to.mkdir(parents=True, exist_ok=True)
    for name in (EVALUATION, CLASSES, CLIENTS):
        (to / name).unlink(missing_ok=True)

    def answers(x: Inputs, y: Labels) -> tuple[Labels, float]:
        """(N,), the classes that the model takes the examples for; and its mean loss on them."""
        from fl.training.local import answered, on_device

        with shown(out, since(lambda: f"evaluating {counted(len(y), 'example')}")):
            classes, loss = answered(subject.model.to(on), *on_device(on, x, y))
        return classes.cpu().numpy(), loss / len(y)

    of_test, loss = answers(subject.x, subject.y)
    told = {"folder": str(folder), "model": subject.named} | marks.fields(subject.unsafe_groups)
    told |= overall(out, subject, of_test, loss)
    if asked.per_class:
        told |= by_class(out, subject, of_test, asked.victim, to / CLASSES)
    if asked.target is not None:
        triggered, _ = answers(stamp(subject.x), subject.y)
        told |= by_trigger(out, subject, of_test, triggered, asked.target)
    if subject.layout is not None:
        mine = np.unique(np.concatenate([*subject.layout.shares.values()]))
        right = np.zeros(len(subject.layout.y), dtype=bool)
        right[mine] = answers(subject.layout.x[mine], subject.layout.y[mine])[0] == subject.layout.y[mine]
        told |= by_client(out, subject, subject.layout, right, to / CLIENTS)
    result = write_result(to / EVALUATION, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    there = [name for name in (EVALUATION, CLASSES, CLIENTS) if (to / name).exists()]
    out.say(f"wrote {to}: {', '.join(there)}")
    out.record({"evaluation": told})
    result.check()


# What a folder holds


def found(folder: Path, asked: Asked, data_dir: Path | None) -> Subject:
    """What there is to be measured in a folder that a run has left, or one of its clients.

    Raises: ConfigError where the folder is none of these, or has not what is asked for; ModelError,
    DataError, TransportError where that is missing or damaged.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name the one that a run has left")
    if (folder / CONFIG).exists():
        return _of_run(folder, asked, data_dir)
    if (folder / FILE).exists():
        return _of_client(folder, asked)
    raise ConfigError(
        f"{folder} holds neither {CONFIG} nor {FILE}: name the folder of a run, or of a client that keeps "
        "the model"
    )


def _of_run(folder: Path, asked: Asked, data_dir: Path | None) -> Subject:
    """Of `secagg train`, of the run beside it, or of `secagg serve`."""
    from fl.models.architectures import MODELS
    from fl.models.weights import FILE as MODEL
    from fl.models.weights import described

    config = RunConfig.read(folder / CONFIG)
    if data_dir is not None:
        config = config.with_(data_dir=str(data_dir))
    served = (folder / SERVER).exists()
    if config.protection.kept and served:
        raise ConfigError(
            f"{folder}: the clients keep the model of this run, and its server has none: evaluate the folder "
            "of one of them"
        )
    models = folder
    if config.protection.kept and not (folder / MODEL).exists():
        clients = [folder / PARTIES / f"client{u}" for u in range(config.cohort.clients)]
        models = keeper(clients, config.training.rounds)
    secret = folder.parent if folder.name == BASELINE else folder
    if asked.per_client and (served or not (secret / RUN).exists()):
        raise ConfigError(
            f"--per-client: {folder} is not of `secagg train`, and only there it is known who holds which "
            "examples"
        )
    own = found_in(config, folder)
    model, description = described(models, MODELS if own is None else own.models)
    layout = lay_out(config, own) if asked.per_client else None
    if layout is not None:
        dataset = layout.serving.dataset
    elif own is not None:
        dataset = own.served(config.cohort.clients, config.data.folder)
    else:
        dataset = load(config.data.dataset, config.data.data_dir)
    _fits(folder, description, dataset.test_x, dataset.classes)
    return Subject(
        model,
        description.model if own is None else OF_A_TASK,
        dataset.name if own is None else OF_A_TASK,
        dataset.test_x,
        dataset.test_y,
        dataset.classes,
        dataset.words,
        layout,
        _measured(folder),
        config.attack.victim if config.attack.name in OF_VICTIM else None,
        config.attack.target if config.attack.name == "backdoor" else None,
        own is not None,
        config.protection.unsafe_groups,
    )


def _of_client(folder: Path, asked: Asked) -> Subject:
    """Of `secagg join`, where clients keep the model."""
    from fl.models.architectures import MODELS
    from fl.models.weights import FILE as MODEL
    from fl.models.weights import described

    if not (folder / MODEL).exists():
        raise ConfigError(
            f"{folder}: this client was left no model: only where the clients keep it they are; evaluate the "
            "folder of the server"
        )
    if not (folder / TEST / FILE).exists():
        raise ConfigError(f"{folder}: this client has no test set: put one into {folder / TEST / FILE}")
    if asked.per_client:
        raise ConfigError(f"--per-client: {folder} is a client's, which has no other client's examples")
    own = OwnTask.read(folder / TASK) if (folder / TASK).exists() else None
    model, description = described(folder, MODELS if own is None else own.models)
    test = read_shard(folder / TEST)
    _fits(folder, description, test.x, test.classes)
    measured = _measured(folder)
    return Subject(
        model,
        description.model if own is None else OF_A_TASK,
        test.dataset if own is None else OF_A_TASK,
        test.x,
        test.y,
        test.classes,
        measured=measured,
        own=own is not None,
    )


def _fits(folder: Path, description: Any, x: Inputs, classes: int) -> None:
    there, takes = (shape_of(x), classes), (description.shape, description.classes)
    if there != takes:
        raise ConfigError(
            f"{folder}: its model is for examples of shape {takes[0]} in {takes[1]} classes, and its test "
            f"set is of shape {there[0]} in {there[1]}"
        )


def _measured(folder: Path) -> float | None:
    """The accuracy after the last round; None where there is no such record."""
    with suppress(OSError, ValueError, KeyError):
        return last_accuracy(read_metrics(folder))
    return None


# What is told of it


def overall(out: Output, subject: Subject, answers: Labels, loss: float) -> dict[str, Any]:
    accuracy = float((answers == subject.y).mean())
    out.say(
        f"{subject.named} on the test set of {subject.dataset}, {counted(len(answers), 'example')}: "
        f"accuracy {accuracy:.4f}, loss {loss:.4f}"
    )
    if subject.measured is not None and abs(accuracy - subject.measured) > FAR:
        out.warn(
            f"the run itself came to an accuracy of {subject.measured:.4f}: its test set was another one "
            "(text is another in every version of Python), or its model was"
        )
    examples = {"dataset": subject.dataset, "examples": len(answers)}
    return examples | {"accuracy": accuracy, "loss": loss, "measured": subject.measured}


def by_class(
    out: Output, subject: Subject, answers: Labels, victim: int | None, picture: Path
) -> dict[str, Any]:
    """Of words, of which there are too many, those that are the most frequent in the test set."""
    scores = ByClass.of(subject.y, answers, subject.classes)
    some = np.arange(subject.classes)
    if subject.words:
        some = np.argsort(-scores.held, kind="stable")[:SHOWN]
        out.say(f"the {len(some)} most frequent of {subject.classes} words")
    kinds = {"precision": scores.precision, "recall": scores.recall, "F1": scores.f1}
    rows = [(subject.called(c), scores.held[c], *(_number(of[c]) for of in kinds.values())) for c in some]
    out.table(rows, ("class", "examples", *kinds))
    bars = {
        subject.called(c): {kind: float(of[c]) for kind, of in kinds.items() if np.isfinite(of[c])}
        for c in some
    }
    pictures.shares(picture, out.marked(f"{subject.named} on {subject.dataset}, by class"), bars)
    names = {"word": [subject.called(c) for c in some]} if subject.words else {}
    numbers = {"class": some, "examples": scores.held[some]} | {
        k.lower(): of[some] for k, of in kinds.items()
    }
    columns = {name: of.tolist() for name, of in numbers.items()} | names
    each = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"by_class": each} | _victim(out, subject, scores, victim)


def _victim(out: Output, subject: Subject, scores: ByClass, victim: int | None) -> dict[str, Any]:
    if victim is None:
        return {}
    f1, rest = float(scores.f1[victim]), scores.rest(victim)
    out.say(
        f"victim {subject.called(victim)}: F1 {_number(f1)}; the rest, micro-F1 over the other "
        f"{counted(subject.classes - 1, 'class', 'classes')}: {_number(rest)}"
    )
    return {"victim": {"class": victim, "f1": f1, "rest": rest}}


def by_trigger(
    out: Output, subject: Subject, answers: Labels, triggered: Labels, target: int
) -> dict[str, Any]:
    """triggered: the answers to the same images with the trigger. Beside the share without it, which is how
    often such images are mistaken for the target anyway.
    """
    rate, anyway = success(subject.y, triggered, target), success(subject.y, answers, target)
    others = int((subject.y != target).sum())
    out.say(
        f"with the trigger {_number(rate)} of {counted(others, 'image')} of other classes are taken for "
        f"class {target}, without it {_number(anyway)}"
    )
    of = {"target": target, "examples": others, "success": rate, "without_trigger": anyway}
    return {"backdoor": of}


def by_client(
    out: Output, subject: Subject, layout: Layout, right: NDArray[np.bool_], picture: Path
) -> dict[str, Any]:
    """Attackers on what they hold, not on what they make of it; a model is to be fair to the others. right:
    which of the layout's examples the model has right.
    """
    clients: list[dict[str, Any]] = [
        {
            "client": u,
            "examples": len(own),
            "accuracy": float(right[own].mean()),
            "damaged": u in layout.damaged,
            "attacker": u in layout.attackers,
        }
        for u, own in layout.shares.items()
    ]
    worst = sorted(clients, key=lambda one: (one["accuracy"], one["client"]))
    if len(worst) > SHOWN:
        out.say(f"the {SHOWN} worst of {len(worst)} clients")
    notes = [name for name in ("damaged", "attacker") if any(one[name] for one in clients)]
    rows = [
        (one["client"], one["examples"], f"{one['accuracy']:.4f}", *(name * one[name] for name in notes))
        for one in worst[:SHOWN]
    ]
    out.table(rows, ("client", "examples", "accuracy", *[""] * len(notes)))
    honest = [one["accuracy"] for one in clients if not one["attacker"]]
    if not honest:
        out.say("all clients are attackers: there is nobody to be fair to")
        return {"by_client": clients}
    fairness = Fairness.of(honest)
    others = ", attackers left out" if layout.attackers else ""
    out.say(
        f"{counted(len(honest), 'client')}{others}, each on the examples that it holds: mean "
        f"{fairness.mean:.4f}, deviation {fairness.deviation:.4f}, worst tenth {fairness.worst:.4f}, Jain's "
        f"index {_number(fairness.index)}"
    )
    title = out.marked(f"{subject.named} on {subject.dataset}, by client{others}")
    pictures.spread(picture, title, honest, {"mean": fairness.mean, "worst tenth": fairness.worst})
    return {"by_client": clients, "fairness": asdict(fairness)}


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "none"
