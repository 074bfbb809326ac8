"""What a party draws from its secret: permutations by a cipher, one key for one use; and its file."""

from __future__ import annotations

import math
import pickle
import shlex
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fl.config.secret import (
    RunSecrets,
    choice_key,
    kept,
    order_key,
    permutations,
    put,
    rounding_seed,
    samples,
)
from fl.config.section import ConfigError
from secagg.crypto import Tag, digest, transcript

SECRET = bytes(range(32))


def test_a_permutation_sorts_the_words_of_a_cipher() -> None:
    """AES-128 in counter mode under a key of its own for each pass, by another library's HKDF."""
    n, taken = 70_000, list(islice(permutations(SECRET, 70_000), 2))  # more than a block of the keystream
    for number, order in enumerate(taken):
        key = HKDF(hashes.SHA256(), 32, b"", transcript(Tag.TRAINING, "pass", number)).derive(SECRET)
        cipher = Cipher(algorithms.AES128(key[:16]), modes.CTR(bytes(16))).encryptor()
        words = np.frombuffer(cipher.update(bytes(8 * n)), "<u8")
        assert np.array_equal(words[order], np.sort(words))
        assert len(set(order.tolist())) == n


def test_all_permutations_come_alike() -> None:
    """By chi-squared over the 24 of four, at 5 deviations."""
    draws = 12_000
    times = Counter(tuple(order.tolist()) for order in islice(permutations(SECRET, 4), draws))
    chi = sum((n - draws / 24) ** 2 / (draws / 24) for n in times.values())
    assert len(times) == 24
    assert chi < 23 + 5 * math.sqrt(2 * 23)


def test_poisson_samples_take_each_by_a_coin_of_its_own() -> None:
    """Of 40 with probability 0.15: within 5 deviations each number comes as often, each two together, and the
    sizes spread as a binomial's do.
    """
    n, expected, draws = 40, 6, 20_000
    rate, within = expected / n, lambda p: 5 * math.sqrt(p * (1 - p) / draws)
    taken = np.zeros((draws, n))
    for row, sample in zip(taken, samples(SECRET, n, expected), strict=False):
        row[sample] = 1
    assert np.abs(taken.mean(axis=0) - rate).max() < within(rate)
    together = (taken.T @ taken / draws)[~np.eye(n, dtype=bool)]
    assert np.abs(together - rate**2).max() < within(rate**2)
    assert taken.sum(axis=1).var() == pytest.approx(n * rate * (1 - rate), rel=5 * math.sqrt(2 / draws))
    assert np.abs((taken[1:] * taken[:-1]).mean(axis=0) - rate**2).max() < within(rate**2)


def test_who_has_another_secret_has_other_samples() -> None:
    some, others = (
        [each.tolist() for each in islice(samples(key, 100, 50), 20)] for key in (SECRET, bytes(32))
    )
    assert not [one for one in some if one in others]
    assert some == [each.tolist() for each in islice(samples(SECRET, 100, 50), 20)]
    assert len({tuple(each) for each in some}) == 20


def test_a_key_is_of_one_use_one_secret_and_one_task() -> None:
    secrets = RunSecrets(SECRET)
    drawn = [
        *(order_key(secret, task) for secret in (SECRET, bytes(32)) for task in (b"", b"task", b"task2")),
        *(choice_key(SECRET, round) for round in (1, 2)),
        *(rounding_seed(SECRET), secrets.server, *secrets.clients(3).values()),
    ]
    assert len({key[:16] for key in [*drawn, secrets.run]}) == len(drawn) + 1
    assert {len(key) for key in drawn} == {32}
    assert len(secrets.run) == 16
    context = digest(Tag.CONTEXT, b"task")
    due = HKDF(hashes.SHA256(), 32, context, transcript(Tag.TRAINING, "order")).derive(SECRET)
    assert order_key(SECRET, b"task") == due


def test_the_secrets_of_an_experiment_are_its_seeds() -> None:
    assert RunSecrets.of_seed(1) == RunSecrets.of_seed(1) != RunSecrets.of_seed(2)
    assert RunSecrets.fresh() != RunSecrets.fresh()


def test_a_runs_secrets_are_not_shown_and_not_pickled() -> None:
    secrets = RunSecrets(SECRET)
    assert repr(secrets) == "RunSecrets()"
    with pytest.raises(TypeError, match="RunSecrets holds secrets and is never pickled"):
        pickle.dumps(secrets)


# In a file


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = kept(tmp_path / "client.secret")
    assert kept(tmp_path / "client.secret") == made != kept(tmp_path / "server.secret")
    put(tmp_path / "run.secret", SECRET)
    assert kept(tmp_path / "run.secret") == SECRET
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_secret_that_others_can_read_is_refused_with_a_line_for_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "a client's.secret"
    path.touch(0o644)
    with pytest.raises(ConfigError, match="is readable by others: chmod 600 ") as caught:
        kept(path)
    assert shlex.split(str(caught.value).partition("others: ")[2]) == ["chmod", "600", str(path)]


def test_a_secret_that_is_cut_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "client.secret", bytes(31))
    with pytest.raises(ConfigError, match=r"client\.secret is damaged: delete it, and a new one is made"):
        kept(tmp_path / "client.secret")
