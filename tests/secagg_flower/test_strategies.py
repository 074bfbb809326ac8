"""Strategies that are no averages are refused; all others of Flower's learn what they learn without."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import strategy as flower
from flwr.supercore.privacy_accounting import SamplingMethod

from secagg import LocalProtocolError
from secagg_flower import SecureGrid, secure_mod
from tests.secagg_flower.loopback import Loopback, app_of, initial, trained

NODES = (2**63, 5, 9)


def clipped_at(side: str, how: str, inner: Any, noise: float = 0.0, **options: Any) -> Any:
    wrapper = getattr(flower, f"DifferentialPrivacy{side}Side{how}Clipping")
    norm = {"clipping_norm": 0.5} if how == "Fixed" else {}
    return wrapper(inner, noise_multiplier=noise, num_sampled_clients=len(NODES), **norm, **options)


CLIPPING = "DifferentialPrivacyClientSideFixedClipping"
MADE: dict[str, Any] = {
    "FedProx": lambda: flower.FedProx(proximal_mu=0.1),
    "QFedAvg": lambda: flower.QFedAvg(client_learning_rate=0.1),
    CLIPPING: lambda: clipped_at("Client", "Fixed", flower.FedAvg()),
    "DifferentialPrivacyServerSideFixedClipping": lambda: clipped_at("Server", "Fixed", flower.FedAvg()),
    "DifferentialPrivacyServerSideAdaptiveClipping": lambda: clipped_at(
        "Server", "Adaptive", flower.FedAvg()
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": lambda: clipped_at(
        "Client", "Adaptive", flower.FedAvg()
    ),
}
NAMES = sorted(set(flower.__all__) - {"Result", "Strategy"})
AVERAGES = ("FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedProx", "FedYogi", CLIPPING)


def made(name: str) -> Any:
    return MADE.get(name, getattr(flower, name))()


def secured(strategy: Any, *mods: Any) -> SecureGrid:
    inner = Loopback(app_of(secure_mod(), *mods, train=reals), NODES)
    return SecureGrid(inner, bound=1.0, max_weight=100, strategy=strategy)


def reals(message: Message, context: Context) -> RecordDict:
    content = trained(message, context)
    content["arrays"] = real(content["arrays"])
    return content


def real(record: ArrayRecord) -> ArrayRecord:
    """Clipping knows no integers."""
    return ArrayRecord({key: array for key, array in record.items() if key != "batches"})


def learned(strategy: Any, grid: Any) -> dict[str, Any]:
    arrays = strategy.start(grid=grid, initial_arrays=real(initial()), num_rounds=1).arrays
    return {key: array.numpy() for key, array in arrays.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_of_flowers_is_an_average_or_refused(name: str) -> None:
    if name in AVERAGES:
        secured(made(name))
        return
    with pytest.raises(LocalProtocolError, match=f"^{name} is not for secure sums: it "):
        secured(made(name))


@pytest.mark.parametrize("name", AVERAGES)
def test_what_is_let_pass_learns_of_the_mean_what_it_learns_of_all(name: str) -> None:
    mods = [fixedclipping_mod] if name == CLIPPING else []
    secure = learned(made(name), secured(made(name), *mods))
    plain = learned(made(name), Loopback(app_of(*mods, train=reals), NODES))
    assert secure.keys() == plain.keys() == {"w", "b"}
    for key in plain:
        assert np.abs(secure[key] - plain[key]).max() < 1e-4
    assert np.abs(secure["w"] - initial()["w"].numpy()).max() > 1e-3  # something was learned


def test_what_is_derived_from_a_refused_one_is_refused_by_its_own_name() -> None:
    class Mine(flower.FedMedian):  # type: ignore[misc]
        pass

    with pytest.raises(LocalProtocolError, match=r"^Mine is not for secure sums: it looks at single replies"):
        secured(Mine())


def test_what_is_wrapped_is_looked_at() -> None:
    with pytest.raises(LocalProtocolError, match=r"^Krum is not for secure sums: it looks at single replies"):
        secured(clipped_at("Client", "Fixed", flower.Krum()))


def test_an_account_of_what_nobody_sees_is_refused() -> None:
    config = SimpleNamespace(sampling_method=SamplingMethod.NO_AMPLIFICATION)
    strategy = clipped_at("Client", "Fixed", flower.FedAvg(), 1.0, accountant=SimpleNamespace(config=config))
    with pytest.raises(LocalProtocolError, match="accounts for clients that all weigh the same"):
        secured(strategy)
