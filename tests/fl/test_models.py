"""Models: built from a seed, to a vector and back, to a file and back."""

from __future__ import annotations

import subprocess
import sys
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
from fl.models import FILE, MODELS, Description, ModelError, build, from_vector, load, save, to_vector

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 16, 12)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_images_of_every_shape_even_one(name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, shape, 10, seed=0)
    assert model(torch.zeros(1, *shape)).shape == (1, 10)
    assert not [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(("shape", "length"), [((1, 8, 8), 9_930), ((1, 28, 28), 20_490)])
def test_the_length_of_the_cnn_is_as_documented(shape: tuple[int, int, int], length: int) -> None:
    assert to_vector(build("cnn", shape, 10, seed=0)).shape == (length,)


def test_the_seed_alone_decides_and_the_global_generator_is_untouched() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = to_vector(build("cnn", (1, 8, 8), 10, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert np.array_equal(one, to_vector(build("cnn", (1, 8, 8), 10, seed=5)))
    assert not np.array_equal(one, to_vector(build("cnn", (1, 8, 8), 10, seed=6)))


def test_an_unknown_model_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match="cnn, mlp, logistic"):
        build("resnet", (1, 8, 8), 10, seed=0)


def test_images_too_small_for_the_cnn_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 2 x 2"):
        build("cnn", (1, 1, 8), 10, seed=0)


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


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(sorted(MODELS)))
def test_from_vector_inverts_to_vector(seed: int, name: str) -> None:
    model = build(name, (1, 8, 8), 10, seed=0)
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
    model = build(name, (1, 8, 8), 10, seed=3)
    save(model, Description(name, (1, 8, 8), 10), tmp_path / "run")
    state = torch.get_rng_state()
    loaded = fl.load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert np.array_equal(to_vector(loaded), to_vector(model))
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
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


def test_torchvision_is_importable_beside_a_torch_without_cuda() -> None:
    program = "from fl.vision import datasets; print(datasets.MNIST.__name__)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "MNIST", out.stderr
