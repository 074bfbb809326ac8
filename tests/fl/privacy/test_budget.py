"""What a client lets its sessions cost together, whatever servers ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.config.section import ConfigError
from fl.privacy.accounting import RenyiFilter, epsilon
from fl.privacy.budget import FAILURES, Account, Budget, Charged, of_private
from fl.privacy.releases import Gaussian, Laplace, Release, rdp
from fl.privacy.spending import own_releases
from secagg import CKKS, Bounded, LocalProtocolError, Masking, Plain, Private, RemoteProtocolError
from secagg.policy import Adversary
from tests.play import identities
from transport.journal import Spent

ROUND = [Gaussian(4.0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "client.key.spent"


def account(path: Path, **budget: float) -> Account:
    return Account(Budget(**budget), Spent(path))


def test_what_is_allowed_in_all_has_the_epsilon_of_the_budget(path: Path) -> None:
    """As one release after the other, by different servers, with different noise."""
    releases = [Gaussian(z) for z in (3.0, 5.0, 2.0, 4.0) * 20]
    allowed = []
    for release in releases:
        try:
            account(path, epsilon=4.0).charge([release])
        except RemoteProtocolError:
            continue
        allowed.append(release)
    assert 4 < len(allowed) < len(releases)
    assert 3.0 < epsilon(allowed, 1e-5) <= 4.0
    with pytest.raises(RemoteProtocolError, match="this client's privacy budget allows no more"):
        account(path, epsilon=4.0).charge([Gaussian(1.0)])


def test_a_larger_budget_goes_on_at_the_order_of_the_first_session(path: Path) -> None:
    account(path, epsilon=1.0).charge([Gaussian(20.0)])
    first, larger = account(path, epsilon=1.0), account(path, epsilon=8.0)
    assert first.order == larger.order == Budget(epsilon=1.0).best_order != Budget(epsilon=8.0).best_order
    assert 0 < first.left < larger.left < 1
    with pytest.raises(LocalProtocolError, match="counted at that alone"):
        account(path, epsilon=8.0, order=8.0).charge(ROUND)


def test_a_check_costs_nothing_and_vectors_without_noise_are_never_allowed(path: Path) -> None:
    for _ in range(3):
        account(path, epsilon=4.0).check(ROUND)
    assert account(path, epsilon=4.0).left == 1.0
    for use in (account(path, epsilon=4.0).check, account(path, epsilon=4.0).charge):
        with pytest.raises(RemoteProtocolError, match="without noise, which no budget allows"):
            use([])


def test_a_budget_of_which_nothing_can_be_spent_is_none() -> None:
    with pytest.raises(ConfigError, match="leave nothing to spend"):
        _ = Budget(epsilon=1e-6, order=1.5).best_order


# Sessions


PRIVATE = {"x": Private(length=100, clip=1.0, multiplier=4.0)}


def test_a_session_is_checked_when_it_is_offered_and_charged_when_the_vectors_leave(path: Path) -> None:
    scheme = Masking.for_cohort(10, PRIVATE)
    charged = Charged(account(path, epsilon=4.0), trains=False)
    charged.accepted(scheme)
    assert charged.account.left == 1.0
    charged.leaving()
    once = charged.account.left
    assert once < 1.0
    charged.leaving()
    assert charged.account.left == pytest.approx(2 * once - 1)
    while charged.account.left > 1 - once:
        charged.leaving()
    with pytest.raises(RemoteProtocolError, match="allows no more"):
        charged.accepted(scheme)  # before anything is computed for it


@pytest.mark.parametrize("scheme", [Masking, Plain, CKKS])
def test_a_vector_is_not_given_without_noise(path: Path, scheme: type[Masking | Plain | CKKS]) -> None:
    offered = scheme.for_cohort(10, Bounded(length=5, bound=1.0))
    with pytest.raises(RemoteProtocolError, match="without noise"):
        Charged(account(path, epsilon=4.0), trains=False).accepted(offered)


def test_who_trains_may_noise_itself_and_is_charged_for_what_the_task_asks_for(path: Path) -> None:
    offered = Masking.for_cohort(10, Bounded(length=5, bound=1.0))
    charged = Charged(account(path, epsilon=4.0), trains=True)
    charged.accepted(offered)
    with pytest.raises(RemoteProtocolError, match="without noise"):
        charged.asked([])
    charged.accepted(offered)
    charged.asked(ROUND)
    charged.leaving()
    assert charged.account.left < 1.0


def test_noise_on_examples_is_no_noise_on_a_client_nor_the_other_way_round(path: Path) -> None:
    """A server could else have all of a client's examples together for the price of one of them."""
    offered = Masking.for_cohort(10, Bounded(length=5, bound=1.0))
    charged = Charged(account(path, epsilon=4.0), trains=True)
    charged.accepted(offered)
    with pytest.raises(
        RemoteProtocolError, match=r"noise that protects one example, and .* is of one client"
    ):
        charged.asked(ROUND, of_examples=True)
    charged = Charged(Account(Budget(epsilon=4.0, protects="example"), Spent(path)), trains=True)
    with pytest.raises(
        RemoteProtocolError, match=r"noise that protects one client, and .* is of one example"
    ):
        charged.accepted(Masking.for_cohort(10, PRIVATE))
    charged.accepted(offered)
    with pytest.raises(
        RemoteProtocolError, match=r"noise that protects one client, and .* is of one example"
    ):
        charged.asked(ROUND)
    charged.accepted(offered)
    charged.asked(ROUND, of_examples=True)
    charged.leaving()
    assert 0 < charged.account.left < 1


def test_the_shares_of_those_who_may_be_missing_or_corrupt_are_not_counted() -> None:
    """A client that did would take a session for cheaper than it is."""
    few, many = (Masking.for_cohort(10, PRIVATE, m_min=m, corrupt=1) for m in (10, 6))
    (as_promised,), (with_fewer,) = of_private(few), of_private(many)
    assert few.m_min - few.corrupt > many.m_min - many.corrupt
    for release in (as_promised, with_fewer):
        assert rdp(release, 8.0) == pytest.approx(rdp(Gaussian(4.0), 8.0), rel=0.01)
        assert rdp(release, 8.0) >= rdp(Gaussian(4.0), 8.0)


@pytest.mark.parametrize(
    ("adversary", "share", "whole"),
    [
        ("active", 0.05, False),  # 50 that are lost and 50 that lie cut a client off: it has 78 neighbours
        ("active", None, True),  # 300 and 100 cut off none of 470 neighbours
        ("semi-honest", 0.05, True),  # who follows the protocol chooses nobody
    ],
)
def test_where_a_client_can_be_cut_off_its_own_noise_alone_is_counted(
    adversary: Adversary, share: float | None, whole: bool
) -> None:
    roster = identities(range(1000))[0] if adversary == "active" else None
    scheme = Masking.for_cohort(
        1000, PRIVATE, adversary=adversary, roster=roster, corrupt=share, dropout=share, graph="sparse"
    )
    assert not scheme.complete
    (release,) = of_private(scheme)
    alone = 1 if whole else scheme.m_min - scheme.corrupt  # of whose shares one is left
    assert rdp(release, 2.0) == pytest.approx(alone * rdp(Gaussian(4.0), 2.0), rel=0.05)


def test_the_chance_that_a_sparse_graph_fails_is_taken_off_the_delta(path: Path) -> None:
    """So that failures and what is told come to no more than delta, in whatever sessions are allowed."""
    small = {"epsilon": 4.0, "delta": 1e-8}
    complete, sparse = (
        Masking.for_cohort(200, PRIVATE, adversary="semi-honest", graph=graph)
        for graph in ("complete", "sparse")
    )
    spent = []
    for scheme in (complete, sparse):
        before = account(path, **small).left
        charged = Charged(account(path, **small), trains=False)
        charged.accepted(scheme)
        charged.leaving()
        spent.append(before - charged.account.left)
    assert spent[1] - spent[0] == pytest.approx(2.0**-40 / (FAILURES * 1e-8), rel=0.02)
    # What is kept for them is not there to be spent.
    order = account(path, **small).order
    most = RenyiFilter(4.0, 1e-8 * (1 - FAILURES), order=order).left
    just = (order / (2 * most)) ** 0.5
    fresh = path.with_name("another.spent")
    account(fresh, **small, order=order).check([Gaussian(just * (1 + 1e-9))])
    with pytest.raises(RemoteProtocolError, match="allows no more"):
        account(fresh, **small, order=order).check([Gaussian(just * (1 - 1e-9))])


# What a client that trains tells by its own noise

PLAN = LocalPlan(epochs=3, batch_size=8)
LOCAL = Perturbation("local", clip=1.0, multiplier=4.0)
EXAMPLE = replace(LOCAL, mechanism="example")


@pytest.mark.parametrize(
    ("asked", "plan", "releases"),
    [
        (LOCAL, PLAN, (Gaussian(4.0),)),
        (replace(LOCAL, noise="laplace"), PLAN, (Laplace(4.0 / 800**0.5),)),  # of 400 coordinates
        (EXAMPLE, PLAN, (Gaussian(4.0, 1.0, 3),)),
        (EXAMPLE, replace(PLAN, sampling="poisson"), (Gaussian(4.0, 8 / 96, 42),)),
        (EXAMPLE, replace(PLAN, steps=25), (Gaussian(4.0, 1.0, 3),)),  # a pass has 12 steps at least
        # What bounds nothing: no noise, noise that follows the data, noise on a few coordinates.
        (None, PLAN, ()),
        (Perturbation(compress=0.5), PLAN, ()),
        (replace(LOCAL, sensitivity="l2-max"), PLAN, ()),
        (replace(LOCAL, largest=0.5), PLAN, ()),
        (EXAMPLE, replace(PLAN, balance="loss"), ()),
        (EXAMPLE, replace(PLAN, sampling="poisson", balance="sampling"), ()),
        (LOCAL, replace(PLAN, balance="loss"), (Gaussian(4.0),)),  # whatever it trained on, all is noised
    ],
)
def test_what_a_task_has_a_client_noise(
    asked: Perturbation | None, plan: LocalPlan, releases: tuple[Release, ...]
) -> None:
    """It holds 100 examples, of which 96 to 112 are counted: when its budget ends tells no more of that."""
    assert own_releases(asked, plan, 400, 100) == releases
