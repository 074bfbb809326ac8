"""An attack in a process of its own, in a folder that holds a view and what everybody knows, and no more.

`python -m fl.leakage.apart NAME` runs the attack of that name on the folder where it is started. Before it
begins it closes the door behind it: no file but this folder's and code is opened from then on.

This keeps an experiment honest: no slip lets an attack see the truth. It is no cage for code that wants out.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Encoding, Found, Guess, Knowledge, Public
from fl.leakage.views import Part, View
from fl.models.architectures import Description

GIVEN, FOUND, REFUSED = "given.npz", "found.npz", "refused.txt"
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
CODE = (".py", ".pyc", ".so")
NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


class _ShutError(PermissionError):
    """What an attack reached for is not for it."""


def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """What the attack of this name, in `fl.leakage.attacks.ATTACKS`, makes of it.

    Raises: ConfigError where it is not for this model or plan.
    """
    return of_program(["-m", "fl.leakage.apart", attack], view, knowledge, budget, seed)


def of_program(
    arguments: Sequence[str], view: View, knowledge: Knowledge, budget: Budget, seed: int
) -> Guess:
    """What a Python program makes of it that reads GIVEN in the folder where it is started, and leaves FOUND
    there. Raises: ConfigError where it left REFUSED.
    """
    if not view.parts:
        return ()
    with tempfile.TemporaryDirectory(prefix="secagg-attack-") as name:
        folder = Path(name)
        (folder / GIVEN).write_bytes(packed(view, knowledge, budget, seed))
        # Nothing of this process goes along but where code is: not where its data are, nor what it knows.
        kept = {
            key: os.environ[key] for key in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if key in os.environ
        }
        environment = kept | {"HOME": name, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603
        if (folder / REFUSED).exists():
            raise ConfigError((folder / REFUSED).read_text(encoding="utf-8"))
        return _unpacked_guess((folder / FOUND).read_bytes())


def close(folder: Path) -> None:
    """From now on this process opens files of this folder, and code, and no other, and starts nothing."""
    inside = os.path.realpath(folder)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NEVER:
            raise _ShutError(f"an attack has a folder and a processor, and no {event}")
        if event != "open" or isinstance(arguments[0], int):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((inside + os.sep, "/proc/", "/sys/", "/dev/")) and not path.endswith(CODE):
            raise _ShutError(f"an attack reads nothing but what it is given, and not {path}")

    sys.addaudithook(watch)


def packed(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> bytes:
    told = {
        "model": knowledge.model,
        "plan": knowledge.plan,
        "examples": knowledge.examples,
        "perturbation": knowledge.perturbation,
        "encoding": knowledge.encoding,
        "parts": [
            [
                {"members": sorted(one.members), "examples": one.examples, "deviation": one.deviation}
                for one in (part, *part.earlier)
            ]
            for part in view.parts
        ],
        "budget": budget,
        "seed": seed,
    }
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for i, part in enumerate(view.parts):
        for j, one in enumerate((part, *part.earlier)):
            arrays[f"update{i},{j}"] = one.updates
            if one.before is not None:
                arrays[f"before{i},{j}"] = one.before
            if one.labels is not None:
                arrays[f"labels{i},{j}"] = one.labels
    if knowledge.public is not None:
        arrays |= {"x": knowledge.public.x, "y": knowledge.public.y}
    return _npz({"told": _bytes(told), "parameters": knowledge.parameters, **arrays})


def unpacked(content: bytes) -> tuple[View, Knowledge, Budget, int]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        told = msgspec.json.decode(file["told"].tobytes())
        parts = []
        for i, rounds in enumerate(told["parts"]):
            last, *earlier = (
                Part(
                    frozenset(one["members"]),
                    file[f"update{i},{j}"],
                    one["examples"],
                    one["deviation"],
                    before=file.get(f"before{i},{j}"),
                    labels=file.get(f"labels{i},{j}"),
                )
                for j, one in enumerate(rounds)
            )
            parts.append(replace(last, earlier=tuple(earlier)))
        model, plan = msgspec.convert(told["model"], Description), msgspec.convert(told["plan"], LocalPlan)
        public = Public(file["x"], file["y"]) if "x" in file else None
        perturbation = msgspec.convert(told["perturbation"], Perturbation | None)
        encoding = msgspec.convert(told["encoding"], Encoding | None)
        knowledge = Knowledge(
            model, file["parameters"], plan, told["examples"], public, perturbation, encoding
        )
    return View(tuple(parts)), knowledge, msgspec.convert(told["budget"], Budget), told["seed"]


def main(attack: str) -> None:
    import torch

    from fl.leakage.attacks import ATTACKS
    from fl.leakage.gradients import rehearsed

    torch.set_num_threads(1)  # the same bits again, and the budget is of one processor
    here = Path.cwd()
    view, knowledge, budget, seed = unpacked((here / GIVEN).read_bytes())
    rehearsed(knowledge)  # what torch imports and makes when it is first used, off the clock
    close(here)
    try:
        guess = ATTACKS[attack](view, knowledge, budget, seed)
    except ConfigError as error:
        (here / REFUSED).write_text(str(error), encoding="utf-8")
        return
    (here / FOUND).write_bytes(packed_guess(guess))


def packed_guess(guess: Guess) -> bytes:
    arrays = {"told": _bytes([_told(one) for one in guess])}
    for i, one in enumerate(guess):
        arrays[f"labels{i}"] = one.labels
        if one.images is not None:
            arrays[f"images{i}"] = one.images
        if one.path is not None:
            arrays[f"path{i}"] = one.path
        if one.claimed is not None:
            arrays[f"claimed{i}"] = one.claimed
        if one.words is not None:
            arrays[f"words{i}"] = one.words
    return _npz(arrays)


def _unpacked_guess(content: bytes) -> Guess:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return tuple(
            Found(
                file.get(f"images{i}"),
                file[f"labels{i}"],
                **{name: float("nan") if each is None else each for name, each in one.items()},
                path=file.get(f"path{i}"),
                claimed=file.get(f"claimed{i}"),
                words=file.get(f"words{i}"),
            )
            for i, one in enumerate(msgspec.json.decode(file["told"].tobytes()))
        )


def _told(one: Found) -> dict[str, float | None]:
    """Its numbers as JSON holds them: infinity comes back as not a number."""
    numbers = {"loss": one.loss, "seconds": one.seconds, "halfway": one.halfway}
    return {name: x if np.isfinite(x) else None for name, x in numbers.items()}


def _bytes(told: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(msgspec.json.encode(told), np.uint8)


def _npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


if __name__ == "__main__":
    main(sys.argv[1])
