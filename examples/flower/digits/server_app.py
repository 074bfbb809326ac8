"""The server's side. The model that comes out goes to the file that the run's configuration names, if any."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from digits.task import initial

# begin server
from secagg_flower import SecureGrid

# end server

app = ServerApp()


@app.main()
def main(grid, context):
    nodes = context.run_config["nodes"]
    strategy = FedAvg(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)
    # begin server
    grid = SecureGrid(grid, bound=4.0, max_weight=1000, strategy=strategy)
    # end server
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({name: Array(value) for name, value in initial().items()}),
        num_rounds=context.run_config["num-server-rounds"],
        # In the message, not in the run's configuration, which clients with a roster cannot compare.
        train_config=ConfigRecord({"learning-rate": context.run_config["learning-rate"]}),
    )
    if path := context.run_config["out"]:
        metrics = {f"train-{k}": v["train-loss"] for k, v in result.train_metrics_clientapp.items()}
        metrics |= {f"accuracy-{k}": v["accuracy"] for k, v in result.evaluate_metrics_clientapp.items()}
        np.savez(path, **{name: array.numpy() for name, array in result.arrays.items()}, **metrics)
