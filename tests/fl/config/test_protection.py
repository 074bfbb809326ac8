"""What protects a run: what is filled in, what a scheme would not look at, what a client then insists on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fl.config.protection import Protection
from secagg import (
    CKKS,
    Bounded,
    Decoys,
    LocalProtocolError,
    Masking,
    Plain,
    RemoteProtocolError,
    Split,
    throwaway_identities,
)
from secagg.schemes import accept

VECTORS = {"": Bounded(length=3, bound=1.0)}


@pytest.mark.parametrize(
    ("given", "kind", "against", "kept"),
    [
        ({}, Masking, "active", False),
        ({"adversary": "semi-honest"}, Masking, "semi-honest", False),
        ({"prg": "chacha20"}, Masking, "active", False),
        ({"scheme": "split"}, Split, "active", False),
        ({"scheme": "split", "relays": 2, "corrupt": 2, "prg": "chacha20"}, Split, "active", False),
        ({"scheme": "split", "adversary": "semi-honest", "dropout": 0}, Split, "semi-honest", False),
        ({"scheme": "split", "blank": 1e-9}, Split, "active", False),
        ({"blank": 1e-9}, Masking, "active", False),
        ({"scheme": "plain"}, Plain, "active", False),
        ({"scheme": "plain", "batch": 2, "graph": "sparse"}, Plain, "active", False),
        ({"scheme": "ckks"}, CKKS, "semi-honest", False),
        ({"scheme": "ckks", "ending": "release"}, CKKS, "semi-honest", False),
        ({"scheme": "ckks", "ending": "keep"}, CKKS, "semi-honest", True),
        ({"scheme": "decoys"}, Decoys, "semi-honest", True),
        ({"scheme": "decoys", "decoys": 3, "ending": "keep"}, Decoys, "semi-honest", True),
    ],
    ids=str,
)
def test_a_client_of_it_takes_part_in_just_what_it_makes(
    given: dict[str, Any], kind: type, against: str, kept: bool
) -> None:
    protection, (roster, _) = Protection(**given), throwaway_identities(range(5), relays=2)
    assert (protection.against, protection.kept) == (against, kept)
    scheme = protection.for_cohort(5, VECTORS, roster)
    assert type(scheme) is kind
    assert accept(protection.policy(), scheme.offer(), roster) == scheme
    assert getattr(scheme, "ending", "release") == ("keep" if kept else "release")
    assert getattr(scheme, "prg", "aes-128-ctr") == protection.prg


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheme": "ckks", "corrupt": 1}, "--corrupt is for --scheme masking or split: it means nothing"),
        ({"scheme": "ckks", "blank": 0.5}, "--blank is for --scheme masking or split: it means nothing to c"),
        (
            {"scheme": "plain", "blank": 0.5},
            "--blank is for --scheme masking or split: it means nothing to p",
        ),
        ({"scheme": "ckks", "dropout": 0.1}, "--dropout is for --scheme masking or split"),
        ({"scheme": "ckks", "graph": "sparse"}, "--graph is for --scheme masking"),
        ({"scheme": "ckks", "threshold": 3}, "--threshold is for --scheme masking"),
        ({"scheme": "ckks", "batch": 2}, "--batch is for --scheme masking"),
        ({"scheme": "ckks", "prg": "chacha20"}, "--prg is for --scheme masking or split"),
        (
            {"scheme": "split", "graph": "complete"},
            "--graph is for --scheme masking: it means nothing to split",
        ),
        (
            {"scheme": "split", "threshold": 3},
            "--threshold is for --scheme masking: it means nothing to split",
        ),
        ({"scheme": "split", "batch": 2}, "--batch is for --scheme masking: it means nothing to split"),
        ({"scheme": "split", "ending": "keep"}, "split has one ending"),
        ({"relays": 2}, "--relays 2 is for --scheme split: masking has none"),
        ({"scheme": "plain", "relays": 3}, "--relays 3 is for --scheme split: plain has none"),
        ({"ending": "keep"}, "--ending keep is for --scheme ckks: masking has one ending"),
        ({"ending": "release"}, "--ending release is for --scheme ckks"),
        ({"scheme": "plain", "ending": "keep"}, "plain has one ending"),
        ({"scheme": "ckks", "decoys": 4}, "--decoys 4 is for --scheme decoys: ckks sends none"),
        ({"scheme": "decoys", "batch": 2}, "--batch is for --scheme masking: it means nothing to decoys"),
        *(
            (
                {"scheme": scheme, "groups": 2},
                f"--groups 2 is for --scheme masking: with {scheme} there is one",
            )
            for scheme in ("split", "ckks", "decoys")
        ),
        ({"scheme": "plain", "groups": 2}, "plain shows every update, and rules take them one by one"),
        ({"groups": 2, "batch": 4}, "--batch 4 does not go with --groups"),
        ({"groups": 2, "blank": 0.5}, "--blank 0.5 does not go with --groups"),
        ({"m_g": 3}, "--group-m-min counts with --groups only"),
        ({"unsafe_groups": True}, "--unsafe-groups counts with --groups only"),
        ({"public_weights": True}, "--public-weights counts with --groups only"),
    ],
    ids=str,
)
def test_what_a_scheme_would_not_look_at_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        Protection(**given)


@pytest.mark.parametrize(
    "more",
    [{}, {"m_g": 5}, {"public_weights": True}, {"unsafe_groups": True, "groups": 6, "corrupt": 2}],
    ids=str,
)
def test_a_client_of_it_is_summed_in_its_groups(more: dict[str, Any]) -> None:
    protection = Protection(**{"groups": 2, "corrupt": 1} | more)
    roster, _ = throwaway_identities(range(12))
    scheme = protection.for_cohort(12, VECTORS, roster, cohort=range(12))
    assert accept(protection.policy(clients=12), scheme.offer(), roster) == scheme
    for policy, words in (
        (protection.policy(clients=12 + protection.groups), "this client takes groups of"),
        (
            Protection(corrupt=protection.corrupt).policy(),
            "is summed with all. If you mean it: smallest_group=",
        ),
    ):
        with pytest.raises(RemoteProtocolError, match=words):
            accept(policy, scheme.offer(), roster)
    words = {"public_weights": "takes weights for public", "unsafe_groups": "offers unsafe groups"}
    for name in words.keys() & more.keys():
        stricter = msgspec.structs.replace(protection.policy(clients=12), **{name: False})
        with pytest.raises(RemoteProtocolError, match=words[name]):
            accept(stricter, scheme.offer(), roster)


def test_ckks_is_refused_against_an_active_server_in_its_own_words() -> None:
    with pytest.raises(LocalProtocolError, match="CKKS is not for a server that is active: it decides what"):
        Protection(scheme="ckks", adversary="active").for_cohort(5, VECTORS, None)


@pytest.mark.parametrize(
    ("asked", "listed", "relays"), [(None, 3, 3), (3, 3, 3), (None, None, 2), (4, None, 4)], ids=str
)
def test_the_relays_are_those_asked_for_or_of_the_roster(
    asked: int | None, listed: int | None, relays: int
) -> None:
    roster = None if listed is None else throwaway_identities(range(5), relays=listed)[0]
    adversary = "semi-honest" if roster is None else "active"
    protection = Protection(scheme="split", relays=asked, adversary=adversary)
    assert protection.for_cohort(5, VECTORS, roster).relays == relays


def test_other_relays_than_the_roster_lists_are_refused() -> None:
    roster, _ = throwaway_identities(range(5), relays=3)
    with pytest.raises(LocalProtocolError, match="2 relays, and the roster lists 3"):
        Protection(scheme="split", relays=2).for_cohort(5, VECTORS, roster)


def test_the_candidates_are_those_asked_for_and_a_release_of_their_sum_is_refused() -> None:
    assert Protection(scheme="decoys", decoys=5).for_cohort(5, VECTORS, None).candidates == 5
    assert Protection(scheme="decoys").for_cohort(5, VECTORS, None).candidates == 8
    for given, words in (
        (
            {"ending": "release"},
            "against whoever learns the sum the true candidate is found by linear",
        ),
        ({"adversary": "active"}, "decoys are not for a server that is active"),
    ):
        with pytest.raises(LocalProtocolError, match=words):
            Protection(scheme="decoys", **given).for_cohort(5, VECTORS, None)
