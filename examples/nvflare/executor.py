"""A client's side: NVFlare's tasks carry the messages of a live session, and training is called within it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from messages import MODEL, tree_of, unpacked
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from secagg import ClientSession, Policy, RemoteProtocolError, SecAggError, accept

POLICY = Policy(adversary="semi-honest", vectors=tree_of(MODEL).vectors)
"""What this client insists on, whatever the server offers."""


class SecureExecutor(Executor):
    """Takes part in the sessions of `SecureAveraging`. A subclass says in `train` what it does.

    Security: model and examples leave the client masked, and in no other way; a session that fails is dead,
    and nothing of it is answered again. No NVFlare filter may change a message.
    """

    def __init__(self) -> None:
        super().__init__()
        self._session: ClientSession | None = None

    @abstractmethod
    def train(self, site: str, number: int, model: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """(the trained model, the number of examples) of this site in round `number`."""

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        # Of a session that fails nothing is left to be answered from.
        session, self._session = self._session, None
        try:
            if "offer" in shareable:
                session = self._joined(shareable, fl_ctx.get_identity_name())
                answer = session.start()
            elif session is not None:
                answer = session.receive(shareable["message"])
            else:
                raise RemoteProtocolError("a message of no session")
        except SecAggError as error:  # an offer against the policy, say
            self.log_error(fl_ctx, str(error))
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        self._session = session
        return Shareable({"message": answer})

    def _joined(self, asked: Shareable, site: str) -> ClientSession:
        """Raises: SecAggError."""

        def vectors(task: bytes) -> Any:
            number, model = unpacked(task)
            return tree_of(MODEL).flatten(*self.train(site, number, model))

        return accept(POLICY, asked["offer"]).client(asked["u"], vectors)
