"""How long a round would take over a wireless network: a model of links and devices, no measurement.

Ma et al. (On Safeguarding Privacy and Security in the Framework of Federated Learning, III-C and IV-C) put
clients at random into one square kilometre and record each round's largest computation and transmission
time. They give no rates; those of `MODES` follow from published numbers. The server and its base stations
stand in the middle of the square, at (0, 0).

Left out: interference, fading, latency, and other clients. Each client has its channel to itself; k
that take turns on one channel have `up` and `down` divided by k, and without that more clients look cheaper
than they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THERMAL_NOISE = -174.0  # dBm per Hz, at 290 K
NEAREST = 10.0  # metres: below it the path losses are not stated
INDOORS = 20.0  # dB, the penetration loss of 3GPP TR 36.814, table A.2.1.1-2


@dataclass(frozen=True, slots=True)
class Way:
    """One direction. power: dBm; noise_figure: dB, of the receiver; efficiency: share of Shannon's capacity
    that is had, in (0, 1]; peak: bit/s, however strong the signal."""

    power: float
    noise_figure: float
    efficiency: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """bandwidth: Hz; path_loss: metres -> dB; gain: dBi, of the base station's antenna; reach: metres of one
    hop; loss: share of packets lost."""

    bandwidth: float
    path_loss: Callable[[float], float]
    gain: float
    reach: float = math.inf
    loss: float = 0.1
    up: Way
    down: Way


def _urban_macro(metres: float) -> float:
    return INDOORS + 128.1 + 37.6 * math.log10(metres / 1000)


def _street_canyon(metres: float, ghz: float = 3.5) -> float:
    return INDOORS + 22.4 + 35.3 * math.log10(metres) + 21.3 * math.log10(ghz)


def _large_space(metres: float, ghz: float = 5.25, breakpoint: float = 30.0) -> float:
    free_space = 32.45 + 20 * math.log10(min(metres, breakpoint)) + 20 * math.log10(ghz)
    return free_space + 35 * math.log10(max(metres, breakpoint) / breakpoint)


MODES: Mapping[str, Mode] = {
    "lte": Mode(
        bandwidth=10e6,
        path_loss=_urban_macro,
        gain=15,
        up=Way(power=23, noise_figure=5, efficiency=0.4, peak=20e6),
        down=Way(power=46, noise_figure=9, efficiency=0.6, peak=44e6),
    ),
    "wifi": Mode(
        bandwidth=80e6,
        path_loss=_large_space,
        gain=0,
        reach=100,
        up=Way(power=15, noise_figure=7, efficiency=0.6, peak=260e6),
        down=Way(power=20, noise_figure=7, efficiency=0.6, peak=260e6),
    ),
    "5g": Mode(
        bandwidth=100e6,
        path_loss=_street_canyon,
        gain=26,
        up=Way(power=23, noise_figure=5, efficiency=0.4 / 4, peak=117e6),
        down=Way(power=44, noise_figure=7, efficiency=0.6 * 3 / 4, peak=438e6),
    ),
}
"""Name -> numbers, one antenna stream each. Clients are indoors: to a base station outside 20 dB are lost.

lte: 3GPP TR 36.942 for 10 MHz at 2 GHz: urban macro cell, 46 dBm, 15 dBi, and annex A's share of Shannon's
capacity with its largest 4.4 (down) and 2.0 (up) bit/s/Hz; 23 dBm is a phone's (TS 36.101, class 3).
5g: 100 MHz at 3.5 GHz: TR 38.901, table 7.4.1-1, street canyon without line of sight; 44 dBm, and 8 dBi for
each of 64 antenna elements that add up in the client's direction; shares as of lte, peaks by the formula of
TS 38.306, 4.1.2, both times 3/4 (down) and 1/4 (up), our choice of who has the channel when.
wifi: 802.11ac, 80 MHz at 5.25 GHz: TGn's channel model F (free space up to 30 m, then slope 3.5); 20 and 15
dBm as in the scenarios of TGax; peak 433 Mbit/s, of which 0.6, our assumption, are left by the medium access.
One hop reaches 100 m (our choice). Beyond, relays stand every 100 m: each hop is as slow as the longest, and
one hop sends at a time.
loss: a tenth, which all three aim at when they choose a modulation (TS 36.213, 7.2.3; TS 38.214, 5.2.2.1;
IEEE 802.11 defines sensitivity by it).
"""


def rate(mode: Mode, way: Way, metres: float) -> float:
    """Bit/s at a distance: bandwidth x efficiency x log2(1 + S/N) (Shannon), at most `way.peak`."""
    hops = max(1, math.ceil(metres / mode.reach))
    received = way.power + mode.gain - mode.path_loss(max(min(metres, mode.reach), NEAREST))
    noise = THERMAL_NOISE + 10 * math.log10(mode.bandwidth) + way.noise_figure
    capacity = mode.bandwidth * math.log2(1 + 10 ** ((received - noise) / 10))
    return min(way.efficiency * capacity, way.peak) / hops


@dataclass(frozen=True, slots=True)
class Link:
    """A client's. place: (x, y), km from the server, within 10^6; mode: of MODES; up, down: bit/s, 1..10^15;
    loss: share of packets lost, in [0, 1).

    Raises: ValueError for anything else.
    """

    place: tuple[float, float]
    mode: str
    up: float
    down: float
    loss: float

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no mode {self.mode!r}: take one of {', '.join(MODES)}")
        if not all(abs(x) <= 1e6 for x in self.place):
            raise ValueError(f"a place of {self.place}: give km east and north of the server")
        if not (1 <= self.up <= 1e15 and 1 <= self.down <= 1e15):
            raise ValueError(f"rates of {self.up} and {self.down} bit/s: give both, 1 to 10^15")
        if not 0 <= self.loss < 1:
            raise ValueError(f"a loss of {self.loss}: give a share from 0 to below 1")


def place(clients: int, mode: str, rng: np.random.Generator) -> tuple[Link, ...]:
    """Links of clients at uniform places in the square. mode: of MODES, or "mixed": each client draws one.

    The same rng puts them at the same places, whatever the mode.
    Raises: ValueError for another mode, or no client.
    """
    if mode != "mixed" and mode not in MODES:
        raise ValueError(f"no mode {mode!r}: take one of {', '.join(MODES)}, mixed")
    if clients < 1:
        raise ValueError(f"{clients} clients: place at least 1")
    places = rng.uniform(-0.5, 0.5, (clients, 2)).tolist()
    modes = rng.choice(list(MODES), clients).tolist() if mode == "mixed" else [mode] * clients
    links = []
    for (x, y), name in zip(places, modes, strict=True):
        m, metres = MODES[name], 1000 * math.hypot(x, y)
        links.append(Link((x, y), name, rate(m, m.up, metres), rate(m, m.down, metres), m.loss))
    return tuple(links)


def expected_seconds(link: Link, up_bytes: int, down_bytes: int) -> float:
    """Time for the one direction and then the other: the mean, since a packet is sent 1 / (1 - loss) times.
    The bytes are >= 0.
    """
    return 8 * (up_bytes / link.up + down_bytes / link.down) / (1 - link.loss)


def speeds(clients: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(clients,) examples a second that each device trains on: log-normal, median 500, sigma 0.7.

    A model: with this sigma nine devices of ten lie within a factor of ten. Scale it to a model's own cost.
    """
    return rng.lognormal(math.log(500), 0.7, clients)


def compute_seconds(examples_seen: int, speed: float) -> float:
    """Local training. examples_seen: examples x epochs, >= 0; speed: examples a second, > 0. A model too:
    time is proportional to examples, whatever the batch.

    Raises: ValueError for another speed.
    """
    if not 0 < speed < math.inf:
        raise ValueError(f"a speed of {speed}: give examples a second, above 0")
    return examples_seen / speed


def round_seconds(compute: Sequence[float], transmit: Sequence[float]) -> float:
    """Delay of a round (Ma et al., figure 5): the slowest client's computation and transmission together.

    compute, transmit: one entry each per client.  Raises: ValueError where they do not match, or are empty.
    """
    if len(compute) != len(transmit) or len(compute) == 0:
        raise ValueError(f"{len(compute)} computations, {len(transmit)} transmissions: one each per client")
    return max(map(sum, zip(compute, transmit, strict=True)))
