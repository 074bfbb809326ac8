"""The laws of the targets without a fuzzer: on what it found, on a small corpus, on edits by hypothesis."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from secagg import RemoteProtocolError
from secagg.bits import add_packed
from secagg.ckks import messages as of_ckks
from secagg.masking import messages
from secagg.schemes import read_offer
from secagg.split import messages as of_split
from secagg.wire import Message, decode
from tests.fuzz import edits, targets, wires
from tests.fuzz.__main__ import CORPUS, FINDINGS, HERE, corpus, findings, main
from tests.fuzz.sessions import MESSAGES, TAKEN
from tests.fuzz.targets import PLANTED, TARGETS, Target
from transport import frames

every_target = pytest.mark.parametrize("name", TARGETS)
SLOW = {"servers", "packed", "ckks-clients", "ckks-servers"}
FOUND = [pytest.param(name, path, id=path.name) for name in TARGETS for path in findings(name)]


def attack(target: Target, known: list[bytes], examples: int, **more: Any) -> None:
    """The target on true bytes, known inputs and what hypothesis makes of them."""
    seeds = st.integers(0, len(target.seeds()) - 1).map(lambda i: bytes([i]))

    @settings(max_examples=examples, database=None, **more)
    @given(st.builds(bytes.__add__, seeds | st.sampled_from(known or [b"\0"]), st.binary(max_size=24)))
    def holds(data: bytes) -> None:
        target(data)

    holds()


# The laws hold


@pytest.mark.parametrize(("name", "path"), FOUND)
def test_what_was_found_once_is_not_found_again(name: str, path: Path) -> None:
    assert TARGETS[name](path.read_bytes())  # what is taken is called so; a refusal has words


@every_target
def test_the_law_holds_on_the_corpus(name: str) -> None:
    assert all(TARGETS[name](data) for data in corpus(name))


@every_target
def test_the_law_holds_on_edits_of_the_corpus(name: str) -> None:
    attack(TARGETS[name], corpus(name), 50 if name in SLOW else 200)


def test_every_file_is_of_a_target() -> None:
    names = {path.name.rpartition("-")[0] for path in FINDINGS.glob("*")}
    names |= {path.name for path in CORPUS.glob("*")}
    assert names <= TARGETS.keys() | {"tasks"}  # these need torch


# And they can fail


@every_target
def test_the_truth_is_taken(name: str) -> None:
    """Else all would be refused at the door; and twice, for a session must be left as it was."""
    for i in 2 * list(range(len(TARGETS[name].seeds()))):
        assert TARGETS[name](bytes([i])) == TAKEN


@every_target
def test_edits_are_refused(name: str) -> None:
    """Else they would change nothing. Journals, and a record of rosters, are refused in one way alone."""
    scripts = [bytes([i, edit, *range(k, k + 9)]) for i in range(3) for edit in range(7) for k in (0, 9)]
    refusals = {TARGETS[name](script) for script in scripts} - {TAKEN}
    assert len(refusals) > (name not in ("journals", "signed", "rosters-seen", "split-shares"))


def test_every_message_is_fuzzed() -> None:
    named = [kind for module in (messages, of_ckks, of_split) for kind in vars(module).values()]
    kinds = {kind for kind in named if isinstance(kind, type) and issubclass(kind, Message)}
    assert kinds - {Message} <= {kind for kind, _ in targets.said()} == set(MESSAGES)


def test_every_frame_is_fuzzed() -> None:
    assert {type(frame) for frame, _ in wires.FRAMES} == set(frames.Frame.__subclasses__())


READERS = {
    "messages": ("secagg.wire", "RemoteProtocolError"),
    "offers": ("secagg.policy", "RemoteProtocolError"),
    "packed": ("secagg.bits", "RemoteProtocolError"),
    "clients": ("secagg.wire", "RemoteProtocolError"),
    "servers": ("secagg.wire", "RemoteProtocolError"),
    "joint-servers": ("secagg.wire", "RemoteProtocolError"),
    "ckks-clients": ("secagg.wire", "RemoteProtocolError"),
    "ckks-servers": ("secagg.wire", "RemoteProtocolError"),
    **{f"split-{what}": ("secagg.wire", "RemoteProtocolError") for what in ("parties", "servers", "shares")},
    "frames": ("transport.frames", "RemoteProtocolError"),
    "uploads": ("transport.frames", "RemoteProtocolError"),
    "downloads": ("transport.frames", "RemoteProtocolError"),
    "rosters": ("transport.roster", "FileError"),
    "rosters-seen": ("transport.roster", "TransportError"),
    "keys": ("transport.keys", "FileError"),
    "journals": ("transport.journal", "TransportError"),
    "signed": ("transport.journal", "TransportError"),
    "tasks": ("fl.federation.task", "RemoteProtocolError"),
}


@every_target
def test_another_error_than_the_one_that_may_be_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    TARGETS[name].seeds()
    module, error = READERS[name]
    monkeypatch.setattr(f"{module}.{error}", KeyError)
    with pytest.raises(KeyError):
        attack(TARGETS[name], corpus(name), 200, phases=[Phase.generate], report_multiple_bugs=False)


def test_a_planted_bug_is_found() -> None:
    with pytest.raises(KeyError):
        attack(PLANTED["planted-error"], [], 200, phases=[Phase.generate])


def test_a_wrong_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_one_more(total: Any, packed: Any, bits: int) -> None:
        add_packed(total, packed, bits)
        total += 1

    monkeypatch.setattr("secagg.masking.uploads.add_packed", add_one_more)
    with pytest.raises(AssertionError, match="a wrong sum"):
        attack(TARGETS["servers"], [], 100, phases=[Phase.generate], report_multiple_bugs=False)


# The fuzzer


def test_without_atheris_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'secagg[fuzz]'" in said


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=HERE.parents[1],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="no atheris: pip install 'secagg[fuzz]'"
)
@pytest.mark.parametrize(("name", "error"), [("planted-error", KeyError), ("planted-memory", MemoryError)])
def test_the_fuzzer_finds_a_planted_bug_and_keeps_the_input(
    name: str, error: type[Exception], tmp_path: Path
) -> None:
    done = fuzz(name, "--seconds=20", f"--findings={tmp_path}")
    assert done.returncode == 1, done.stderr
    (path,) = findings(name, tmp_path)
    assert f"{path}: {error.__name__}" in done.stdout


# Memory


def peak(read: Callable[[bytes], Any], data: bytes) -> int:
    """Bytes that a reader holds at most while it reads or refuses: the least of three times, since whatever
    else this process does is counted, too.
    """
    held = list[int]()
    for _ in range(3):
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with suppress(RemoteProtocolError):
            read(data)
        held.append(tracemalloc.get_traced_memory()[1] - before)
    return min(held)


@pytest.fixture
def traced() -> Any:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def decoders() -> Iterator[tuple[Callable[[bytes], Any], bytes]]:
    """Each with what it reads."""
    for kind, message in targets.said():
        yield partial(decode, kind), message
    for scheme in targets.OFFERED:
        yield read_offer, scheme.offer()
    for frame, _ in wires.FRAMES:
        yield lambda data: frames.decode_from_client([data]), frames.encode(frame)
        yield lambda data: frames.decode_from_server([data]), frames.encode(frame)
    if "tasks" in TARGETS:
        from fl.federation.task import read_instructions

        for task in targets.task_seeds():
            yield read_instructions, task


@pytest.mark.usefixtures("traced")
def test_a_header_that_claims_much_makes_no_reader_take_much() -> None:
    """Whatever the header claims, 64 KiB and eight times the bytes that came are enough."""
    for read, message in decoders():
        peak(read, message)  # what is made once, at the first call, does not count
        tree, pack = edits.parsed(message)
        for path, _ in edits.nodes(tree):
            for header in edits.HOSTILE:
                data = pack(edits.changed(tree, path, lambda _, header=header: msgspec.Raw(header)))
                assert peak(read, data) <= 2**16 + 8 * len(data), (read, path, header)


@pytest.mark.usefixtures("traced")
def test_a_message_takes_no_more_than_forty_times_its_bytes() -> None:
    """Of lists and maps with as many entries as fit."""
    for kind, message in targets.said():
        tree = msgspec.msgpack.decode(message)
        for path, value in edits.nodes(tree):
            entry = next(iter(value.values()), b"") if isinstance(value, dict) else b""
            many = {dict: dict.fromkeys(range(3000), entry), list: list(range(3000))}.get(type(value))
            if many is not None and path:
                data = msgspec.msgpack.encode(edits.changed(tree, path, lambda _, many=many: many))
                assert peak(partial(decode, kind), data) <= 2**16 + 40 * len(data), (kind, path)
