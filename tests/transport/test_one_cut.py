"""A client keeps to one cut over all runs of its program, by its policy and its key's file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Federation

from secagg import Aggregate, Counts, Masking, Policy, RemoteProtocolError, TooFewClients

LENGTH, N = 10, 6


def total_of(
    federation: Federation, threads: ThreadPoolExecutor, policy: Policy, *, cut: bytes = b""
) -> Aggregate:
    """Of one session, whose clients begin anew and end with it."""
    with federation.serve() as cohort:
        scheme = Masking.for_cohort(
            N,
            Counts(length=LENGTH, maximum=2**20),
            roster=cohort.roster.identities,
            corrupt=0,
            groups=2,
            cohort=range(N),
            cut=cut,
        )
        clients = [
            threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=policy) for u in range(N)
        ]
        try:
            return cohort.aggregate(scheme, os.urandom(16))
        except TooFewClients:
            for client in clients:
                client.result()
            raise


@pytest.mark.parametrize("alike", ["never", "any"])
def test_another_cut_is_refused_over_all_runs_of_its_program(
    tmp_path: Path, threads: ThreadPoolExecutor, alike: str
) -> None:
    federation = Federation(tmp_path, N)
    policy = Policy(corrupt=0, smallest_group=3, one_cut="june", alike=alike)  # type: ignore[arg-type]
    first = total_of(federation, threads, policy)
    with pytest.raises(RemoteProtocolError, match="this client insists on one cut: have it go on"):
        total_of(federation, threads, policy)
    again = total_of(federation, threads, policy, cut=first.cut)
    assert [part.survivors for part in again.parts] == [part.survivors for part in first.parts]
