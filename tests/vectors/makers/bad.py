"""bad.json: what must be refused, by whom, where, and how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from tests.vectors.makers import bad_endings as endings
from tests.vectors.makers import bad_messages as messages
from tests.vectors.makers.bad_encodings import malformed
from tests.vectors.makers.bad_offers import offers
from tests.vectors.makers.plans import Json
from tests.vectors.makers.scene import Scene

U = 300  # whom most of it befalls: neither the lowest id nor the highest, and a survivor


def bad(records: Mapping[str, Json]) -> Json:
    """records: name -> session."""
    scenes = {name: Scene(name, record) for name, record in records.items() if "all-rounds" not in name}
    pair = [scenes[f"complete-{adversary}-drop-masked-input"] for adversary in ("semi-honest", "active")]
    whole = [scenes[f"complete-{adversary}-no-drops"] for adversary in ("semi-honest", "active")]
    refused = list(offers())
    good = list(dict.fromkeys(case["good"] for case in refused))
    return {
        "what": "Bad input and the error it must give: see README.md.",
        "good_offers": good,
        "offers": [{**case, "good": good.index(case["good"])} for case in refused],
        "malformed": list(malformed(*pair, scenes["joint"], U)),
        "wrong": by_place([*(case for scene in pair for case in _of(scene)), *_of_others(scenes)]),
        "scripts": [
            *(case for scene in pair for case in messages.scripts(scene, U)),
            *(case for scene in whole for case in endings.too_few(scene)),
            *(case for scene in whole for case in endings.unopened(scene, U)),
            *(case for scene in pair for case in endings.dealers(scene)),
        ],
        "left_out": [
            *(case for scene in pair for case in endings.left_out(scene, U)),
            endings.not_opened(scenes["groups-active"]),
            *(endings.reported(scene, U) for scene in whole),
        ],
    }


def by_place(cases: Iterable[Json]) -> list[Json]:
    """Those of one message together."""
    places: dict[str, Json] = {}
    for case in cases:
        (action,), error = case["script"], case["error"]
        place = {name: case[name] for name in ("session", "step", "to")} | {"from": action["from"]}
        place["error"] = {name: error[name] for name in ("class", "culprits")}
        bad = places.setdefault(json.dumps(place), {**place, "bad": []})["bad"]
        bad.append([case["what"], action["bytes"], error["words"]])
    return list(places.values())


def _of(scene: Scene) -> Iterator[Json]:
    yield from messages.share_keys_requests(scene, U)
    yield from messages.masked_input_requests(scene, U)
    yield from messages.last_requests(scene, U)
    yield from messages.advertise_keys(scene, U)
    yield from messages.share_keys(scene, U)
    yield from messages.unmasking(scene, U)
    if scene.terms.active:
        yield from messages.signed_unmasking_requests(scene, U)
        yield from messages.consistency_check(scene, U)
    else:
        yield from messages.joins(scene, U)
        yield from messages.from_strangers(scene, U)
        yield from messages.masked_input(scene, U)


def _of_others(scenes: Mapping[str, Scene]) -> Iterator[Json]:
    for adversary in ("semi-honest", "active"):
        yield from messages.of_sparse_graphs(scenes[f"sparse-{adversary}-drop-masked-input"])
    yield from messages.batches(scenes["batches"])
    for adversary in ("semi-honest", "active"):
        yield from messages.groups(scenes[f"groups-{adversary}"])
    yield from messages.joints(scenes["joint"], scenes["complete-semi-honest-drop-masked-input"], U)
