"""`--scheme split` in every command: relays beside the clients, lost or not, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import Command, Ran, at_once, is_one_line, secagg
from test_serve_join import LENGTH, client_options, server_options, vector

import fl
from fl.cli.book import Book
from fl.cli.drops import in_plain, parse
from fl.cli.output import Output
from fl.cli.relay import serve
from fl.cli.report import round_fields, round_line
from fl.config.section import ConfigError
from secagg import Counts, RemoteProtocolError, Split
from secagg.wire import relay_party
from transport import RoundReport

ROUNDS = ["join", "relay-keys", "shares", "deliver", "columns"]
Here = Callable[..., Ran]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# The demonstration


def test_a_demo_with_relays(tmp_path: Path, without_torch: dict[str, str]) -> None:
    """A client is lost in mid-upload; what each party sent is what the formulas say."""
    flags = ["--scheme", "split", "--relays", "3", "--clients", "6", "--length", "90000"]
    env = without_torch | {"TMPDIR": str(tmp_path)}
    ran = secagg("demo", *flags, "--drop", "3@shares:50%", "--json", env=env)
    assert (ran.code, ran.err) == (0, "")
    *rounds, total, words, traffic, relays = ran.records
    assert [report["round"] for report in rounds] == ROUNDS
    assert [report["alive"] for report in rounds] == [list(range(6)), [], [0, 1, 2, 4, 5], [], []]
    assert [report.get("relays") for report in rounds] == [[0, 1, 2]] * 2 + [None] + [[0, 1, 2]] * 2
    assert rounds[2]["lost"] == {"3": "vanished"}
    assert (total["survivors"], total["exact"]) == ([0, 1, 2, 4, 5], True)
    assert 0 < total["largest_error"] <= total["error_bound"]
    assert len(words["sealed"]) == len(words["words"]) == 6
    assert not set(words["sealed"]) & set(words["words"])
    assert 90000 * 19 / 8 < traffic["bytes_up"] < 1.01 * 90000 * 19 / 8
    assert relays["relay_bytes_up"] == sum(report.get("relay_bytes_up", 0) for report in rounds)
    assert relays["relay_bytes_down"] > 5 * 90000 * 19 / 8  # what they were passed of five clients
    assert list(tmp_path.iterdir()) == []


def test_a_demo_tells_what_relays_do(here: Here) -> None:
    ran = here("demo", "--scheme", "split", "--clients", "4", "--length", "20")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    at = [next(i for i, line in enumerate(lines) if line.startswith(f"{round}: ")) for round in ROUNDS]
    assert at == sorted(at)
    assert "starting 6 processes, one a client and one a relay" in lines
    assert lines[at[0] + 1].startswith("  join                 4 alive, 2 relays ")
    assert lines[at[4] + 1].startswith("  columns             2 relays ")
    assert "the server's sum equals the sum of the words of 4 survivors exactly" in ran.out
    assert "words of its sealed share, as sent" in ran.out
    assert {"traffic of client 0", "traffic of relay 0", "traffic of relay 1"} <= set(lines)
    assert "active server, and 1 of 2 relays with it" in ran.out


def test_a_demo_without_one_of_its_relays_has_no_sum(here: Here) -> None:
    ran = here("demo", "--scheme", "split", "--clients", "3", "--length", "20", "--drop", "relay1@columns")
    is_one_line(ran, 3, "relay 1 is gone in round columns", "no sum, nothing revealed")
    assert "lost: relay 1 vanished" in ran.out
    assert "survivors" not in ran.out


# Training


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    folder = tmp_path_factory.mktemp("train") / "run"
    flags = ["--scheme", "split", "--clients", "5", "--model", "logistic", "--rounds", "3"]
    return folder, secagg("train", *flags, "--drop", "1@shares:2", "--out", str(folder))


def test_a_model_is_trained_by_way_of_relays(run: tuple[Path, Ran]) -> None:
    folder, ran = run
    assert (ran.code, ran.err) == (0, "")
    assert "starting 8 processes: a server, 5 clients and 2 relays" in ran.out
    assert "the 2 relays together sent " in ran.out
    records = metrics(folder)
    assert [record["alive"] for record in records] == [5, 4, 4]
    for record in records:
        assert record["relay_bytes_up"] > 0
        assert record["relay_bytes_down"] > record["bytes_up"] / 2
        assert 0 < record["relay_seconds"] < record["seconds"]
    assert sum(parameter.numel() for parameter in fl.load(folder).parameters()) == 650


def test_after_the_first_round_no_weight_is_farther_from_plain_than_the_bound(run: tuple[Path, Ran]) -> None:
    folder, ran = run
    ours, plain = (np.load(at / "after-round-1.npy") for at in (folder, folder / "plain"))
    difference, bound = np.abs(ours - plain).max(), metrics(folder)[0]["error_bound"]
    assert 0 < difference <= bound
    assert f"by more than {difference:.2e} (bound {bound:.2e})" in ran.out
    assert metrics(folder / "plain")[0]["relay_seconds"] is None


def test_a_relay_has_its_keys_and_records_and_no_examples(run: tuple[Path, Ran]) -> None:
    """Of the three training rounds it has added each once; of the run beside, which has no relays, none."""
    relay = run[0] / "parties" / "relay1"
    names = {path.name for path in relay.iterdir()}
    given = {"relay.key", "roster", "roster.pub", "server.pub"}
    remembered = {f"relay.key.{what}" for what in ("journal", "seen", "seen.lock")}
    assert given <= names <= given | remembered | {"relay.key.signed", "relay.key.spent"}


@pytest.mark.slow
@pytest.mark.parametrize(("more", "code"), [([], 3), (["--minimum", "2"], 0)], ids=["ends", "abandoned"])
def test_without_a_relay_a_round_has_no_sum(here: Here, tmp_path: Path, more: list[str], code: int) -> None:
    flags = ["--scheme", "split", "--clients", "3", "--model", "logistic", "--rounds", "2", "--no-baseline"]
    ran = here("train", *flags, "--drop", "relay0@deliver:2", *more, "--out", str(tmp_path / "run"))
    assert ran.code == code
    records = metrics(tmp_path / "run")
    assert records[0]["abandoned"] == ""
    if more:
        assert records[1]["abandoned"] == "1 relay left in deliver, 2 needed"
    else:
        is_one_line(ran, 3, "relay 0 is gone in round deliver, and a sum takes all 2")
        assert len(records) == 1
    assert "from 1 sum in all" in ran.out  # nothing of the second round was opened


def test_where_no_round_has_its_relays_the_run_ends_for_want_of_them(here: Here, tmp_path: Path) -> None:
    flags = ["--scheme", "split", "--clients", "3", "--model", "logistic", "--rounds", "1", "--minimum", "2"]
    ran = here("train", *flags, "--no-baseline", "--drop", "relay1@join", "--out", str(tmp_path / "run"))
    is_one_line(ran, 3, "relay 1 is gone in round join, and a sum takes all 2: no sum, nothing revealed")


def test_noise_of_the_clients_holds_against_all_relays_but_one(here: Here, tmp_path: Path) -> None:
    flags = ["--scheme", "split", "--clients", "4", "--model", "logistic", "--rounds", "1"]
    noise = ["--privacy", "distributed", "--clip", "0.5", "--noise-multiplier", "1"]
    one = ["--execution", "sequential", "--no-baseline", "--out", str(tmp_path / "run")]
    ran = here("train", *flags, *noise, *one)
    assert (ran.code, ran.err) == (0, "")
    whom = "the server and the corrupt clients, and all relays but one"
    assert f"holds against {whom}, if 2 clients of each sum are honest" in ran.out
    (record,) = metrics(tmp_path / "run")
    assert (record["against"], record["honest"]) == (whom, 2)
    assert record["epsilon"] > 0


def test_a_run_that_goes_on_forgets_what_its_relays_had_begun_to_add(tmp_path: Path) -> None:
    """As what its clients had begun to contribute to: else the round under way could not be trained anew."""
    from fl.cli.parties import lay_out_parties
    from fl.cohort.layout import lay_out
    from fl.config.run import RunConfig
    from fl.config.secret import RunSecrets

    config = RunConfig.of(clients=3, scheme="split")
    layout, secrets = lay_out(config), RunSecrets.fresh()
    made = lay_out_parties(config, layout, tmp_path, False, secrets)
    for own in (*made.clients, *made.relays):
        (own / f"{own.name[:-1]}.key.journal").touch()
        (own / f"{own.name[:-1]}.key.signed").touch()
    assert lay_out_parties(config, layout, tmp_path, True, secrets) == made
    assert not list(tmp_path.rglob("*.journal"))
    assert len(list(tmp_path.rglob("*.signed"))) == 5


# Over a network


@pytest.fixture
def keys(tmp_path: Path, here: Here) -> Path:
    assert here("keys", "cohort", "3", "--relays", "2", "--out", str(tmp_path / "keys")).code == 0
    return tmp_path / "keys"


def relay_options(keys: Path, j: int, endpoint: str) -> list[str]:
    options = client_options(keys, j, endpoint)
    return [word.replace("client", "relay") for word in options]


def test_a_sum_over_the_network(tmp_path: Path, keys: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One relay by a policy in a file, the other by its options; client 2 does not allow split."""
    mean = tmp_path / "mean.npy"
    options = ["--length", str(LENGTH), "--scheme", "split", "--dropout", "1", "--corrupt", "0"]
    server = Command("serve", *server_options(keys), *options, "--out", str(mean))
    record = json.loads(server.line_with("listening"))
    assert (record["clients"], record["relays"]) == (3, 2)
    endpoint, rules = record["listening"], tmp_path / "relay.toml"
    rules.write_text('schemes = ["split"]\ndropout = 1\ncorrupt = 0\n')
    clients = tmp_path / "client.toml"
    clients.write_text('schemes = ["split", "masking"]\ndropout = 1\ncorrupt = 0\n')
    lines = [["relay", *relay_options(keys, j, endpoint), "--policy", str(rules)] for j in range(2)]
    for u in range(3):
        np.save(tmp_path / f"{u}.npy", vector(u))
        allow = ["--policy", str(clients)] if u < 2 else []
        lines.append(
            ["join", *client_options(keys, u, endpoint), "--input", str(tmp_path / f"{u}.npy"), *allow]
        )
    patient = [[*line, "--patience", "900"] for line in lines]
    with at_once(patient) as parties:
        assert [party.result() for party in parties] == [0, 0, 0, 0, 4]
    ran = server.end()
    assert (ran.code, ran.err) == (0, "")
    assert ran.records[-1]["survivors"] == [0, 1]
    np.testing.assert_allclose(np.load(mean), (vector(0) + vector(1)) / 2, atol=1e-4)
    told, err = capfd.readouterr()
    assert told.count("its column is in the sum") == 2
    assert "client 0: the vector is sent; stay to hear how it ends" in told
    assert "who has all of its relays on its side reads every vector of this client" in told
    assert "offers the scheme split; this client accepts only masking. If you mean it: --allow split" in err


class Refusing:
    """A relay whose server breaks the protocol in the first and the third session, and closes."""

    id = 1

    def __init__(self) -> None:
        self._said = iter([RemoteProtocolError("it lies"), "served", RemoteProtocolError("again"), None])

    def serve(self, **how: Any) -> Any:
        said = next(self._said)
        if isinstance(said, Exception):
            raise said
        return SimpleNamespace(summed=True, reason="") if said else None


def test_a_session_that_a_relay_takes_no_part_in_does_not_end_the_next(
    capfd: pytest.CaptureFixture[str],
) -> None:
    serve(Output(), Refusing())
    out, err = capfd.readouterr()
    assert out == "relay 1: its column is in the sum\n"
    assert err.splitlines() == [
        "warning: relay 1: took no part, or no more, in a session: it lies",
        "warning: relay 1: took no part, or no more, in a session: again",
    ]


def test_a_relay_that_cannot_be(here: Here, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(keys)
    line = ["relay", "--connect", "tcp://127.0.0.1:9"]
    is_one_line(here(*line, "--key", "client1.key"), 2, "client1.key holds a client key, a relay key is")
    is_one_line(here(*line, "--key", "relay1.key", "--patience", "0"), 2, "--patience 0.0: a number of")
    Path("rules.toml").write_text('schemes = ["masking"]\n', encoding="utf-8")
    ran = here(*line, "--key", "relay1.key", "--policy", "rules.toml")
    is_one_line(ran, 2, 'rules.toml: a relay takes part in split alone: write schemes = ["split"]')
    ran = here(*line, "--key", "relay1.key", "--policy", "rules.toml", "--semi-honest")
    is_one_line(ran, 2, "--policy says it all")
    assert here("keys", "cohort", "3", "--relays", "2", "--out", "others", "--quiet").code == 0
    ran = here(*line, "--key", "others/relay1.key")
    is_one_line(ran, 2, "roster does not list the key in others/relay1.key")


def test_a_server_whose_roster_lists_no_relays_is_told(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert here("keys", "cohort", "3", "--out", ".", "--quiet").code == 0
    ran = here("serve", "--length", "5", "--scheme", "split", "--bind", "tcp://127.0.0.1:*")
    is_one_line(ran, 2, "2 relays, and the roster lists 0: all of its relays take part in every session")


# Who is lost, and what counts as opened


def test_a_client_and_a_relay_are_lost_in_rounds_of_their_own() -> None:
    scheme = Split.for_cohort(3, Counts(length=1, maximum=1))
    drops = parse(["relay1@columns:2", "1@shares"], 3, scheme)
    assert drops.keys() == {1, relay_party(1)}
    assert [drop.who for drop in drops.values()] == ["relay 1", "client 1"]
    assert in_plain(drops[1], scheme).round == "input"
    with pytest.raises(ConfigError, match="--drop 1@columns: the rounds are join, shares"):
        parse(["1@columns"], 3, scheme)
    with pytest.raises(ConfigError, match="--drop relay0@shares: the rounds are join, relay-keys, deliver"):
        parse(["relay0@shares"], 3, scheme)


def report(round: str, alive: set[int], lost: set[int] = frozenset(), asked: set[int] = frozenset()) -> Any:
    up, down = dict.fromkeys(alive, 9), dict.fromkeys(asked, 9)
    return RoundReport(round, frozenset(alive), dict.fromkeys(lost, "late"), up, down, 0, 0, 0.1)


def test_what_a_relay_cannot_use_is_told_of_relay_and_client() -> None:
    relays = {relay_party(0), relay_party(1)}
    delivered = replace(report("deliver", relays, {2}), unopened=frozenset({(relay_party(1), 2)}))
    assert "  2 relays " in (line := round_line(delivered))
    assert line.endswith("  lost: 2 late  share of 2 unusable at relay 1")
    fields = round_fields(delivered)
    assert (fields["relays"], fields["relays_unopened"], fields["unopened"]) == ([0, 1], [(1, 2)], [])
    assert (fields["alive"], fields["lost"], fields["relays_lost"]) == ([], {"2": "late"}, {})


def test_where_relays_open_a_sum_that_never_came_it_counts_of_all_whose_shares_they_had(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    relays = {relay_party(0), relay_party(1)}
    book = Book("columns", "shares")
    with book.told(Output(json=True), tmp_path):
        book.watch(report("shares", {0, 1, 2, 3}, {4}, {0, 1, 2, 3, 4}))
        book.watch(report("deliver", relays, {3}, relays))
        book.watch(report("columns", {relay_party(0)}, {relay_party(1)}, relays))
    ledger = json.loads(capsys.readouterr().out)["ledger"]
    assert (ledger["sessions"], ledger["seen"]) == (1, 3)
