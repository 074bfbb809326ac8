"""A node's side."""

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits.task import scores, share, train

# begin client
from secagg_flower import secure_mod

app = ClientApp(mods=[secure_mod()])
# end client


def received(message, context):
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    config = context.node_config
    return model, *share(config["partition-id"], config["num-partitions"])


@app.train()
def training(message, context):
    model, x, y = received(message, context)
    loss = train(model, x, y, message.content["config"]["learning-rate"])
    arrays = ArrayRecord({name: Array(np.asarray(value)) for name, value in model.items()})
    metrics = MetricRecord({"num-examples": len(x), "train-loss": loss})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluation(message, context):
    model, x, y = received(message, context)
    loss, accuracy, _ = scores(model, x, y)
    metrics = MetricRecord({"num-examples": len(x), "loss": float(loss), "accuracy": float(accuracy)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
