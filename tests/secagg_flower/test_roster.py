"""Clients that hold a roster: they are protected from a server that does not follow the protocol, and each is
who it signs that it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from secagg import LocalProtocolError, Policy
from secagg_flower import SecureGrid, secure_mod
from secagg_flower.party import Files, Party
from secagg_flower.records import ABOUT, PAYLOAD
from tests.secagg_flower.loopback import NODES, Loopback, app_of, initial
from tests.secagg_flower.test_grid import mean_of
from transport import TransportError


def config(node: int, **more: Any) -> dict[str, Any]:
    return {"partition-id": NODES.index(node), **more}


def mod(keys: Path, policy: Policy | None = None) -> Any:
    return secure_mod(policy, key=keys / "{partition-id}.key", roster=keys / "roster")


def secured(grid: Loopback, keys: Path, **options: Any) -> SecureGrid:
    return SecureGrid(grid, bound=1.0, roster=keys / "roster", max_weight=100, **options)


def learned(grid: SecureGrid, rounds: int = 1) -> Any:
    return FedAvg().start(grid=grid, initial_arrays=initial(), num_rounds=rounds)


def lost(grid: SecureGrid) -> Mapping[int, str]:
    assert grid.last is not None
    return grid.last.lost


def test_with_a_roster_sessions_are_active_and_nodes_say_once_who_they_are(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Loopback(app_of(mod(keys)), node_config=config)
    grid = secured(inner, keys)
    with caplog.at_level(logging.INFO, "flwr.secagg"):
        result = learned(grid, rounds=2)
    assert grid.last is not None
    assert grid.last.survivors == set(NODES)
    assert "active server: whatever it does" in caplog.text
    rounds = [m.content[ABOUT]["round"] for m in inner.requests if m.metadata.message_type == "train"]
    assert rounds.count("who") == 5
    assert rounds.count("consistency-check") == 10
    assert len(result.train_metrics_clientapp) == 2


def test_the_mean_is_that_of_who_is_left(keys: Path) -> None:
    inner = Loopback(
        app_of(mod(keys)), node_config=config, falls=lambda node, at: (node, at) == (7, "masked-input")
    )
    grid = secured(inner, keys)
    result = learned(grid)
    assert lost(grid) == {7: "Node Unavailable"}
    left = [node for node in NODES if node != 7]
    assert np.abs(result.arrays["b"].numpy() - mean_of(left, "b")).max() < 1e-5


def test_a_client_with_a_roster_refuses_a_server_without(keys: Path) -> None:
    grid = SecureGrid(Loopback(app_of(mod(keys)), node_config=config), bound=1.0)
    learned(grid)
    assert all("trusts it to follow the protocol; this client" in why for why in lost(grid).values())
    assert len(lost(grid)) == 5


def test_a_client_without_a_roster_has_no_part_in_a_session_with_one(keys: Path) -> None:
    grid = secured(Loopback(app_of(secure_mod()), node_config=config), keys)
    result = learned(grid)
    assert all("asks for a client of a roster, and this one has none" in why for why in lost(grid).values())
    assert len(lost(grid)) == 5
    assert len(result.train_metrics_clientapp) == 0


def test_one_client_is_at_one_node(keys: Path) -> None:
    def twice(node: int) -> dict[str, Any]:
        return config(node, **({"secagg-key": str(keys / "0.key")} if node == 7 else {}))

    grid = secured(Loopback(app_of(mod(keys)), node_config=twice), keys)
    learned(grid)
    ((node, why),) = lost(grid).items()
    assert node in (7, NODES[0])
    assert why == "it is client 3, who is at another node, too"


class Claiming(Loopback):
    """Node 7 says that it is another client."""

    def answer(self, request: Message) -> Message | None:
        reply = super().answer(request)
        if reply is not None and reply.metadata.src_node_id == 7 and reply.has_content():
            said = reply.content.config_records.get(ABOUT, {})
            if said.get("round") == "who":
                said["client"] = 24
        return reply


def test_who_a_node_is_stands_under_its_signature(keys: Path) -> None:
    grid = secured(Claiming(app_of(mod(keys)), node_config=config), keys)
    learned(grid)
    assert lost(grid) == {7: "it has not signed that it is client 24 of the roster"}


def test_who_does_not_say_who_it_is_is_left_out(keys: Path) -> None:
    silent = Loopback(
        app_of(mod(keys)), node_config=config, falls=lambda node, at: (node, at) == (7, "who"), silent=True
    )
    grid = secured(silent, keys, patience=0.01)
    learned(grid)
    assert lost(grid) == {7: "it does not say which client of the roster it is"}


def test_with_too_few_that_say_it_there_is_no_sum(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    fallen = Loopback(app_of(mod(keys)), node_config=config, falls=lambda node, at: at == "who" and node != 7)
    grid = secured(fallen, keys)
    learned(grid)
    assert lost(grid)[7] == "too few nodes say which clients they are"
    assert "too few nodes say which clients they are" in caplog.text


def test_a_client_is_taken_for_none_but_itself(keys: Path) -> None:
    class Mistaking(Loopback):
        def answer(self, request: Message) -> Message | None:
            if "offer" in request.content.get(ABOUT, {}) and request.content[ABOUT]["offer"]:
                request.content[ABOUT]["client"] = 17
            return super().answer(request)

    grid = secured(Mistaking(app_of(mod(keys)), node_config=config), keys)
    learned(grid)
    assert "the server takes client 3 for client 17" in lost(grid).values()


# What a node has of its own


def test_a_node_names_its_own_files_before_the_app_does(keys: Path) -> None:
    files = Files(key="a", roster="b/{partition-id}", state="c")
    at = files.at({"partition-id": 4, "secagg-key": "own", "secagg-roster-key": "pub"})
    assert at == Files("own", "b/4", "pub", "c")
    with pytest.raises(LocalProtocolError, match=r"names 'partition-id', which the configuration of"):
        files.at({})


def test_a_key_comes_with_its_roster(keys: Path) -> None:
    with pytest.raises(LocalProtocolError, match="a key proves who a client is to those who hold the roster"):
        Party.of(None, Files(key=keys / "0.key"))


def test_what_a_policy_takes_to_be_alike_is_kept_by_a_key(keys: Path) -> None:
    for insisting in ({"alike": "any"}, {"one_cut": "june"}):
        policy = Policy(adversary="semi-honest", **insisting)  # type: ignore[arg-type]
        ((field, word),) = insisting.items()
        with pytest.raises(LocalProtocolError, match=f"{field}='{word}' is kept by a key, with what it has"):
            Party.of(policy, Files())
    own = Files(key=keys / "0.key", roster=keys / "roster")
    model = np.arange(3.0)
    assert Party.of(Policy(), own).alike(lambda: model) is None
    staying = Party.of(Policy(one_cut="june"), own).alike(lambda: model)
    assert staying is not None
    assert (staying.one_cut, staying.likeness(b"")) == ("june", None)
    always = Party.of(Policy(alike="always"), own).alike(lambda: model)
    everything = Party.of(Policy(alike="any"), own).alike(lambda: model)
    assert always is not None
    assert everything is not None
    near, whatever = always.likeness(b""), everything.likeness(b"")
    assert near is not None
    assert near.model is model
    assert whatever is not None
    assert whatever.whatever


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="a client keeps there what it has answered, or nothing"):
        Party.of(None, Files(state=tmp_path / "file" / "more"))


def test_a_task_that_was_contributed_to_is_refused_a_second_time(keys: Path) -> None:
    grid = secured(Loopback(app_of(mod(keys)), node_config=config), keys)
    content = RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": 1})})
    for _ in range(2):
        replies = list(grid.send_and_receive([Message(content, node, "train") for node in NODES]))
    assert all(reply.has_error() for reply in replies)
    assert all("a task this client has contributed to" in why for why in lost(grid).values())
    assert PAYLOAD not in content
