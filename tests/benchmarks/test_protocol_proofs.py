"""What proofs would cost: the proof that is counted proves, PINE's bytes are its test vectors', and what is
committed says what the page does.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, proven
from benchmarks.protocol import proofs
from secagg.prg import generator
from tests.benchmarks.cases import rows_of, shown


def test_a_range_that_holds_is_proven_with_four_powers_a_bit_to_make_and_to_check() -> None:
    made, checked = proven.Counter(), proven.Counter()
    x = secrets.randbelow(2**6)
    proof = proven.prove(x, 6, made)
    assert proven.is_proven(proof, 6, checked)
    assert (made.taken, checked.taken) == (24, 24)


def test_the_number_that_is_proven_is_the_one_that_is_committed_to() -> None:
    """Opened with the randomness that went into it."""
    count, opening, proof = proven.Counter(), 0, []
    for i, b in enumerate((1, 0, 1)):  # 5
        c, r = proven.commit_bit(b, count)
        proof.append(proven.prove_bit(b, c, r, count))
        opening += r << i
    assert proven.commitment(proof) == proven.G**5 * proven.H**opening


@pytest.mark.parametrize("b", [2, -1])
@pytest.mark.parametrize("claimed", [0, 1])
def test_no_proof_that_something_else_is_a_bit_is_accepted(b: int, claimed: int) -> None:
    count = proven.Counter()
    c, r = proven.commit_bit(b, count)
    assert not proven.bit_is_proven(proven.prove_bit(claimed, c, r, count), count)


def test_a_proof_of_other_commitments_or_of_fewer_bits_is_refused() -> None:
    count = proven.Counter()
    one, other = (proven.prove(x, 2, count) for x in (3, 3))
    mixed = proven.BitProof(other[0].c, one[0].challenges, one[0].responses)
    assert not proven.is_proven((mixed, one[1]), 2, count)
    assert not proven.is_proven(one, 3, count)
    with pytest.raises(ValueError, match="4 has no 2 bits"):
        proven.prove(4, 2, count)


def test_the_group_is_the_squares_modulo_a_safe_prime() -> None:
    from flint import fmpz

    assert fmpz(proven.P).is_probable_prime()
    assert fmpz(proven.ORDER).is_probable_prime()
    assert all(base**proven.ORDER == 1 and base != 1 for base in (proven.G, proven.H))


@pytest.mark.parametrize(
    ("d", "norm", "proofs_", "norm_proofs", "checks", "published"),
    [(20, 128, 5, 1, 100, 12_160), (250, 16, 4, 2, 100, 11_480), (19, 1024, 4, 2, 75, 10_556)],
)
def test_shares_of_pine_are_as_long_as_its_test_vectors(
    d: int, norm: int, proofs_: int, norm_proofs: int, checks: int, published: int
) -> None:
    """Pine32HmacSha256Aes128_0, _3 and _7 of the draft's repository: the leader's share, and 128 bytes each
    of the helper's and of the public one. Their gates add 4 squares.
    """
    given = {"proofs": proofs_, "norm_proofs": norm_proofs, "checks": checks}
    assert proofs.pine_bytes(d, norm, norm_chunk=4, **given) == published + 2 * 128


def test_wraparound_checks_are_the_products_with_what_was_drawn() -> None:
    seed, codes = bytes(32), np.array([2.0**15 - 1, -(2.0**15), 3, 0, -7, 11])
    raw = np.frombuffer(generator(seed)(proofs.CHECKS * 2), np.uint8).reshape(proofs.CHECKS, 2)
    for product, drawn in zip(proofs.wraparound_checks(codes, seed), raw, strict=True):
        pairs = [int(byte) >> shift & 3 for byte in drawn for shift in (0, 2, 4, 6)][: len(codes)]
        assert product == sum(c * (-1, 0, 0, 1)[pair] for c, pair in zip(codes, pairs, strict=True))


def test_products_of_many_powers_take_less_than_the_powers_and_of_one_no_more() -> None:
    assert proofs.multi(1) == 1
    assert all(terms / 40 < proofs.multi(terms) < terms / 4 for terms in (10**3, 10**5, 10**7))


def test_it_runs_and_every_proof_takes_more_than_commitments_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(proofs.LENGTHS, "quick", (64,))
    monkeypatch.setitem(proofs.CLIENTS, "quick", 6)
    monkeypatch.setattr(proofs, "POWERS", 2)
    rows = rows_of(proofs)
    shown(proofs, rows)
    alone, *more = (row for row in rows if row["how"] == "reckoned")
    assert [row["what"] for row in (alone, *more)] == [*proofs.PROOFS]
    assert all(row["powers"] > alone["powers"] for row in more)


# What is committed says what the page does


def committed(what: str, d: int = 10**6) -> Mapping[str, Any]:
    rows = harness.read("protocol", "proofs")["rows"]
    (row,) = [row for row in rows if row["what"] == what and row.get("coordinates") == d]
    return row


@pytest.mark.parametrize(
    ("what", "times"),
    [
        ("commitments alone", 100),
        ("L2, 1000 projections", 100),
        ("16-bit ranges, one proof", 10_000),
        ("16-bit ranges, by bits", 10_000),
    ],
)
def test_proofs_took_as_many_times_what_masking_takes_as_is_said(what: str, times: float) -> None:
    row = committed(what)
    assert row["times"] == row["seconds"] / committed(proofs.MASKING)["seconds"]
    assert row["times"] >= times


def test_the_committed_work_is_what_the_formulas_give() -> None:
    for what, proof in proofs.PROOFS.items():
        for d in proofs.LENGTHS["full"]:
            row, work = committed(what, d), proof(d)
            assert (row["powers"], row["to_check"], row["sent"]) == (work.powers, work.to_check, work.sent)


def test_shares_that_can_be_checked_are_half_as_long_again_at_most() -> None:
    checked, packed = committed(proofs.ON_SHARES), committed("split, 2 relays")
    assert checked["sent"] == proofs.pine_bytes(10**6)
    assert packed["sent"] < checked["sent"] <= 1.5 * packed["sent"]
