"""Labeled Faces in the Wild: the people with at least twenty pictures, in the small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data.examples import DataError, Dataset
from fl.data.places import require_lfw

PEOPLE, PICTURES = 62, 3023
LEAST = 20  # pictures of a person
SIZE = (250, 250)
FACE = (61, 68, 189, 196)  # left, upper, right, lower: a square of 128 x 128 around the face
SIDE = 32


def lfw(root: Path) -> Dataset:
    """Labeled Faces in the Wild: 2,267 + 756 photographs of 3 x 32 x 32, the 62 people of 20 or more.

    Source: Huang, Ramesh, Berg and Learned-Miller, UMass Amherst 07-49, 2007; deep-funneled: Huang, Mattar,
    Lee and Learned-Miller, NIPS 2012; no licence stated, published for research.

    3,023 JPEG of 250 x 250, 27 MB. Of each the 128 x 128 pixels around the face (columns 61..188, rows
    68..195; deep funneling has aligned them) become 32 x 32, each the mean of 4 x 4. Classes are people in
    the order of their names; of all pictures, sorted by person and file name, the first of every four is a
    test picture. 15 to 398 pictures of a person are left to train on.

    Raises: DataError where a person or a picture is missing, or a picture is of another kind.
    """
    folder = require_lfw(root)
    people = _people(folder)
    names = sorted(people)
    files = [(path, label) for label, name in enumerate(names) for path in people[name]]
    if len(names) != PEOPLE or len(files) != PICTURES:
        raise DataError(
            f"{folder} holds {len(files)} pictures of {len(names)} people with at least {LEAST} each, where "
            f"LFW has {PICTURES} of {PEOPLE}: some are missing or too many, unpack it again"
        )
    x = np.stack([_face(path) for path, _ in files]).astype(np.float32)
    x /= 255
    y = np.array([label for _, label in files], dtype=np.int64)
    test = np.arange(len(y)) % 4 == 0
    return Dataset("lfw", x[~test], y[~test], x[test], y[test], classes=PEOPLE)


def _people(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each person with enough of them, by name, in the order of their file names."""
    people = {person.name: sorted(person.glob("*.jpg")) for person in folder.iterdir() if person.is_dir()}
    return {name: pictures for name, pictures in people.items() if len(pictures) >= LEAST}


def _face(path: Path) -> NDArray[np.uint8]:
    """(3, 32, 32)."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            kind = picture.mode, picture.size
            if kind != ("RGB", SIZE):
                raise DataError(f"{path} is a picture of mode and size {kind}, where LFW's are RGB of {SIZE}")
            face = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX, box=FACE))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # of damaged pictures
        raise DataError(f"{path} is not a readable picture: {error}; unpack it again") from error
    return face.transpose(2, 0, 1)
