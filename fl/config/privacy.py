"""[privacy]: what bounds that which a sum, or an update, tells of those in it. The part that a client does
itself travels to it in the task of each round, as a struct of its own.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from fl.config.section import ConfigError, setting, settle
from secagg.specs import check_fields

Mechanism = Literal["none", "local", "distributed", "central", "example"]
NoiseKind = Literal["gaussian", "laplace", "skellam", "discrete-gaussian"]
Schedule = Literal["constant", "linear", "staircase", "exponential", "cyclic"]
Sensitivity = Literal["clip", "l2-max"]

NOISES: Final[dict[Mechanism, tuple[NoiseKind, ...]]] = {
    "none": (),
    "local": ("gaussian", "laplace"),
    "distributed": ("skellam", "discrete-gaussian"),
    "central": ("gaussian", "laplace"),
    "example": ("gaussian", "laplace"),
}
"""Which noise each mechanism can add, its default first: integers in the ring, real numbers elsewhere."""


class Perturbation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a client does itself in one round, as the server asks for it: in `Instructions.privacy`, None
    where there is nothing to do.

    mechanism: where its own noise is added: to its update (local), to each step (example), or nowhere.
    clip: C, the largest L2 norm: of the update, of an example's gradient for `example`. multiplier: the
    noise's standard deviation is multiplier x clip in this round. sensitivity: l2-max takes the largest norm
    there is instead of C (Wei et al., section 3.4). compress: share of an upload's coordinates that are left
    out, the smallest. largest: share of the coordinates, the largest, that noise is added to.

    Raises: LocalProtocolError for a value out of its range; ConfigError for noise without a clip.
    """

    # The order of these fields is that of the wire.
    mechanism: Literal["none", "local", "example"] = "none"
    noise: Literal["gaussian", "laplace"] = "gaussian"
    clip: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    multiplier: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    sensitivity: Sensitivity = "clip"
    compress: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    largest: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "perturbation")
        ConfigError.unless(
            self.mechanism == "none" or self.clip is not None,
            f"{self.mechanism} noise is a multiple of the clip: give a clip",
        )


class PrivacyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where noise is added, how much, and what may be spent of it.

    Raises: ConfigError for a value of the wrong type, out of its range, or that contradicts another.
    """

    mechanism: Annotated[
        Mechanism,
        setting(
            "Who adds noise: each client its own (local) or its share (distributed), the server (central), "
            "each step of training (example).",
            name="privacy",
        ),
    ] = "none"
    noise: Annotated[NoiseKind, setting("Of which kind.", unset="gaussian; distributed skellam")] | None = (
        None
    )
    clip: (
        Annotated[
            float,
            setting(
                "L2 norm to which a client, unless malicious, scales its upload down; with example, each "
                "example's gradient.",
                gt=0,
                le=1e6,
            ),
        ]
        | None
    ) = None
    noise_multiplier: (
        Annotated[float, setting("The noise's standard deviation as a multiple of the clip.", gt=0, le=1e6)]
        | None
    ) = None
    epsilon: (
        Annotated[float, setting("Or what all rounds may spend: the multiplier is found.", gt=0, le=1e6)]
        | None
    ) = None
    delta: Annotated[float, setting("Of epsilon.", gt=0, lt=1, typed={"le": 0.01})] = 1e-5
    adaptive_clip: Annotated[
        bool, setting("Let the clip follow the median norm, which is learned under noise.")
    ] = False
    noise_schedule: Annotated[Schedule, setting("How the multiplier goes over the rounds.")] = "constant"
    noise_end: (
        Annotated[
            float,
            setting("The multiplier of the last round, where it changes.", unset="half", gt=0, le=1e6),
        ]
        | None
    ) = None
    sensitivity: Annotated[
        Sensitivity, setting("Noise by the clip, or by the largest norm there is: no epsilon.")
    ] = "clip"
    compress: Annotated[
        float, setting("Share of an upload's coordinates that is left out, the smallest.", ge=0, lt=1)
    ] = 0.0
    noise_largest: (
        Annotated[
            float,
            setting("Noise on this share of the coordinates alone, the largest: no epsilon.", gt=0, le=1),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        settle(self)
        adds = self.mechanism != "none"
        given = [
            name
            for name in ("noise", "noise_multiplier", "epsilon", "noise_end", "noise_largest")
            if getattr(self, name) is not None
        ]
        given += ["adaptive_clip"] if self.adaptive_clip else []
        given += ["noise_schedule"] if self.noise_schedule != "constant" else []
        given += ["sensitivity"] if self.sensitivity != "clip" else []
        ConfigError.unless(
            adds or not given,
            f"{', '.join(given)}: nobody adds noise: say who with privacy = 'local', 'distributed', "
            "'central' or 'example'",
        )
        if not adds:
            return
        kinds = NOISES[self.mechanism]
        ConfigError.unless(
            self.noise is None or self.noise in kinds,
            f"noise = {self.noise!r}: with privacy = {self.mechanism!r} it is {' or '.join(kinds)}",
        )
        ConfigError.unless(
            self.clip is not None,
            f"privacy = {self.mechanism!r} needs a clip: the largest L2 norm; the noise is a multiple of it",
        )
        ConfigError.unless(
            (self.noise_multiplier is None) != (self.epsilon is None),
            f"privacy = {self.mechanism!r}: give noise_multiplier, or epsilon, from which it is found, "
            "not both",
        )
        summed = self.mechanism in ("central", "distributed")
        ConfigError.unless(
            summed or not self.adaptive_clip,
            f"adaptive_clip: the count that the clip follows is noised in a sum, as central and distributed "
            f"noise are: with privacy = {self.mechanism!r} leave it out",
        )
        of_data = self.sensitivity == "l2-max" or self.noise_largest is not None
        ConfigError.unless(
            not (summed and of_data),
            f"sensitivity = 'l2-max', noise_largest: with privacy = {self.mechanism!r} no client adds all of "
            "its noise: leave them out, or take local or example",
        )
        ConfigError.unless(
            self.epsilon is None or not of_data,
            "epsilon: with sensitivity = 'l2-max' or noise_largest the noise depends on the data, and there "
            "is none to keep to: give noise_multiplier",
        )
        ConfigError.unless(
            self.noise_end is None or self.noise_schedule != "constant",
            "noise_end: with noise_schedule = 'constant' the multiplier stays",
        )

    @property
    def scales_uploads(self) -> bool:
        """Whether what a client sends is clipped as a whole, or coordinates of it are left out."""
        return (self.clip is not None and self.mechanism != "example") or self.compress > 0

    @property
    def has_epsilon(self) -> bool:
        """Whether what is added bounds what is told. Noise that depends on the data does not."""
        return self.mechanism != "none" and self.sensitivity == "clip" and self.noise_largest is None

    @property
    def kind(self) -> NoiseKind:
        """The noise, filled in."""
        return self.noise or NOISES[self.mechanism][0]
