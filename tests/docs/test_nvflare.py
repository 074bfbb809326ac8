"""The job of examples/nvflare, on NVFlare's simulator: by this Python where it has NVFlare, else by the one
that SECAGG_NVFLARE names, as NVFlare has pins of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOB = ROOT / "examples" / "nvflare"
PYTHON = sys.executable if importlib.util.find_spec("nvflare") else os.environ.get("SECAGG_NVFLARE")
PLAIN = """
import json, sys
import numpy as np
from job import Regression
from messages import MODEL
received, errors = MODEL, []
for line in map(json.loads, sys.stdin):
    parts = [Regression().train(site, line["round"], received) for site in line["survivors"]]
    weights = [examples for _, examples in parts]
    mean = {name: np.average([part[name] for part, _ in parts], axis=0, weights=weights) for name in MODEL}
    received = {name: np.array(values) for name, values in line["model"].items()}
    errors.append(max(np.abs(mean[name] - received[name]).max() for name in MODEL))
print(json.dumps(errors))
"""


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="needs nvflare, here or in the Python that SECAGG_NVFLARE names")
def test_a_job_of_five_sites_of_which_one_dies_has_the_mean_of_the_others(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(JOB)])}
    line = [str(PYTHON), str(JOB / "job.py"), str(tmp_path / "workspace")]
    ran = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:]
    (told,) = tmp_path.rglob("secagg.jsonl")
    rounds = [json.loads(line) for line in told.read_text().splitlines()]
    all_sites = [f"site-{i}" for i in range(1, 6)]
    left = [site for site in all_sites if site != "site-4"]
    assert [each["survivors"] for each in rounds] == [all_sites, left, left]
    plain = [str(PYTHON), "-c", PLAIN]
    compared = subprocess.run(plain, env=env, input=told.read_text(), capture_output=True, text=True)
    assert compared.returncode == 0, compared.stderr
    errors = json.loads(compared.stdout.splitlines()[-1])
    assert all(0 < error <= each["error_bound"] for error, each in zip(errors, rounds, strict=True))
