"""The server's side of secure averaging in an NVFlare job: in each round a session, over NVFlare's tasks."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from messages import MODEL, NAME, packed, tree_of
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from secagg import Aggregate, Masking, RemoteProtocolError, ServerSession, TooFewClients


class SecureAveraging(Controller):
    """Federated averaging of MODEL, of which the server sees the sums and no client's part.

    rounds: of training. deadline: seconds that a client may take for one message, its training included; who
    takes longer is lost to the session, is not asked again, and the others' sum stays exact. Each round is a
    line of secagg.jsonl in the job's folder.

    Security: as semi-honest masking, against a server that keeps to the protocol. Against another one give
    `for_cohort` and the clients' `accept` a roster of signing keys (`secagg keys`), and each client its
    identity.
    """

    def __init__(self, rounds: int = 3, deadline: int = 60) -> None:
        super().__init__()
        self.rounds, self.deadline = rounds, deadline

    def start_controller(self, fl_ctx: FLContext) -> None:
        pass

    def stop_controller(self, fl_ctx: FLContext) -> None:
        pass

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        self.log_info(fl_ctx, f"{client.name} answers too late: it is not in the sum")

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        engine = fl_ctx.get_engine()
        self.names = sorted(client.name for client in engine.get_clients())
        told = Path(engine.get_workspace().get_run_dir(fl_ctx.get_job_id())) / "secagg.jsonl"
        model, tree = MODEL, tree_of(MODEL)
        for number in range(1, self.rounds + 1):
            try:
                total = self._session(number, model, abort_signal, fl_ctx)
            except (TooFewClients, RemoteProtocolError) as error:  # nothing was revealed
                self.system_panic(f"round {number}: {error}", fl_ctx)
                return
            if total is None:
                return
            model = tree.unflatten(total)
            survivors = [self.names[u] for u in sorted(total.survivors)]
            said = {name: values.tolist() for name, values in model.items()}
            bound = max(total.error_bound.values())
            line = {"round": number, "survivors": survivors, "error_bound": bound, "model": said}
            with told.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.log_info(
                fl_ctx, f"round {number}: the mean of {len(survivors)} of {len(self.names)} clients"
            )
            self.names = survivors

    def _session(
        self, number: int, model: dict[str, Any], abort_signal: Signal, fl_ctx: FLContext
    ) -> Aggregate | None:
        """The sum of one round; None if the job was aborted. Raises: TooFewClients."""
        scheme = Masking.for_cohort(len(self.names), tree_of(MODEL).vectors, adversary="semi-honest")
        server = scheme.server(range(len(self.names)), packed(number, model))
        asked = {u: Shareable({"offer": scheme.offer(), "u": u}) for u in range(len(self.names))}
        while server.result is None:
            if not self._exchange(server, asked, abort_signal, fl_ctx):
                return None
            asked = {u: Shareable({"message": message}) for u, message in server.advance().items()}
        return server.result

    def _exchange(
        self, server: ServerSession, asked: dict[int, Shareable], abort_signal: Signal, fl_ctx: FLContext
    ) -> bool:
        """Ask each client for its answer, until all have given it or the deadline; False if aborted."""
        answers = SimpleQueue[tuple[int, Shareable]]()  # NVFlare calls back from threads of its own
        # Each client has messages of its own, and so a task of its own, where a model would be broadcast.
        tasks = [
            Task(NAME, data, timeout=self.deadline, result_received_cb=partial(_heard, u, answers))
            for u, data in asked.items()
        ]
        for u, task in zip(asked, tasks, strict=True):
            self.send(task, fl_ctx, targets=[self.names[u]])
        end = time.monotonic() + self.deadline
        while server.waiting_for and time.monotonic() < end:
            if abort_signal.triggered:
                return False
            try:
                u, result = answers.get(timeout=0.1)
            except Empty:
                continue
            message = result.get("message")
            if result.get_return_code() != ReturnCode.OK or not isinstance(message, bytes):
                server.lose(u, "it could not answer")
                continue
            try:
                server.receive(u, message)  # u is whom NVFlare has the task's answer from
            except RemoteProtocolError as error:  # its sender has lost its place, and the session goes on
                self.log_warning(fl_ctx, f"{self.names[u]}: {error}")
        for task in tasks:
            self.cancel_task(task)
        return True


def _heard(u: int, answers: SimpleQueue[tuple[int, Shareable]], client_task: ClientTask, **_: Any) -> None:
    answers.put((u, client_task.result))
