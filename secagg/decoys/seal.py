"""BFV through TenSEAL (Brakerski, CRYPTO 2012; Fan and Vercauteren, 2012): what a client encrypts and
decrypts of a session of decoys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.ckks.ring import Residues, Ring
from secagg.ckks.seal import SealKeys
from secagg.decoys.transform import slot_order, transform


class SelectorKeys(SealKeys):
    """The key of a session of decoys, whose ciphertexts are coefficients."""

    __slots__ = ()

    def __init__(self, ring: Ring, modulus: int, secret: Residues | None = None) -> None:
        """modulus: t. secret: as of `SealKeys`."""
        super().__init__(ring, modulus, secret)

    @property
    def _modulus(self) -> int:
        return self._setting

    def _fresh(self, sizes: list[int]) -> Any:
        return self._ts.context(
            self._ts.SCHEME_TYPE.BFV,
            self._ring.degree,
            plain_modulus=self._modulus,
            coeff_mod_bit_sizes=sizes,
            encryption_type=self._ts.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )

    def _template(self) -> Any:
        return self._ts.bfv_vector(self._context, [0]).ciphertext()[0]

    def encrypt(self, number: int) -> Residues:
        """A number in [0, t), as the polynomial of this constant -> (2, L, N) residues of coefficients."""
        # The same in every slot: a constant has one value everywhere.
        return self._residues(self._ts.bfv_vector(self._context, [number] * self._ring.degree))

    def decrypt(self, residues: Residues) -> NDArray[np.uint64]:
        """(2, L, N) residues of coefficients -> (N,) coefficients in [0, t)."""
        degree, t = self._ring.degree, self._modulus
        message = self._message(residues, degree, evaluated=False, scale=1.0)
        slots = np.array(self._ts.bfv_vector_from(self._context, message).decrypt(), np.int64)
        values = np.empty(degree, np.uint64)
        values[slot_order(degree)] = slots % t
        return transform(degree, t).back(values)
