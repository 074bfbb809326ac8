"""What a training came to, beside the same without protection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fl.cli import rounds
from fl.cli.output import Output
from fl.cli.own import loading
from fl.cli.parties import PARTIES
from fl.cli.report import draw_accuracy, reckoned, size
from fl.config.run import RunConfig
from fl.own import OwnTask
from fl.page.state import PLOT
from secagg.errors import counted

BASELINE = "plain"
"""The folder of the run without protection, in the folder of the other."""


def summary(
    out: Output, config: RunConfig, folder: Path, models: Path, beside: Path | None, own: OwnTask | None
) -> None:
    """Accuracy and bytes of both runs side by side, and how far their weights are apart. models: the folder
    that holds the first one's.
    """
    ours, protection = config.protection.title, config.protection
    runs: dict[str, list[dict[str, Any]]] = {ours: rounds.read_metrics(folder)}
    if beside is not None:
        runs[BASELINE] = rounds.read_metrics(beside)
    what = f"{config.subject}, {counted(config.cohort.clients, 'client')}"
    draw_accuracy(
        folder / PLOT,
        {name: [record["accuracy"] for record in records] for name, records in runs.items()},
        f"{what}, seed {config.training.seed}",
        [record.get("epsilon") for record in runs[ours]],
    )
    rows = [_row(name, records) for name, records in runs.items()]
    if protection.groups:
        of_groups = {"groups": protection.groups, "unsafe_groups": protection.unsafe_groups}
        rows[0] |= {"scheme": protection.scheme, "title": ours} | of_groups
    fields: dict[str, Any] = {"folder": str(folder), "runs": rows}
    noised = config.privacy.mechanism != "none"
    out.table(
        [
            (
                row.get("title", row["scheme"]),
                "none" if row["accuracy"] is None else f"{row['accuracy']:.4f}",
                *(["none" if row["epsilon"] is None else reckoned(row["epsilon"])] if noised else []),
                size(row["bytes_up_per_client_round"]),
                size(row["bytes_down_per_client_round"]),
                f"{row['seconds']:.1f} s",
            )
            for row in rows
        ],
        (
            *("scheme", "test accuracy"),
            *([f"epsilon at delta {config.privacy.delta:g}"] if noised else []),
            *("up per client and round", "down", "time"),
        ),
        "result",
    )
    if "relay_seconds" in rows[0]:
        up, down = (size(rows[0][f"relay_bytes_{way}_per_round"]) for way in ("up", "down"))
        out.say(
            f"the {counted(config.protection.relay_count, 'relay')} together sent {up} and were sent {down} "
            f"a round; rounds of theirs alone took {rows[0]['relay_seconds']:.2f} s"
        )
    # No bound of rounding is of noise, or of what a rule makes of groups instead of clients.
    same = not noised and (not protection.groups or (config.robust.is_mean and protection.public_weights))
    if beside is not None and same and not any(records[0]["abandoned"] for records in runs.values()):
        fields |= _difference(out, config, models, beside, runs[ours][0], own)
    there = [f"{name}/" for name in (PARTIES, BASELINE) if (folder / name).is_dir()]
    there += [name for name in rounds.OUTPUTS if (folder / name).exists()]
    whose = "each client the model" if config.protection.kept else "the model"
    out.say(f"wrote {folder}: {', '.join(sorted(there))}; {whose}: {loading(models, own)}")
    out.record({"summary": fields})


def _row(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    each = sum(record["chosen"] for record in records)
    return {
        "scheme": name,
        "accuracy": rounds.last_accuracy(records),
        "epsilon": records[-1].get("epsilon"),
        "delta": records[-1].get("delta"),
        "bytes_up_per_client_round": sum(record["bytes_up"] for record in records) / each,
        "bytes_down_per_client_round": sum(record["bytes_down"] for record in records) / each,
        "seconds": sum(record["seconds"] for record in records),
        **_of_relays(records),
    }


def _of_relays(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Nothing where there are none."""
    some = [record for record in records if record.get("relay_seconds") is not None]
    ways = [f"relay_bytes_{way}" for way in ("up", "down")] if some else []
    means = {f"{name}_per_round": sum(record[name] for record in some) / len(some) for name in ways}
    return means | ({"relay_seconds": sum(record["relay_seconds"] for record in some)} if some else {})


def bound_after_one(config: RunConfig, of_mean: float) -> float | None:
    """How far the first step can carry the mean's error into a weight; None where the step is not linear."""
    if config.server.optimiser not in ("average", "momentum"):
        return None
    return of_mean * config.server.lr * (config.training.lr if config.training.algorithm == "fedsgd" else 1.0)


def _difference(
    out: Output,
    config: RunConfig,
    models: Path,
    beside: Path,
    first: Mapping[str, Any],
    own: OwnTask | None,
) -> dict[str, Any]:
    from fl.models.architectures import MODELS
    from fl.models.weights import load, to_vector

    ours, plain = (np.load(folder / rounds.FIRST_ROUND) for folder in (models, beside))
    after_one = float(np.abs(ours - plain).max())
    known = MODELS if own is None else own.models
    final = float(np.abs(to_vector(load(models, known)) - to_vector(load(beside, known))).max())
    bound = bound_after_one(config, first["error_bound"])
    within = "" if bound is None else f" (bound {bound:.2e})"
    out.say(
        f"after training round 1 no weight differs from the plain run by more than {after_one:.2e}{within}"
    )
    out.say(
        f"at the end the largest difference of a weight is {final:.2e}: after round 1 the models differ, and "
        "with them the orders of examples"
    )
    return {"difference_after_round_1": after_one, "bound": bound, "difference_at_the_end": final}
