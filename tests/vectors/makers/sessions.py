"""Whole sessions, played with a counter in the place of chance, and recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from secagg import Masking, throwaway_identities
from secagg.aggregate import Aggregate
from secagg.crypto import SecretKey, Tag, digest
from secagg.inputs import encode_inputs
from secagg.masking.derived import (
    pair_mask_key,
    self_mask_key,
    session_id,
)
from secagg.masking.groups import Groups
from secagg.masking.messages import ShareKeysRequest
from secagg.prg import keystream
from secagg.shamir import PRIME, SHARE_BYTES, share
from secagg.specs import Spec
from secagg.wire import decode
from tests.play import Session
from tests.vectors.makers.chance import Counter, Record
from tests.vectors.makers.plans import Json, Plan, some_input

COEFFICIENT_BYTES = SHARE_BYTES + 16
WORDS_SHOWN = 2


def play(plan: Plan) -> Json:
    """The session as a record: JSON, bytes as lower-case hex."""
    of_roster, of_server = Counter(f"{plan.name}/roster"), Counter(f"{plan.name}/server")
    roster, identities = None, {}
    if plan.listed and plan.numbers.get("adversary") == "active":
        roster, identities = throwaway_identities(plan.listed, of_roster)
    scheme = Masking.for_cohort(len(plan.ids), plan.vectors, roster=roster, **plan.numbers)
    task = f"task of {plan.name}".encode()
    inputs = {u: some_input(plan.vectors, i) for i, u in enumerate(plan.ids)}
    chance = {u: Counter(f"{plan.name}/client {u}") for u in plan.ids}
    seeds = {u: Counter(f"{plan.name}/rounding {u}")(32) for u in plan.ids}
    server = scheme.server(plan.ids, task, roster=roster, rng=of_server)
    clients = {
        u: scheme.client(
            u,
            lambda task, x=x: x,
            rounding_seed=seeds[u],
            identity=identities.get(u),
            rng=chance[u],
        )
        for u, x in inputs.items()
    }
    messages = list(conversation(server, clients, plan.drop, joint=plan.joint))
    record = _terms(scheme, plan, task, of_server.drawn[0])
    if roster is not None:
        record["roster"] = {
            "digest": roster.digest.hex(),
            "keys": {str(u): key.hex() for u, key in roster.keys.items()},
            "secrets": {str(u): s.hex() for u, s in zip(roster.keys, of_roster.drawn, strict=True)},
        }
    record |= _agreed(scheme, record, messages)
    record["clients"] = {
        str(u): _client(scheme, record, u, seeds[u], x, chance[u].drawn) for u, x in inputs.items()
    }
    if not plan.brief:
        record["pairs"] = list(_pairs(scheme, record))
    return _shortened({**record, "messages": messages, "result": result_of(server.result)}, plan)


def conversation(
    server: Any, clients: Mapping[int, Any], drop: Mapping[str, Sequence[int]], *, joint: bool = False
) -> Iterator[Json]:
    """Every message in order. Who is dropped in a round neither reads its request nor is heard again."""
    play = Session(server, clients, drop=drop, joint=joint)
    while True:
        for request in dict.fromkeys(play.requests.values()):
            to = [u for u, other in play.requests.items() if other == request]
            yield {"round": server.round, "from": "server", "to": to, "bytes": request.hex()}
        round = play.answer().server.round
        for u, answer in play.answers.items():
            if u not in play.lost:
                yield {"round": round, "from": u, "to": "server", "bytes": answer.hex()}
        play.close()
        if server.result is not None:
            return


def result_of(result: Aggregate) -> Json:
    noise = {"noise": dict(sorted(result.noise.items()))} if result.noise else {}
    parts = {"parts": [result_of(part) for part in result.parts]} if result.parts else {}
    return {
        "survivors": sorted(result.survivors),
        "codes": {name: codes.tolist() for name, codes in sorted(result.codes.items())},
        "sum": {name: total.tolist() for name, total in sorted(result.sum.items())},
        "mean": {name: mean.tolist() for name, mean in sorted(result.mean.items())},
        "error_bound": dict(sorted(result.error_bound.items())),
        **noise,
        **parts,
    }


def specification(spec: Spec) -> Json:
    """As an offer has it."""
    return dict(sorted(msgspec.to_builtins(spec).items()))


def _terms(scheme: Masking, plan: Plan, task: bytes, nonce: bytes) -> Json:
    numbers = {k: v for k, v in msgspec.to_builtins(scheme).items() if k not in ("vectors", "roster")}
    if isinstance(scheme.groups, Groups):
        of_groups = msgspec.to_builtins(scheme.groups) | {"seed": scheme.groups.seed.hex()}
        numbers["groups"] = {**dict(sorted(of_groups.items())), "cohort": list(scheme.groups.cohort)}
    bits = scheme.ring_bits()
    return {
        "what": plan.what,
        **({"joint": True} if plan.joint else {}),
        "offer": scheme.offer().hex(),
        "parameters": scheme.digest().hex(),
        "numbers": dict(sorted(numbers.items())),
        "vectors": {
            name: {**specification(spec), "ring_bits": bits[name]}
            for name, spec in sorted(scheme.vectors.items())
        },
        "cohort": list(plan.ids),
        "drop": {round: list(ids) for round, ids in plan.drop.items()},
        "task": task.hex(),
        "context": digest(Tag.CONTEXT, task).hex(),
        "nonce": nonce.hex(),
    }


def _agreed(scheme: Masking, record: Json, messages: Sequence[Json]) -> Json:
    """What follows from who advertised keys, and who was there in which round."""

    def answered(round: str) -> list[int]:
        return sorted(m["from"] for m in messages if m["round"] == round and m["to"] == "server")

    request = next(m for m in messages if m["round"] == "share-keys" and m["from"] == "server")
    keys = decode(ShareKeysRequest, bytes.fromhex(request["bytes"])).keys
    nonce, parameters, context = (bytes.fromhex(record[name]) for name in ("nonce", "parameters", "context"))
    sid = session_id(nonce, parameters, context, keys)
    graph, cut = scheme.graph(sid, keys), scheme.sums.cut(sid, keys)
    after = ("consistency-check", "unmasking")
    survivors = next(m["to"] for m in messages if m["from"] == "server" and m["round"] in after)
    agreed: Json = {
        "sid": sid.hex(),
        "U1": answered("advertise-keys"),
        "U2": answered("share-keys"),
        "U3": survivors,
        "neighbours": {str(u): sorted(scheme.sums.masks(graph, cut, u)) for u in sorted(keys)},
    }
    if isinstance(scheme.groups, Groups):
        agreed["groups"] = [sorted(group) for group in cut]
        agreed["holders"] = {str(u): sorted(graph.holders(u)) for u in sorted(keys)}
    if "roster" in record:
        agreed["U4"] = answered("consistency-check")
    if not graph.complete:
        agreed["graph_seed"] = digest(Tag.GRAPH, sid).hex()
        agreed["ring"] = graph._ring
    return agreed


def _first_words(seed: bytes, bits: int, scheme: Masking, length: int) -> list[str]:
    width = 4 if bits <= 32 else 8
    block = next(keystream(seed, min(length, WORDS_SHOWN), f"<u{width}", scheme.prg))
    return [f"{int(word):0{2 * width}x}" for word in block]


def _masks(scheme: Masking, seeds: Mapping[str, bytes]) -> Json:
    bits = scheme.ring_bits()
    return {
        name: {
            "seed": seed.hex(),
            "words": _first_words(seed, bits[name], scheme, scheme.vectors[name].length),
        }
        for name, seed in seeds.items()
    }


def _client(
    scheme: Masking, record: Json, u: int, rounding_seed: bytes, inputs: Json, drawn: Sequence[bytes]
) -> Json:
    """What client u draws, in this order, as far as it came; and what it makes of it."""
    made: Json = {"rounding_seed": rounding_seed.hex(), "inputs": inputs}
    if not drawn:
        return made
    context, nonce, sid = (bytes.fromhex(record[name]) for name in ("context", "nonce", "sid"))
    of_noise, drawn = drawn[: len(scheme.private)], drawn[len(scheme.private) :]
    if of_noise:
        made["noise"] = {
            name: secret.hex() for name, secret in zip(sorted(scheme.private), of_noise, strict=True)
        }
    readings = scheme.readings(context, nonce)
    codes, clipping = encode_inputs(
        scheme, inputs, context, rounding_seed, readings=readings, rng=Record(of_noise)
    )
    made["codes"] = {name: codes[name].tolist() for name in scheme.names}
    told = {name: clipping[name] for name in scheme.names}
    made["clipping"] = {name: [c.coordinates, c.norm_factor] for name, c in told.items()}
    c_sk, s_sk = (SecretKey(secret) for secret in drawn[:2])
    made |= {"c_sk": drawn[0].hex(), "c_pk": c_sk.public.hex()}
    made |= {"s_sk": drawn[1].hex(), "s_pk": s_sk.public.hex()}
    if len(drawn) == 2:
        return made
    b_u, t = drawn[2], scheme.threshold
    holders = sorted(scheme.graph(sid, record["U1"]).holders(u))
    coefficients = [int.from_bytes(c, "big") % PRIME for c in drawn[3 : 2 * t + 1]]
    of_key, of_mask = coefficients[: t - 1], coefficients[t - 1 :]
    made["b_u"] = b_u.hex()
    made["key_coefficients"], made["mask_coefficients"] = (
        [_hex33(c) for c in of_key],
        [_hex33(c) for c in of_mask],
    )
    others = [v for v in holders if v != u]
    made["nonces"] = {str(v): n.hex() for v, n in zip(others, drawn[2 * t + 1 :], strict=True)}
    made["shares"] = {
        str(v): [_hex33(x[v + 1]) for x in _shares(s_sk.expose(), b_u, of_key, of_mask, holders, t)]
        for v in holders
    }
    made["self_mask"] = _masks(scheme, {name: self_mask_key(b_u, sid, u, name) for name in scheme.names})
    return made


def _hex33(value: int) -> str:
    return value.to_bytes(SHARE_BYTES, "big").hex()


def _shares(
    s_sk: bytes, b_u: bytes, of_key: Sequence[int], of_mask: Sequence[int], holders: Sequence[int], t: int
) -> Iterator[dict[int, int]]:
    for secret, coefficients in ((s_sk, of_key), (b_u, of_mask)):
        rng = Record(c.to_bytes(COEFFICIENT_BYTES, "big") for c in coefficients)
        yield share(int.from_bytes(secret, "big"), t, [v + 1 for v in holders], rng)


def _pairs(scheme: Masking, record: Json) -> Iterator[Json]:
    """Neighbours u < v of U2: what they agree on, and their mask, which v adds and u subtracts."""
    sid, clients, U2 = bytes.fromhex(record["sid"]), record["clients"], record["U2"]
    for u in U2:
        for v in (v for v in record["neighbours"][str(u)] if v > u and v in U2):
            c_sk, s_sk = (SecretKey(bytes.fromhex(clients[str(u)][name])) for name in ("c_sk", "s_sk"))
            c_pk, s_pk = (bytes.fromhex(clients[str(v)][name]) for name in ("c_pk", "s_pk"))
            s_uv = s_sk.agree(s_pk)
            seeds = {name: pair_mask_key(s_uv, sid, u, v, name) for name in scheme.names}
            yield {
                "u": u,
                "v": v,
                "c_uv": c_sk.agree(c_pk).hex(),
                "s_uv": s_uv.hex(),
                "pair_mask": _masks(scheme, seeds),
            }


def _shortened(record: Json, plan: Plan) -> Json:
    for client in record["clients"].values() if plan.brief else ():
        client.pop("shares", None)
        for mask in client.get("self_mask", {}).values():
            del mask["seed"]
    for message in record["messages"] if plan.brief else ():
        if message["from"] == "server" and message["round"] == "masked-input":
            message["sha256"] = hashlib.sha256(bytes.fromhex(message.pop("bytes"))).hexdigest()
    return record
