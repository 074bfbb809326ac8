"""A recorded session held against its computation without secagg: every message and everything that is shown,
and the sum from the messages alone.

`python -m tests.vectors.independent_check FILE...` says where a file is not as it is computed here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.vectors import independent as i
from tests.vectors import independent_private as private
from tests.vectors.independent_server import Server
from tests.vectors.independent_session import Agreed, Client, Conversation, Terms

Json = dict[str, Any]


def differences(record: Json) -> Iterator[str]:
    """Where the record is not what is computed here; nothing, if all is well."""
    whole = Conversation(record)
    yield from _other_messages(record, whole)
    keys = {u: whole.clients[u].advertise_keys()[1:] for u in record["U1"]}
    agreed = Agreed(whole.terms, keys)
    for what, (here, there) in {**_shown_of_all(record, agreed), **_result(record, whole)}.items():
        if here != there:
            yield f"{what}: {here} here, {there} in the record"
    for u, client in whole.clients.items():
        shown = record["clients"][str(u)]
        for what, value in _shown_of_client(client, agreed, shown).items():
            if what in shown and value != shown[what]:
                yield f"client {u}, {what}: {value} here, {shown[what]} in the record"
    for pair in record.get("pairs", []):
        if (here := _pair(whole, agreed, pair["u"], pair["v"])) != pair:
            yield f"pair {pair['u']}, {pair['v']}: {here} here"


def _other_messages(record: Json, whole: Conversation) -> Iterator[str]:
    said, recorded = list(whole), record["messages"]
    if len(said) != len(recorded):
        yield f"{len(said)} messages here, {len(recorded)} in the record"
    for number, ((round, sender, to, data), message) in enumerate(zip(said, recorded, strict=False)):
        if (round, sender, to) != (message["round"], message["from"], message["to"]):
            yield f"message {number}: {round} from {sender} to {to} here"
        due = hashlib.sha256(data).hexdigest() if "sha256" in message else data.hex()
        if due != message.get("sha256", message.get("bytes")):
            yield f"message {number}: {round} from {sender} is other bytes here"


def _shown_of_all(record: Json, agreed: Agreed) -> dict[str, tuple[Any, Any]]:
    """What -> (here, in the record)."""
    terms, numbers = agreed.terms, agreed.terms.numbers
    vectors = {name: {**numbers["vectors"][name], "ring_bits": bits} for name, _, bits in terms.vectors}
    shown = {
        "parameters": terms.parameters.hex(),
        "numbers": {k: v for k, v in numbers.items() if k not in ("roster", "vectors")},
        **_of_groups(agreed),
        "vectors": vectors,
        "context": terms.context.hex(),
        "sid": agreed.sid.hex(),
        "U1": agreed.U1,
        "neighbours": {str(u): sorted(others) for u, others in agreed.neighbours.items()},
    }
    if "ring" in record:
        shown["ring"] = i.ring(numbers["clients"], agreed.sid, agreed.U1)
        shown["graph_seed"] = i.digest("graph", agreed.sid).hex()
    compared = {what: (here, record[what]) for what, here in shown.items()}
    if "roster" in record:
        listed = {int(u): bytes.fromhex(key) for u, key in record["roster"]["keys"].items()}
        joined = b"".join(u.to_bytes(4, "big") + key for u, key in sorted(listed.items()))
        secrets = record["roster"]["secrets"].items()
        public = {u: i.ed25519_public(bytes.fromhex(secret)).hex() for u, secret in secrets}
        digest = i.digest("roster", joined).hex()
        compared["roster"] = ({**record["roster"], "digest": digest, "keys": public}, record["roster"])
        compared["its digest"] = (terms.roster.hex(), digest)
    return compared


def _of_groups(agreed: Agreed) -> Json:
    """Bytes in hex, as the record has them."""
    if not (of := agreed.terms.groups):
        return {}
    return {
        "numbers": {
            **{k: v for k, v in agreed.terms.numbers.items() if k not in ("roster", "vectors")},
            "groups": {**of, "seed": of["seed"].hex()},
        },
        "groups": agreed.groups,
        "holders": {str(u): list(holders) for u, holders in agreed.holders.items()},
    }


def _result(record: Json, whole: Conversation) -> dict[str, tuple[Any, Any]]:
    """The sums from the messages alone, and those of the survivors' codes."""
    server, result = unmasked(record), record["result"]
    sets = [
        sorted(m["from"] for m in record["messages"] if m["to"] == "server" and m["round"] == round)
        for round in ("share-keys", "consistency-check")
    ]
    compared = {
        "U2": (sets[0], record["U2"]),
        "U3": (server.U3, record["U3"]),
        "U4": (sets[1], record.get("U4", [])),
        **_sum(whole, [survivors for survivors, _ in server.parts], server.sums, result),
    }
    if whole.terms.groups:
        compared["parts"] = (len(server.parts), len(result["parts"]))
        for (survivors, codes), part in zip(server.parts, result["parts"], strict=False):
            found = _sum(whole, [survivors], codes, part)
            compared |= {f"{what} of {survivors}": both for what, both in found.items()}
    return compared


def _sum(
    whole: Conversation, parts: list[list[int]], codes: dict[str, list[int]], result: Json
) -> dict[str, tuple[Any, Any]]:
    """Of these clients, each part in a ring of its own: what there is of it here, and in the record."""
    U3 = sorted(u for part in parts for u in part)
    weight, most, made, plain = len(U3), 1, {}, {}
    encoded = {u: whole.clients[u].codes() for u in U3}
    for name, spec, bits in whole.terms.vectors:
        each = [zip(*(encoded[u][name][0] for u in part), strict=True) for part in parts]
        sums = [[i.centred(spec, sum(column), bits) for column in columns] for columns in each]
        plain[name] = [sum(column) for column in zip(*sums, strict=True)]
        if spec["kind"] == "weight":
            weight, most = max(codes[name][0], 1), spec["maximum"]  # 0 where all weigh nothing, or one lies
    noise = {}
    for name, spec, _ in whole.terms.vectors:
        if spec["kind"] != "private":
            made[name] = i.decode(spec, codes[name], len(U3), weight, most)
            continue
        terms = whole.terms.numbers
        numbers = private.Numbers.of(spec, terms["clients"], terms["m_min"] - terms["corrupt"])
        total = private.total(codes[name], numbers.granularity, whole.terms.rotation(name))
        made[name], noise[name] = (total, [x / len(U3) for x in total], None), numbers.noise(len(U3))
    return {
        "survivors": (U3, result["survivors"]),
        "sum of codes": (codes, result["codes"]),
        "the codes, summed": (plain, result["codes"]),
        "sum": ({name: value[0] for name, value in made.items()}, result["sum"]),
        "mean": ({name: value[1] for name, value in made.items()}, result["mean"]),
        "error bound": (
            {name: value[2] for name, value in made.items() if name not in noise},
            result["error_bound"],
        ),
        "noise": (noise, result.get("noise", {})),
    }


def _shown_of_client(client: Client, agreed: Agreed, shown: Json) -> Json:
    codes = client.codes()
    here: Json = {
        "codes": {name: made[0] for name, made in codes.items()},
        "clipping": {name: [*made[1:]] for name, made in codes.items()},
    }
    for name in ("c", "s"):
        if f"{name}_sk" in shown:
            here[f"{name}_pk"] = i.x25519_public(client.drawn[f"{name}_sk"]).hex()
    if "b_u" in shown:
        both = client.dealt(agreed)
        here["shares"] = {str(v): [x[:33].hex(), x[33:].hex()] for v, x in both.items()}
        seeds = {
            name: agreed.self_mask(client.drawn["b_u"], client.u, name) for name, _, _ in client.terms.vectors
        }
        here["self_mask"] = _masks(client.terms, seeds)
        if "shares" not in shown:
            here["self_mask"] = {name: {"words": mask["words"]} for name, mask in here["self_mask"].items()}
    return here


def _masks(terms: Terms, seeds: Mapping[str, bytes]) -> Json:
    """The seed and the first two words of each vector's mask."""
    masks = {}
    for name, spec, bits in terms.vectors:
        words = terms.stream(seeds[name], min(2, spec["length"]), bits)
        shown = [f"{word:0{2 * i.word_bytes(bits)}x}" for word in words]
        masks[name] = {"seed": seeds[name].hex(), "words": shown}
    return masks


def _pair(whole: Conversation, agreed: Agreed, u: int, v: int) -> Json:
    c_pk, s_pk = agreed.keys[v][:2]
    drawn = whole.clients[u].drawn
    s_uv = i.x25519(drawn["s_sk"], s_pk)
    seeds = {name: agreed.pair_mask(s_uv, u, v, name) for name, _, _ in whole.terms.vectors}
    c_uv = i.x25519(drawn["c_sk"], c_pk)
    return {"u": u, "v": v, "c_uv": c_uv.hex(), "s_uv": s_uv.hex(), "pair_mask": _masks(whole.terms, seeds)}


def unmasked(record: Json) -> Server:
    """A server that has heard these messages."""
    server = Server(record)
    for message in record["messages"]:
        if message["round"] != server.round:
            server.close()
        if message["to"] == "server":
            server.receive(message["from"], bytes.fromhex(message["bytes"]))
    server.close()
    return server


if __name__ == "__main__":
    found = [
        f"{name}: {difference}"
        for name in sys.argv[1:]
        for difference in differences(json.loads(Path(name).read_text(encoding="utf-8")))
    ]
    print("\n".join(found) or "all as computed here")
    sys.exit(bool(found))
