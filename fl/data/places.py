"""Where data sets are looked for, and which files each is made of. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fl.data.examples import DataError


@dataclass(frozen=True)
class Files:
    """What torchvision downloads of a data set, and where it puts it.

    md5: of each file by its name, unpacked. Those of MNIST's and Fashion-MNIST's packed files are published,
    and these follow from them. megabytes: what a download brings, 10^6 bytes.
    """

    folder: str
    md5: Mapping[str, str]
    megabytes: int


FILES = {
    "mnist": Files(
        "MNIST/raw",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        12,
    ),
    "fashion-mnist": Files(
        "FashionMNIST/raw",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        31,
    ),
    "cifar-10": Files(
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        170,
    ),
}
LFW_FOLDERS = ("lfw-deepfunneled-20", "lfw-py/lfw-deepfunneled")  # the second as torchvision has it
LFW_AUTHORS = "https://umass-vis-lfw.github.io"


def search_path(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of data sets: `data_dir`, else $SECAGG_DATA, else secagg/ in the user's cache folder; of a
    user without a home that is .cache/ in the current folder.
    """
    chosen = data_dir or os.environ.get("SECAGG_DATA")
    if chosen:
        return Path(os.path.expanduser(chosen))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache").removeprefix("~/")
    return Path(os.path.expanduser(cache)) / "secagg"


def folder_of(name: str, root: Path) -> Path:
    """The folder of the files of `name`, one of FILES, under the search path."""
    return root / FILES[name].folder


def missing(name: str, root: Path) -> list[str]:
    """Which files of `name`, one of FILES, are not there."""
    return [file for file in FILES[name].md5 if not (folder_of(name, root) / file).is_file()]


def require(name: str, root: Path) -> Path:
    """The folder of the files of `name`, one of FILES.

    Raises: DataError where one is missing.
    """
    folder = folder_of(name, root)
    if absent := missing(name, root):
        raise DataError(
            f"{name} is not in {folder}: missing {', '.join(absent)}. "
            f"Run `secagg data fetch {name}`, unpack the files there, or name the folder that holds "
            f"{FILES[name].folder} with --data-dir (data_dir) or SECAGG_DATA"
        )
    return folder


def lfw_folder(root: Path) -> Path | None:
    """The folder of the folders of people, or None."""
    return next((root / folder for folder in LFW_FOLDERS if (root / folder).is_dir()), None)


def require_lfw(root: Path) -> Path:
    """The folder of the folders of people.

    Raises: DataError where there is none; nothing downloads it.
    """
    folder = lfw_folder(root)
    if folder is None:
        raise DataError(
            f"lfw is not in {root}, and torchvision does not download it any more: take the deep-funneled "
            f"images from its authors, {LFW_AUTHORS}, and lay them out as {LFW_FOLDERS[0]}/PERSON/*.jpg or "
            f"{LFW_FOLDERS[1]}/PERSON/*.jpg there, or in a folder you name with --data-dir (data_dir) or "
            "SECAGG_DATA"
        )
    return folder
