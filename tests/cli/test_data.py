"""`secagg data`: what is here, what is missing, what is damaged, and who would hold what."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import spec_from_file_location
from pathlib import Path

import msgspec
import numpy as np
import pytest
from commands import Ran, is_one_line
from sklearn import datasets as sklearn_datasets

from fl.cli import data as command
from fl.cli.output import Output
from fl.config.section import ConfigError
from fl.data import DATASETS, DataError
from fl.data.partition import Partition
from fl.data.places import FILES

Capture = pytest.CaptureFixture[str]
Here = Callable[..., Ran]


def records(capsys: Capture) -> dict[str, dict[str, object]]:
    """What --json printed, by data set."""
    lines = [msgspec.json.decode(line, type=dict) for line in capsys.readouterr().out.splitlines()]
    return {line["dataset"]: line for line in lines}


# List


def test_every_data_set_is_listed_with_where_it_is_or_how_to_get_it(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lfw-deepfunneled-20").mkdir()
    command.show(Output(), tmp_path)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [*DATASETS, "looked"]
    assert "bundled with scikit-learn" in lines["digits"]
    assert "1,343 + 454 images of 1 x 8 x 8" in lines["digits"]
    assert "not here: secagg data fetch mnist (12 MB)" in lines["mnist"]
    assert str(tmp_path / "lfw-deepfunneled-20") in lines["lfw"]
    assert "bundled with Python" in lines["text"]
    assert lines["looked"] == f"looked in {tmp_path}"


def test_programs_get_the_list_too(tmp_path: Path, capsys: Capture) -> None:
    command.show(Output(json=True), tmp_path)
    listed = records(capsys)
    assert list(listed) == list(DATASETS)
    assert listed["digits"]["found"] == "bundled"
    assert listed["lfw"]["found"] is None
    assert listed["lfw"]["where"] == (
        "not here: from https://umass-vis-lfw.github.io into lfw-deepfunneled-20/PERSON/*.jpg"
    )


@pytest.mark.parametrize(
    ("name", "way"), [("digits", "pip install 'secagg[fl]'"), ("text", "install Python")]
)
def test_what_is_bundled_and_yet_missing_comes_with_a_way_to_get_it(name: str, way: str) -> None:
    assert command.where(name, None).startswith(f"not here: {way}")


# Fetch


@pytest.mark.parametrize("name", ["digits", "text"])
def test_what_is_bundled_need_not_be_fetched(tmp_path: Path, capsys: Capture, name: str) -> None:
    command.get(Output(), name, tmp_path)
    assert capsys.readouterr().out.startswith(f"{name}: bundled with ")


def test_what_is_missing_is_fetched_into_the_folder_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, root: Path, progress: bool) -> Path:
        assert not progress  # which only a terminal has
        return root / FILES[name].folder

    monkeypatch.setattr(command, "fetch", fetch)
    command.get(Output(json=True), "mnist", tmp_path)
    assert records(capsys) == {"mnist": {"dataset": "mnist", "found": str(tmp_path / "MNIST" / "raw")}}


def test_what_nobody_downloads_and_what_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="torchvision does not download it any more"):
        command.get(Output(), "lfw", tmp_path)
    with pytest.raises(ConfigError, match="no data set 'mnst': there are digits"):
        command.get(Output(), "mnst", tmp_path)


# Check


def test_what_is_here_is_read_and_found_whole(tmp_path: Path, capsys: Capture) -> None:
    assert command.check(Output(), None, tmp_path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for line in (
        "digits: ok, bundled",
        "text: ok, bundled",
        "cifar-10: not here: secagg data fetch cifar-10",
    ):
        assert line in out


def test_files_that_are_not_the_published_ones_are_named(tmp_path: Path, capsys: Capture) -> None:
    raw = tmp_path / FILES["mnist"].folder
    raw.mkdir(parents=True)
    for file in FILES["mnist"].md5:
        (raw / file).write_bytes(b"damaged")
    assert command.check(Output(json=True), None, tmp_path) == 1
    out, err = capsys.readouterr()
    assert "mnist: t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, train-images-idx3-ubyte, train-lab" in err
    assert "not as published: remove them and run `secagg data fetch mnist`" in err
    told = {line["dataset"]: line["ok"] for line in map(msgspec.json.decode, out.splitlines())}
    assert told == dict.fromkeys(DATASETS) | {"digits": True, "text": True, "mnist": False}


def test_pictures_that_are_missing_are_counted(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lfw-deepfunneled-20").mkdir()
    assert command.check(Output(), "lfw", tmp_path) == 1
    assert "holds 0 pictures of 0 people" in capsys.readouterr().err


def test_a_bundled_set_of_other_numbers_is_damaged(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = sklearn_datasets.load_digits()
    file = tmp_path / "datasets" / "data" / "digits.csv.gz"
    file.parent.mkdir(parents=True)
    np.savetxt(file, np.column_stack([bundled.data, bundled.target])[:100], delimiter=",")
    spec = spec_from_file_location("sklearn", tmp_path / "__init__.py")
    monkeypatch.setattr("fl.data.sources.find_spec", {"sklearn": spec}.get)
    assert command.check(Output(), "digits", tmp_path) == 1
    assert "digits is not the published set" in capsys.readouterr().err


def test_a_data_set_asked_for_by_name_has_to_be_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fashion-mnist is not in .*missing train-images"):
        command.check(Output(), "fashion-mnist", tmp_path)
    with pytest.raises(ConfigError, match="no data set 'mnst'"):
        command.check(Output(), "mnst", tmp_path)


# Picture


def test_a_deal_is_drawn_and_told(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "deal.png"
    command.picture(Output(), path, "digits", 5, Partition("shards", examples_per_client=40), seed=3)
    assert path.exists()
    told = "40 to 40 examples of 2 to 2 classes a client; 200 of 1343 examples are with somebody"
    assert capsys.readouterr().out == f"wrote {path}: {told}\n"


def test_a_picture_already_there_stays_unless_forced(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "deal.png"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists: choose another --out, or replace it with --force"):
        command.picture(Output(), path, "digits", 5, Partition())
    assert path.read_text() == "mine"
    command.picture(Output(json=True), path, "digits", 5, Partition(), force=True)
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (sum(told["examples"]), told["dealt"], len(told["classes"])) == (1343, 1343, 5)


@pytest.mark.parametrize(
    ("how", "title"),
    [
        (Partition(), "digits, 5 clients, dirichlet (alpha 0.5), seed 0"),
        (Partition("iid"), "digits, 5 clients, iid, seed 0"),
        (
            Partition("shards", examples_per_client=9),
            "digits, 5 clients, shards (classes each 2, examples each 9), seed 0",
        ),
    ],
)
def test_the_title_says_what_the_deal_depends_on(how: Partition, title: str) -> None:
    assert command._title("digits", 5, how, 0) == title


# As it is typed


def test_typed_it_lists_fetches_and_checks_in_the_folder_named(here: Here, tmp_path: Path) -> None:
    at = ["--data-dir", str(tmp_path), "--json"]
    listed = here("data", "list", *at)
    assert [record["dataset"] for record in listed.records] == list(DATASETS)
    fetched = here("data", "fetch", "digits", *at)
    assert fetched.records == [{"dataset": "digits", "found": "bundled"}]
    checked = here("data", "check", "digits", *at)
    assert checked.records == [{"dataset": "digits", "ok": True, "wrong": None}]
    for ran in (listed, fetched, checked):
        assert (ran.code, ran.err) == (0, "")


def test_typed_it_ends_with_what_is_wrong(here: Here, tmp_path: Path) -> None:
    at = ["--data-dir", str(tmp_path)]
    is_one_line(here("data", "fetch", "mnst", *at), 2, "no data set 'mnst': there are digits")
    is_one_line(here("data", "fetch", "lfw", *at), 1, "torchvision does not download it any more")
    (tmp_path / "lfw-deepfunneled-20").mkdir()
    is_one_line(here("data", "check", "lfw", *at), 1, "holds 0 pictures of 0 people")
    assert here("data", "check", *at).code == 1


def test_typed_it_draws_the_deal_of_a_training(here: Here, tmp_path: Path) -> None:
    """With the options of the deal; the same seed deals the same."""
    line = ["data", "picture", "--dataset", "digits", "--clients", "5", "--partition", "shards", "--json"]
    line += ["--classes-per-client", "3", "--examples-per-client", "30", "--seed", "4"]
    one, two = (here(*line, "--out", str(tmp_path / f"{name}.png")) for name in "ab")
    assert (one.code, one.err) == (0, "")
    assert (one.records[0]["examples"], one.records[0]["classes"]) == ([30] * 5, [3] * 5)
    assert one.records[0] | {"picture": ""} == two.records[0] | {"picture": ""}
    assert (tmp_path / "a.png").exists()
    assert here("data", "picture", "--alpha", "0.1", "--out", str(tmp_path / "c.svg")).code == 0
    is_one_line(here(*line, "--out", str(tmp_path / "a.png")), 2, "a.png exists", "--force")
    assert here(*line, "--out", str(tmp_path / "a.png"), "--force").code == 0
    words = "--partition even: there are dirichlet, iid, shards, quantity"
    is_one_line(here("data", "picture", "--partition", "even", "--out", str(tmp_path / "d.png")), 2, words)
