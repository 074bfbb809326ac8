"""`secagg info`: it tells what is there and the command for what is missing."""

from __future__ import annotations

import json
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from fl.cli import EXTRA_OF_MODULE, info, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def facts(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert main(["info", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    facts: dict[str, dict[str, object]] = json.loads(line)
    return facts


def test_json_holds_everything(facts: dict[str, dict[str, object]]) -> None:
    assert list(facts) == ["versions", "machine", "ciphers", "gpu", "data", "extras"]
    assert facts["versions"]["secagg"] == version("secagg")
    assert facts["versions"]["cryptography"] == version("cryptography")
    assert facts["machine"]["cores"] in range(1, 10_000)
    assert facts["machine"]["memory_bytes"] in range(2**27, 2**50)
    assert facts["data"]["found"]
    assert facts["data"]["search_path"]


def test_cipher_speeds_are_of_this_world(facts: dict[str, dict[str, object]]) -> None:
    assert set(facts["ciphers"]) == {"AES-128-CTR", "ChaCha20"}
    for speed in facts["ciphers"].values():
        assert isinstance(speed, float)
        assert 0.001 < speed < 1000


def test_people_get_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("python", "cores", "GB/s on one core", "GPU", "digits", "looked in", "extras"):
        assert word in text
    assert main(["info", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_last_nonce_of_all_measures_as_any_other(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, dict[str, object]]
) -> None:
    """ChaCha20's nonce starts with a block counter: at its highest, one block is left."""
    monkeypatch.setattr(info.os, "urandom", lambda length: b"\xff" * length)
    assert set(info._ciphers()) == set(facts["ciphers"])


def test_a_missing_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_version", lambda name: None if name == "safetensors" else "1.0")
    extras = info._extras()
    assert extras["fl"] == "pip install 'secagg[fl]'"
    assert {extras[name] for name in extras if name != "fl"} == {None}


def test_without_torch_the_gpu_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["info"]) == 0
    assert "unknown: torch is missing" in capsys.readouterr().out


def test_the_lists_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {requirement.split(">")[0] for requirement in requirements}

    extras = project["optional-dependencies"]
    assert set(info.EXTRAS) == set(extras) - {"dev", "fuzz", "all"}
    assert set(info.CORE) <= names(project["dependencies"])
    for extra, listed in info.EXTRAS.items():
        assert set(listed) == names(extras[extra])
    modules = {
        "sklearn": "scikit-learn",
        "dp_accounting": "dp-accounting",
        "vl_convert": "vl-convert-python",
    }
    assert {(modules.get(module, module), extra) for module, extra in EXTRA_OF_MODULE.items()} == {
        (name, extra) for extra, listed in info.EXTRAS.items() for name in listed
    }
