"""An exercise on the public doors: a scheme of one's own, which sums codes of Z_2^b in the clear."""

import numpy as np

from secagg import Aggregate, Counts, Recorded, RemoteProtocolError, run
from secagg.params import Parameters
from secagg.rounds import RoundServer
from secagg.states import StatefulClient
from secagg.wire import Task, decode


class Clear(Parameters, frozen=True, kw_only=True, tag="clear"):
    rounds, training_round, upload_round = ("join", "send"), "send", "send"
    finishing_rounds, opening_round, slow_rounds = (), None, ("send",)

    def client(self, u, vectors, **more):
        return ClearClient(self, u, vectors, **more)

    def server(self, cohort, task=b"", **_):
        return ClearServer(self, cohort, task, bytes(32))


class ClearClient(StatefulClient):
    def _step(self, state, message):
        self._take(task := decode(Task, message))
        x_u = self._encode_inputs(task.task)
        self.done = True
        return np.concatenate([x_u[name] for name in sorted(x_u)]).astype("<u8").tobytes()


class ClearServer(RoundServer):
    total = 0

    def _take(self, u, message):
        if len(message) != 8 * sum(spec.length for spec in self._parameters.vectors.values()):
            raise RemoteProtocolError("another number of codes")
        self.total = self.total + np.frombuffer(message, "<u8")

    def _open(self, closing, alive):
        specs, names = self._parameters.vectors, self._parameters.names
        parts = np.split(self.total, np.cumsum([specs[name].length for name in names])[:-1])
        codes = self._parameters.centred(dict(zip(names, parts, strict=True)))
        self.result = Aggregate.of_codes(specs, alive, codes)
        return {}


def test_a_scheme_is_its_parameters_a_client_and_a_server() -> None:
    scheme, views = Clear(clients=3, vectors={"": Counts(length=2, maximum=9)}), []
    inputs, seen = {0: [1, 2], 1: [3, 4], 2: [5, 6]}, lambda s: views.append(Recorded(s)) or views[0]
    assert run(scheme, inputs, drop={"send": {1}}, instrument=seen).sum[""].tolist() == [6, 8]
    assert [(round, u) for round, u, _ in views[0].view.received[3:]] == [("send", 0), ("send", 2)]
