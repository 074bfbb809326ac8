"""Weights: to a vector and back, to a file and back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fl
from fl.models.architectures import FOR_TEXT, MODELS, Description, ModelError, build
from fl.models.weights import FILE, from_vector, load, save, to_vector


def example_of(name: str) -> tuple[tuple[int, ...], int]:
    """(shape, classes): the least that every model takes."""
    return ((5,), 7) if name in FOR_TEXT else ((3, 10, 11), 4)


class Buffered(nn.Module):
    """A parameter, a float buffer and an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([3.0]))
        self.register_buffer("steps", torch.tensor([7]))
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))


def test_a_vector_holds_parameters_then_float_buffers() -> None:
    model = Buffered()
    assert to_vector(model).tolist() == [1, 2, 3]
    from_vector(model, np.array([4, 5, 6], dtype=np.float32))
    assert (model.weight.tolist(), model.scale.tolist(), model.steps.tolist()) == ([[4, 5]], [6], [7])


def test_running_statistics_travel_in_the_vector() -> None:
    model = build("tolpegin-fmnist", (1, 4, 4), 3, seed=0)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    before = to_vector(model)
    assert before.size == parameters + 2 * (16 + 32)
    assert before[parameters:].tolist() == [0] * 16 + [1] * 16 + [0] * 32 + [1] * 32
    model(torch.rand(4, 1, 4, 4))
    after = to_vector(model)
    assert np.array_equal(after[:parameters], before[:parameters])
    assert (after[parameters:] != before[parameters:]).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_shapes_alone_takes_a_vector_once_it_has_memory(name: str) -> None:
    shape, classes = example_of(name)
    vector = to_vector(build(name, shape, classes, seed=1))
    with torch.device("meta"):
        model = MODELS[name](shape, classes)
    model.to_empty(device="cpu")
    from_vector(model, vector)
    assert np.array_equal(to_vector(model), vector)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(sorted(MODELS.keys() - {"resnet18"})))
def test_from_vector_inverts_to_vector(seed: int, name: str) -> None:
    model = build(name, *example_of(name), seed=0)
    vector = np.random.default_rng(seed).normal(size=to_vector(model).size).astype(np.float32)
    from_vector(model, vector)
    assert np.array_equal(to_vector(model), vector)


def test_a_vector_is_a_copy() -> None:
    model = build("logistic", (1, 8, 8), 10, seed=0)
    vector = to_vector(model)
    vector += 1
    assert not np.array_equal(to_vector(model), vector)


@pytest.mark.parametrize("change", ["longer", "shorter", "column", "nan", "inf", "overflow"])
def test_a_vector_that_does_not_fit_changes_nothing(change: str) -> None:
    model = build("logistic", (1, 8, 8), 10, seed=0)
    before = to_vector(model)
    vector = np.zeros(before.size)
    spoiled = {
        "longer": np.append(vector, 0.0),
        "shorter": vector[1:],
        "column": vector[:, None],
        "nan": np.append(vector[1:], np.nan),
        "inf": np.append(vector[1:], np.inf),
        "overflow": np.append(vector[1:], 1e300),
    }
    finite = change in ("longer", "shorter", "column")
    says = "this model is a vector of shape" if finite else "must be finite: this one holds NaN or infinity"
    with pytest.raises(ModelError, match=says):
        from_vector(model, spoiled[change])
    assert np.array_equal(to_vector(model), before)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded_by_the_package(tmp_path: Path, name: str) -> None:
    shape, classes = example_of(name)
    model = build(name, shape, classes, seed=3)
    save(model, Description(name, shape, classes), tmp_path / "run")
    state = torch.get_rng_state()
    loaded = fl.load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert np.array_equal(to_vector(loaded), to_vector(model))
    x = torch.zeros(4, *shape, dtype=torch.int64 if name in FOR_TEXT else torch.float32)
    assert torch.equal(loaded(x), model.eval()(x))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]


def _write(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> None:
    (folder / FILE).write_bytes(safetensors.torch.save(tensors, metadata))


def _description(**fields: object) -> dict[str, str]:
    whole = {"model": "logistic", "shape": [1, 8, 8], "classes": 10} | fields
    return {"description": msgspec.json.encode(whole).decode()}


LOGISTIC = {"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        (LOGISTIC, None, "does not say which model"),
        (LOGISTIC, {"description": "{"}, "not a readable model"),
        (LOGISTIC, _description(model="resnet"), "no model 'resnet'"),
        (LOGISTIC, _description(shape=[1, 8]), "not a readable model"),
        (LOGISTIC, _description(shape=[1, 8, 0]), "not a readable model"),
        (LOGISTIC, _description(shape=[64]), "logistic is not for text"),
        (LOGISTIC, _description(model="fed-cdp"), "images of at least 10 x 10"),
        (LOGISTIC, _description(classes=10**9), "not a readable model"),
        (LOGISTIC, _description(more=1), "not a readable model"),
        (LOGISTIC, _description(classes=11), "size mismatch"),
        (LOGISTIC, _description(shape=[65_536] * 3), "size mismatch"),
        ({"1.weight": torch.zeros(10, 64)}, _description(), "Missing key"),
        (LOGISTIC | {"2.bias": torch.zeros(1)}, _description(), "Unexpected key"),
        (LOGISTIC | {"1.bias": torch.zeros(10).double()}, _description(), "not finite float32"),
        (LOGISTIC | {"1.bias": torch.full((10,), torch.nan)}, _description(), "not finite float32"),
    ],
)
def test_a_file_that_does_not_fit_its_description_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None, says: str
) -> None:
    _write(tmp_path, tensors, metadata)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert says in str(caught.value)


def test_the_refused_files_differ_from_a_good_one(tmp_path: Path) -> None:
    _write(tmp_path, LOGISTIC, _description())
    assert not to_vector(load(tmp_path)).any()


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there: name the folder of a run that finished"):
        load(tmp_path)
    torch.save(LOGISTIC, tmp_path / FILE)
    with pytest.raises(ModelError, match="not a readable model"):
        load(tmp_path)
