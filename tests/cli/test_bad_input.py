"""Bad input gets one line that says what to do and the documented exit code; nothing is left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import Ran, before, is_one_line, secagg

import transport
from fl.cli.contribute import read_vector
from secagg import Bounded, Masking, Policy, Weight
from transport import Contribution
from transport.keys import generate, read_public, write_private, write_public
from transport.roster import sign

Here = Callable[..., Ran]
NOWHERE = "tcp://127.0.0.1:9"
LOOPBACK = "tcp://127.0.0.1:*"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs; it may leave nothing there."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def keys(folder: Path, here: Here) -> Path:
    """The server's key, three clients' and the roster, in the folder of the command."""
    assert here("keys", "cohort", "4", "--out", ".").code == 0
    np.save("x.npy", np.zeros(5))
    return folder


def names(folder: Path) -> set[str]:
    """Of its files, but for what a client remembers."""
    remembered = (".key.seen", ".key.journal")
    return {path.name for path in folder.iterdir() if not any(text in path.name for text in remembered)}


def refuses(here: Here, folder: Path, line: str, code: int, *words: str) -> None:
    before = names(folder)
    is_one_line(here(*line.split()), code, *words)
    assert names(folder) == before


# Sessions that cannot be


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--clients 2", "--small-cohort"),
        ("--clients 1", "--small-cohort"),
        ("--clients 0", "0 clients is not in 1.."),
        ("--clients many", "--clients"),
        ("--corrupt many", "'--corrupt': many: a number of clients such as 2, or a fraction such as 0.1"),
        ("--threshold 4", "threshold 4 is impossible: with 8 clients, 1 of them corrupt"),
        ("--threshold 9", "threshold 9 is impossible"),
        ("--length 0", "length"),
        ("--length 1000000000000", "length"),
        ("--bits 1", "bits"),
        ("--bits 64", "bits"),
        ("--seed -1", "--seed"),
        ("--show 8", "--show 8: the clients are 0 to 7"),
        ("--scheme none", "--scheme none: there are masking, split, ckks, plain"),
        ("--drop 3", "--drop 3: the form is ID@ROUND"),
        ("--drop 3@", "the form is ID@ROUND"),
        ("--drop x@join", "the form is ID@ROUND"),
        ("--drop 3@join:half", "the form is ID@ROUND"),
        ("--drop 3@join:50%:", "the form is ID@ROUND"),
        ("--drop 8@join", "--drop 8@join: the clients are 0 to 7"),
        (
            "--drop 3@lunch",
            "the rounds are join, advertise-keys, share-keys, masked-input, consistency-check, unmasking",
        ),
        ("--drop 3@input", "--drop 3@input: the rounds are join, advertise-keys"),
        ("--drop 3@join --drop 3@unmasking", "client 3 is dropped twice"),
        ("--drop relay0@join", "--drop relay0@join: there are 0 relays, from 0 on"),
        ("--scheme split --drop relay2@join", "there are 2 relays, from 0 on"),
        ("--scheme split --drop relay1@join --drop relay1@columns", "relay 1 is dropped twice"),
        ("--scheme split --drop 3@unmasking", "--drop 3@unmasking: the rounds are join, shares"),
        ("--scheme split --relays 1", "relays = 1: give int >= 2"),
        ("--relays 2", "--relays 2 is for --scheme split: masking has none"),
        ("--drop 3@join:100%", "0% to 99%"),
        ("--drop 3@join:2", "no training round"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_a_demo_that_cannot_be(here: Here, folder: Path, line: str, words: str) -> None:
    refuses(here, folder, f"demo {line}", 2, words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--clients 2", "--small-cohort"),
        ("--clients 0", "clients = 0"),
        ("--clients 1000", "1343 examples cannot give 1000 clients"),
        ("--rounds 0", "rounds = 0"),
        ("--max-examples 5", "max_examples = 5: a client holds "),
        ("--dataset text", "cnn is not for text"),
        ("--model gru", "gru is not for images: there are"),
        ("--lr -1", "lr = -1.0"),
        ("--model cnnn", "did you mean 'cnn'?"),
        ("--dataset digit", "did you mean 'digits'?"),
        ("--dataset lfw --data-dir nowhere", "torchvision does not download it"),
        ("--scheme maskin", "did you mean 'masking'?"),
        ("--device gpu", "device = 'gpu': give one of auto, cpu, cuda, mps"),
        ("--drop 8@join", "the clients are 0 to 7"),
        ("--drop 3@join:1:1", "the form is ID@ROUND"),
        ("--drop 3@join:0", "a training round from 1 on"),
        ("--drop 3@join:16", "training round 16, and there are 15"),
        ("--config none.toml", "none.toml: not readable: No such file or directory"),
        ("--config none.yaml", "ends in .toml or .json"),
        ("--preset wei-mnst", "--preset wei-mnst: there are wei-mnist, wei-fashion-mnist"),
        ("--preset ma-mnist --config run.toml", "--preset or --config: give one of them"),
        ("--sample 9", "sample = 9: the choice is of 8 clients"),
        ("--sample 0", "sample = 0: give int >= 1"),
        ("--select quality", "select = 'quality' chooses the clients of a round: say how many with sample"),
        ("--select channel --sample 3", "to select by channel, or cluster by place or mode"),
        ("--cluster place", "there have to be links: give links too"),
        ("--cluster mode", "there have to be links: give links too"),
        ("--execution auto --deadline 1", "deadline: in one process only the model of links takes time"),
        ("--scheme ckks --ending keep --sample 3", "every client has to be in every sum: no sample and no"),
        ("--scheme ckks --ending keep --cluster label", "every client has to be in every sum: no sample"),
        ("--scheme ckks --ending keep --until-accuracy 0.9", "the server has no model to measure"),
        ("--batch 4 --sample 4", "batch cuts the whole roster: no sample and no cluster with it"),
        ("--batch 4 --cluster label", "batch cuts the whole roster: no sample and no cluster with it"),
        ("--until-accuracy 0.9 --validation 0", "until_accuracy is measured on validation data: leave"),
        ("--minimum 9", "minimum = 9: a round has 8 clients"),
        ("--minimum 4 --sample 3", "minimum = 4: a round has 3 clients"),
        ("--algorithm fedsgd --local-steps 3", "with fedsgd a client takes one gradient of all it holds"),
        ("--select quality --sample 3", "--select quality: all declare the same quality: give --damage too"),
        ("--local-epochs 1 --local-steps 3", "--local-epochs or --local-steps: give one of them"),
        ("--meter-rounds 3", "--meter-rounds counts with --meter only"),
        ("--alpha 1 --partition iid", "--alpha counts with --partition dirichlet or quantity only"),
        ("--classes-per-client 3", "--classes-per-client counts with --partition shards only"),
        ("--damage-level 0.2", "--damage-level counts with --damage noise or missing or labels only"),
        ("--damaged 0.2", "--damaged counts with --damage noise or missing or labels only"),
        ("--server-momentum 0.5", "--server-momentum counts with --server momentum or adam or yogi only"),
        ("--server-beta2 0.5 --server momentum", "--server-beta2 counts with --server adam or yogi only"),
        ("--server-tau 0.1", "--server-tau counts with --server adam or yogi only"),
        (
            "--algorithm fedsgd --batch-size 4",
            "--batch-size counts with --algorithm fedavg or fedavg-weights",
        ),
        ("--algorithm fedsgd --momentum 0.5", "--momentum counts with --algorithm fedavg or fedavg-weights"),
        ("--algorithm fedsgd --local-epochs 2", "--local-epochs counts with --algorithm fedavg or fedavg-we"),
        ("--execution batched --drop 1@join", "drop kills processes: give execution = 'processes' with it"),
    ],
)
def test_a_run_that_cannot_be(here: Here, folder: Path, line: str, words: str) -> None:
    code = 1 if "1000" in line or "lfw" in line else 2
    refuses(here, folder, f"train {line} --out out", code, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = 3", "run.toml: no setting is called 'epochs': it is epochs in [training]"),
        ("[training]\nround = 3", "run.toml: [training] has no key 'round'; did you mean 'rounds'"),
        ("[training]\nrounds = 'three'", "run.toml: [training] rounds = 'three': give int"),
        ("[training]\nrounds = 0", "run.toml: [training] rounds = 0: give int >= 1"),
        ("rounds =", "run.toml: not TOML"),
    ],
)
def test_a_configuration_that_cannot_be(here: Here, folder: Path, text: str, words: str) -> None:
    (folder / "run.toml").write_text(text)
    refuses(here, folder, "train --config run.toml --out out", 2, words)


def test_an_output_folder_that_is_not_empty_is_left_alone(here: Here, folder: Path, keys: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "model.safetensors").write_text("precious")
    (folder / "run.toml").write_text("[training]\nrounds = 1")
    serve = "serve --config run.toml --bind tcp://127.0.0.1:*"
    for command in ("train", serve):
        refuses(here, folder, f"{command} --out out", 2, "out is not empty", "--force")
        refuses(here, folder, f"{command} --out run.toml", 2, "run.toml is a file: choose a folder")
    refuses(
        here,
        folder,
        f"serve --length 5 --bind {LOOPBACK} --out x.npy",
        2,
        "x.npy exists: choose another --out, or replace it with --force",
    )
    assert (folder / "out" / "model.safetensors").read_text() == "precious"


# Servers


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "give --length to sum vectors, or --config to train"),
        ("--length 5 --config run.toml", 2, "and not both"),
        ("--config run.toml --threshold 2", 2, "--threshold is for --length; in training"),
        ("--length -5", 2, "length"),
        ("--length 0", 2, "length 0 is not in 1..2^29"),
        ("--length 0 --config run.toml", 2, "and not both"),
        ("--length 5 --threshold 1", 2, "threshold 1 is impossible"),
        ("--length 5 --bound 0", 2, "bound"),
        ("--length 5 --clip -1", 2, "clip"),
        ("--length 5 --max-weight 0", 2, "maximum"),
        ("--length 5 --scheme none", 2, "there are masking, split, ckks, plain"),
        ("--length 5 --out nowhere/mean.npy", 2, "there is no folder nowhere: make it"),
        ("--length 5 --finish -1", 2, "--finish -1.0: a number of seconds, 0 or more"),
        ("--length 5 --finish nan", 2, "Invalid value for '--finish': nan: give a finite number"),
        ("--length 5 --deadline join", 2, "the form is SECONDS, or ROUND=SECONDS"),
        ("--length 5 --deadline join=soon", 2, "the form is SECONDS, or ROUND=SECONDS"),
        ("--length 5 --deadline =3", 2, "the form is SECONDS, or ROUND=SECONDS"),
        ("--length 5 --deadline join=0", 2, "--deadline join=0: a number of seconds above 0"),
        ("--length 5 --deadline join=nan", 2, "a number of seconds above 0"),
        ("--length 5 --deadline 0.000001", 3, "0 clients left in round join"),
        ("--length 5 --deadline 600 --deadline join=0.000001", 3, "0 clients left in round join"),
        ("--length 5 --deadline lunch=5", 2, "no round 'lunch'; the rounds are join"),
        ("--length 5 --state none", 2, "the folder none for this key's records is not there: make it"),
        ("--length 5 --key-readers me", 2, "a key's readers are owner, group, all; not 'me'"),
        ("--length 5 --key none.key", 2, "there is no file none.key"),
        ("--length 5 --key client0.key", 2, "a server key is needed"),
        ("--length 5 --roster none", 2, "there is no file none"),
        ("--length 5 --roster-key server.pub", 2, "a roster key is needed"),
        ("--length 5 --bind 127.0.0.1:5555", 2, "it should look like tcp://*:5555"),
        ("--length 5 --bind tcp://127.0.0.1:99999", 2, "a port is 1 to 65535, not 99999"),
        ("--length 5 --bind tcp://192.0.2.77:*", 1, "this machine has no such address or interface"),
    ],
)
def test_a_server_that_cannot_be(
    here: Here, folder: Path, keys: Path, line: str, code: int, words: str
) -> None:
    bind = "" if "--bind" in line else f"--bind {LOOPBACK}"
    refuses(here, folder, f"serve {line} {bind}", code, words)


@pytest.mark.parametrize("line", ["[cohort]\nlinks = 'lte'", "[cohort]\ncluster = 'label'"])
def test_a_server_whose_clients_would_have_to_declare_something(
    here: Here, folder: Path, keys: Path, line: str
) -> None:
    (folder / "run.toml").write_text(line)
    words = "links, cluster, select: only `secagg train` knows what clients declare: leave them out"
    refuses(here, folder, f"serve --config run.toml --bind {LOOPBACK}", 2, words)


@pytest.mark.parametrize("what", ["--length 5", "--config run.toml"])
def test_a_port_in_use(here: Here, folder: Path, keys: Path, what: str) -> None:
    (folder / "run.toml").write_text("[training]\nrounds = 1")
    with transport.serve(LOOPBACK, "server.key", "roster") as other:
        words = f"{other.endpoint} is in use", "choose another port (--bind)"
        refuses(here, folder, f"serve {what} --bind {other.endpoint}", 1, *words)


def test_a_roster_of_two_is_too_small_unless_it_is_an_experiment(here: Here, folder: Path) -> None:
    here("keys", "cohort", "2", "--out", ".")
    refuses(here, folder, f"serve --length 5 --bind {LOOPBACK}", 2, "--small-cohort")


# Clients, before they are connected


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "give --input, a vector to contribute, or --data"),
        ("--input x.npy --data .", 2, "give --input, a vector to contribute, or --data"),
        ("--input none.npy", 2, "none.npy: not readable: No such file or directory"),
        ("--input server.pub", 2, "server.pub is not a vector in numpy's .npy format: write one with"),
        ("--input x.npy --weight -1", 2, "--weight"),
        ("--input x.npy --allow none", 2, "the schemes are masking, split, ckks, plain"),
        ("--input x.npy --policy p.toml --allow plain", 2, "--policy says it all: no --allow, --semi-honest"),
        ("--input x.npy --policy p.toml --batch 5", 2, "--policy says it all"),
        ("--input x.npy --policy p.toml --blank 0.5", 2, "--policy says it all"),
        ("--input x.npy --policy p.toml --smallest-group 5", 2, "--policy says it all"),
        ("--input x.npy --unsafe-groups", 2, "--unsafe-groups counts with --smallest-group only"),
        ("--input x.npy --public-weights", 2, "--public-weights counts with --smallest-group only"),
        ("--input x.npy --one-cut june", 2, "--one-cut counts with --smallest-group only"),
        ("--input x.npy --smallest-group 5 --one-cut=", 2, "--one-cut: a name for this run, of 1 to 100"),
        ("--input x.npy --policy p.toml --one-cut june", 2, "--public-weights or --one-cut"),
        ("--input x.npy --smallest-group 0", 2, "--smallest-group"),
        ("--input x.npy --blank 1", 2, "--blank 1.0: a probability, at least 0 and below 1"),
        ("--input x.npy --policy p.toml --alike never", 2, "--alike, --answer-after, --smallest-group"),
        ("--input x.npy --alike never-ever", 2, "there are auto, always, any, never"),
        ("--data . --new", 2, "--new is for --input: what training gives follows from the model"),
        ("--input x.npy --policy p.toml --ending keep", 2, "--smallest-cohort, --batch, --blank, --ending"),
        ("--input x.npy --ending keep", 2, "--ending keep is of ckks: give --allow ckks with it"),
        ("--input x.npy --allow ckks --ending all", 2, "--ending all: there are release, keep"),
        ("--input x.npy --policy p.toml", 2, "p.toml: not readable: No such file or directory"),
        ("--input x.npy --policy x.npy", 2, "x.npy: not UTF-8"),
        ("--input x.npy --patience 0", 2, "--patience 0.0: a number of seconds above 0"),
        ("--input x.npy --answer-after 0", 2, "--answer-after 0.0: a number of seconds, above 0 and at most"),
        ("--input x.npy --patience nan", 2, "Invalid value for '--patience': nan: give a finite number"),
        ("--input x.npy --state none", 2, "the folder none for this key's records is not there: make it"),
        ("--input x.npy --server none.pub", 2, "there is no file none.pub"),
        ("--input x.npy --server client1.pub", 2, "a server key is needed"),
        ("--input x.npy --key none.key", 2, "there is no file none.key"),
        ("--input x.npy --key server.key", 2, "a client key is needed"),
        ("--input x.npy --roster x.npy --roster-key roster.pub", 2, "x.npy"),
        ("--input x.npy --connect 127.0.0.1", 2, "it should look like tcp://host:5555"),
        ("--input x.npy --connect tcp://127.0.0.1:9 --patience 0.1", 1, "is gone, or was never there"),
        ("--data . --connect tcp://127.0.0.1:9", 2, "holds no shard.npz: name the folder"),
    ],
)
def test_a_client_that_cannot_be(
    here: Here, folder: Path, keys: Path, line: str, code: int, words: str
) -> None:
    given = {"--key": "client0.key", "--roster": "roster", "--connect": NOWHERE}
    options = " ".join(f"{option} {value}" for option, value in given.items() if option not in line)
    refuses(here, folder, f"join {options} {line}", code, words)


def test_a_policy_that_cannot_be(here: Here, folder: Path, keys: Path) -> None:
    Path("p.toml").write_bytes(b"corrupt = 'many'\r\n")
    refuses(here, folder, f"{JOIN} --policy p.toml", 2, "p.toml is not a policy: ")
    Path("p.toml").write_bytes(b"corupt = 2\n")
    refuses(
        here, folder, f"{JOIN} --policy p.toml", 2, "policy: unknown key 'corupt'; did you mean 'corrupt'?"
    )


JOIN = f"join --connect {NOWHERE} --key client0.key --input x.npy --roster roster"


def test_a_key_that_others_can_read(here: Here, folder: Path, keys: Path) -> None:
    for key in ("client0.key", "server.key"):
        Path(key).chmod(0o640)
    words = "open to other users (mode 0640)", "run `chmod 600"
    refuses(here, folder, JOIN, 2, "client0.key", *words)
    refuses(here, folder, f"serve --length 5 --bind {LOOPBACK}", 2, "server.key", *words)


def test_limits_of_training_are_counts_and_stand_in_one_place(here: Here, folder: Path, keys: Path) -> None:
    from fl.cli.rules import limits_of, read_policy

    Path("p.toml").write_text("smallest_cohort = 4\n[training]\nsteps = 7\n", encoding="utf-8")
    assert read_policy(Path("p.toml")).smallest_cohort == 4
    assert (limits_of(Path("p.toml"), {}, trains=True).steps, limits_of(None, {}, trains=True).steps) == (
        7,
        10_000,
    )
    assert limits_of(None, {"most_steps": 9}, trains=True).steps == 9
    refuses(here, folder, f"{JOIN} --most-steps 7", 2, "--most-... is for --data: only training is limited")
    line = f"join --connect {NOWHERE} --key client0.key --roster roster --data . --policy p.toml"
    words = "--policy says it all: write limits into its table [training]"
    refuses(here, folder, f"{line} --most-steps 7", 2, words)
    Path("p.toml").write_text("[training]\nsteps = 0\n", encoding="utf-8")
    refuses(here, folder, line, 2, "p.toml, training: Expected `int` >= 1 - at `$.steps`")


def test_rules_of_what_an_update_may_give_away(here: Here, folder: Path) -> None:
    """In a policy file, or none; and only of what is trained."""
    from fl.cli.rules import preflight_of
    from fl.config.preflight import OFF, Preflight

    Path("p.toml").write_text("[preflight]\naction = 'warn'\nshares = [[10, 0.5]]\n", encoding="utf-8")
    assert preflight_of(Path("p.toml"), None, trains=True) == Preflight(action="warn", shares=((10, 0.5),))
    assert preflight_of(None, None, trains=True) == preflight_of(None, True, trains=True) == Preflight()
    assert preflight_of(None, False, trains=True) == OFF
    refuses(
        here, folder, f"{JOIN} --no-preflight", 2, "--preflight is for --data: of an --input nobody knows"
    )
    line = f"join --connect {NOWHERE} --key client0.key --roster roster --data . --policy p.toml"
    words = "--policy says it all: write action = 'refuse' or 'off' into its table [preflight]"
    refuses(here, folder, f"{line} --no-preflight", 2, words)
    Path("p.toml").write_text("[preflight]\nactoin = 'off'\n", encoding="utf-8")
    refuses(here, folder, line, 2, "p.toml, preflight: unknown key 'actoin'; did you mean 'action'?")
    Path("p.toml").write_text("[preflight]\nshares = [[1, 2.0]]\n", encoding="utf-8")
    refuses(here, folder, line, 2, "p.toml, preflight: Expected `float` <= 1")
    Path("p.toml").write_text("[preflight]\nshares = []\n", encoding="utf-8")
    refuses(here, folder, line, 2, "p.toml, preflight: shares of none let any share come out: leave the key")


def test_a_clients_secret_that_others_can_read(here: Here, folder: Path, keys: Path) -> None:
    from fl.data.shard import write_shard

    write_shard(folder, np.zeros((1, 1, 2, 2), np.float32), np.zeros(1, np.int64), 2, "tiny")
    Path("client.secret").write_bytes(bytes(32))
    Path("client.secret").chmod(0o644)
    line = f"join --connect {NOWHERE} --key client0.key --roster roster --data ."
    refuses(here, folder, line, 2, "client.secret is readable by others: chmod 600 client.secret")


@pytest.mark.parametrize("cut", ["signature", "client 0"])
def test_a_roster_that_is_not_signed_or_was_changed(here: Here, folder: Path, keys: Path, cut: str) -> None:
    text = Path("roster").read_text(encoding="utf-8")
    Path("roster").write_text(re.sub(rf"{cut}.*\n", "", text), encoding="utf-8")
    refuses(here, folder, JOIN, 2, "roster, line", "ask the keeper of the roster")
    refuses(here, folder, f"serve --length 5 --bind {LOOPBACK}", 2, "roster, line")


def test_a_roster_older_than_the_newest_seen(here: Here, folder: Path, keys: Path) -> None:
    keeper = generate("roster")
    write_public("signer.pub", keeper.public)
    clients = [read_public(f"client{u}.pub") for u in range(4)]
    for version in (2, 1):
        Path(f"roster{version}").write_bytes(sign(clients, version, keeper))
    newer, older = (f"{JOIN}{version} --roster-key signer.pub" for version in (2, 1))
    refuses(here, folder, f"{newer} --patience 0.1", 1, "is gone, or was never there")
    refuses(here, folder, older, 1, "version 1, but version 2 was seen before", "ask the keeper")


def test_a_roster_that_does_not_list_the_client(here: Here, folder: Path, keys: Path) -> None:
    write_private("new.key", generate("client", 0))
    line = f"join --connect {NOWHERE} --key new.key --input x.npy --roster roster"
    refuses(here, folder, line, 2, "does not list the key in new.key", "ask its keeper for a newer one")


# Clients, in a session


TRUSTING = Policy(adversary="semi-honest")  # two of three are enough then


@pytest.fixture
def server(keys: Path) -> Iterator[str]:
    """A session of weighted sums in which clients 1, 2 and 3 take part; the sum must be theirs."""
    vectors = {"": Bounded(length=5, bound=1.0), "weight": Weight(maximum=10)}
    scheme = Masking.for_cohort(4, vectors)

    def client(u: int, endpoint: str) -> Contribution | None:
        own = f"client{u}.key"
        with transport.join(endpoint, own, "server.pub", "roster", policy=TRUSTING) as peer:
            return peer.contribute(lambda task: {"": np.full(5, u / 4), "weight": u})

    with ThreadPoolExecutor(4) as threads, transport.serve(LOOPBACK, "server.key", "roster") as cohort:
        total = threads.submit(cohort.aggregate, scheme, os.urandom(16))
        for u in (1, 2, 3):
            threads.submit(client, u, cohort.endpoint)
        yield cohort.endpoint
        assert total.result().survivors == {1, 2, 3}
        np.testing.assert_allclose(total.result().mean[""], (1 / 4 + 2 * 2 / 4 + 3 * 3 / 4) / 6, atol=1e-3)


@pytest.mark.parametrize(
    ("vector", "weight", "words"),
    [
        (np.zeros(6), "--weight 1", "the vector has shape (6,), the session's is (5,)"),
        (np.zeros(5), "--weight 11", "vector 'weight' holds 11, not in 0..10"),
        (np.zeros(5), "", "vector 'weight' of the session is missing"),
    ],
)
def test_a_vector_that_cannot_be(
    here: Here, folder: Path, server: str, vector: np.ndarray, weight: str, words: str
) -> None:
    np.save("x.npy", vector)
    line = f"join --connect {server} --key client0.key --roster roster --input x.npy --semi-honest {weight}"
    refuses(here, folder, line, 2, words)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (np.zeros(0), "x.npy holds no number"),
        (np.array([0, 0, np.nan]), "x.npy: the vector holds nan at coordinate 2"),
        (np.array([0, np.inf]), "x.npy: the vector holds inf at coordinate 1"),
        (np.zeros(5, complex), "x.npy: the vector holds complex128, not real numbers"),
        (np.array(["a"]), "x.npy: the vector holds <U1, not real numbers"),
        (
            np.zeros((10, 100)),
            "x.npy holds an array of shape (10, 100), not a vector: to send its 1000 numbers",
        ),
        (np.array(7.0), "x.npy holds an array of shape (), not a vector"),
        (np.array([{}]), "x.npy was cut short or damaged, or holds Python objects, not numbers"),
    ],
)
def test_a_file_without_a_vector_is_refused_before_anybody_is_connected_to(
    here: Here, folder: Path, keys: Path, vector: np.ndarray, words: str
) -> None:
    np.save("x.npy", vector)
    refuses(here, folder, JOIN, 2, words)


def npy(header: str, data: bytes = bytes(40)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    "data",
    [
        b"\x93NUMPY",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1208925819614629174706176,), }"),
        npy("[" * 9000),
        npy("{'descr': '<f8'}"),
    ],
    ids=["cut short", "too few numbers", "8 TiB", "2^80 numbers", "nested", "no shape"],
)
def test_a_damaged_vector(here: Here, folder: Path, keys: Path, data: bytes) -> None:
    Path("x.npy").write_bytes(data)
    refuses(here, folder, JOIN, 2, "x.npy was cut short or damaged")


def test_an_array_is_a_vector_if_that_is_asked_for(folder: Path) -> None:
    np.save("x.npy", np.arange(6.0).reshape(2, 3))
    assert read_vector(Path("x.npy"), flatten=True).tolist() == [0, 1, 2, 3, 4, 5]


def declines(here: Here, folder: Path, server: str) -> None:
    """Client 0 is not waited for any longer."""
    line = f"join --connect {server} --key client0.key --roster roster --input x.npy --smallest-cohort 50"
    refuses(here, folder, line, 4, "a cohort of 4; this client takes part from 50 on (--smallest-cohort)")


def test_a_cohort_smaller_than_the_client_accepts(here: Here, folder: Path, server: str) -> None:
    declines(here, folder, server)


def test_a_client_the_server_does_not_know(here: Here, folder: Path, server: str) -> None:
    write_private("new.key", generate("client", 0))
    ran = here(*f"join --connect {server} --key new.key --input x.npy".split())
    warning, error = ran.err.splitlines(keepends=True)
    assert warning.startswith("warning: no --roster")
    words = "does not know this client's key: its roster must list it"
    is_one_line(Ran(ran.code, ran.out, error), 1, words)
    declines(here, folder, server)


def test_a_server_with_another_key(here: Here, folder: Path, server: str) -> None:
    write_public("other.pub", generate("server").public)
    line = f"join --connect {server} --key client0.key --roster roster --input x.npy --server other.pub"
    words = "is not the server this client holds the key of", "compare the fingerprints"
    refuses(here, folder, line, 1, *words)
    declines(here, folder, server)


def test_a_server_that_closes_without_a_session(here: Here, folder: Path, keys: Path) -> None:
    with transport.serve(LOOPBACK, "server.key", "roster") as cohort, ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: (cohort.wait_for_clients(1, 60), cohort.close()))
        line = f"join --connect {cohort.endpoint} --key client0.key --roster roster --input x.npy"
        words = "the vector is not known to be in a sum: the server closed without a session"
        refuses(here, folder, line, 1, words)


def test_a_missing_package_names_the_command_that_adds_it(tmp_path: Path) -> None:
    """As `secagg train` meets it where the extra was not installed."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')\n")
    ran = secagg("train", env={"PYTHONPATH": before(tmp_path)})
    is_one_line(ran, 1, "this needs torch: pip install 'secagg[fl]'")
