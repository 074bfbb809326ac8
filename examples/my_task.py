"""A task of one's own, its model and its data: `secagg train --task my_task.py`, and `serve` and `join`.

569 tumours, benign or malignant, of 30 measurements each, which come with scikit-learn. What else a task may
have says docs/task.md; docs/tutorial.md takes this one to two machines.
"""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer


# begin task
def model():
    return torch.nn.Sequential(torch.nn.Linear(30, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


def data(client, clients, folder):
    """Where clients have tables of their own, each would read its one: np.loadtxt(folder / "table.csv")."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)  # of tables that are apart, by numbers agreed upon before
    whose = np.random.default_rng(0).permutation(len(y))
    test = whose % 4 == 0
    mine = ~test & (whose // 4 % clients == client) if client is not None else test  # None: the server
    return (x[mine], y[mine]), (x[test], y[test])
    # end task


if __name__ == "__main__":
    (x, y), (test_x, _) = data(0, 8, None)
    print(f"client 0 of 8 has {len(y)} tumours, {y.sum()} of them benign, and tests on {len(test_x)}")
