"""LFW: made-up pictures in its layout, since the real ones are in no repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl import data
from fl.data import DataError, faces
from fl.data.faces import FACE, LEAST, SIZE
from fl.data.places import LFW_FOLDERS

PEOPLE = {"Ada_A": 21, "Bob_B": 20, "Cyd_C": 22}


@pytest.fixture(params=LFW_FOLDERS)
def lfw(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three people with pictures enough, a white face on a grey of their own, and one with too few."""
    monkeypatch.setattr(faces, "PEOPLE", len(PEOPLE))
    monkeypatch.setattr(faces, "PICTURES", sum(PEOPLE.values()))
    folder = tmp_path / request.param
    for grey, (name, pictures) in enumerate({**PEOPLE, "Dan_D": LEAST - 1}.items()):
        (folder / name).mkdir(parents=True)
        for number in range(1, pictures + 1):
            picture = Image.new("RGB", SIZE, (50 * grey, 50 * grey, 50 * grey))
            picture.paste((255, 255, 255), FACE)
            picture.save(folder / name / f"{name}_{number:04}.jpg", quality=95)
    return folder


def test_every_fourth_picture_is_for_the_test_and_classes_are_people_by_name(
    lfw: Path, tmp_path: Path
) -> None:
    assert data.found(tmp_path)["lfw"] == lfw
    read = data.load("lfw", tmp_path)
    assert (read.shape, read.classes, read.words) == ((3, 32, 32), 3, ())
    labels = np.repeat([0, 1, 2], list(PEOPLE.values()))
    test = np.arange(63) % 4 == 0
    assert np.array_equal(read.test_y, labels[test])
    assert np.array_equal(read.train_y, labels[~test])


def test_the_face_fills_the_picture(lfw: Path, tmp_path: Path) -> None:
    assert data.load("lfw", tmp_path).train_x.min() > 0.95


def test_of_each_four_by_four_pixels_the_mean_is_taken(lfw: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"  # which keeps every pixel
    Image.fromarray(pixels).save(path)
    left, upper, right, lower = FACE
    mean = pixels[upper:lower, left:right].reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(faces._face(path) - mean).max() <= 1


@pytest.mark.parametrize("lost", ["a picture", "a person"])
def test_what_is_missing_is_counted(lfw: Path, tmp_path: Path, lost: str) -> None:
    for path in list((lfw / "Cyd_C").iterdir())[: 1 if lost == "a picture" else None]:
        path.unlink()
    left = "62 pictures of 3 people" if lost == "a picture" else "41 pictures of 2 people"
    with pytest.raises(
        DataError, match=f"{left} with at least 20 each, where LFW has 63 of 3: some are missing"
    ):
        data.load("lfw", tmp_path)


@pytest.mark.parametrize(("mode", "size"), [("L", SIZE), ("RGB", (64, 64))])
def test_a_picture_of_another_kind_is_named(
    lfw: Path, tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    wrong = lfw / "Ada_A" / "Ada_A_0003.jpg"
    Image.new(mode, size).save(wrong)
    with pytest.raises(
        DataError, match=r"Ada_A_0003\.jpg is a picture of mode and size .*, where LFW's are RGB"
    ):
        data.load("lfw", tmp_path)


def test_a_damaged_picture_is_named(lfw: Path, tmp_path: Path) -> None:
    damaged = lfw / "Bob_B" / "Bob_B_0001.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(DataError, match=r"Bob_B_0001\.jpg is not a readable picture: .*; unpack it again"):
        data.load("lfw", tmp_path)


@pytest.mark.parametrize("download", [True, False])
def test_without_pictures_it_is_said_where_they_come_from(tmp_path: Path, download: bool) -> None:
    with pytest.raises(
        DataError, match="torchvision does not download it any more: take the deep-funneled"
    ) as caught:
        data.load("lfw", tmp_path, download)
    for words in (str(tmp_path), "https://umass-vis-lfw.github.io", *LFW_FOLDERS, "SECAGG_DATA"):
        assert words in str(caught.value)
    assert data.found(tmp_path)["lfw"] is None
