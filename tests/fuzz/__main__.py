"""Fuzz every place where bytes come in: `python -m tests.fuzz [TARGET ...] [--seconds N] [--seed N]`.

Each target runs in a process of its own, guided by the coverage of the packages and by the words of refusals.
What breaks a target's law is kept in tests/fuzz/findings, where test_findings.py replays it ever after.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
CORPUS, FINDINGS = HERE / "corpus", HERE / "findings"
HANG_SECONDS = 10
MEMORY = 512 * 2**20  # bytes more than the process has when it begins: what asks for more gets a MemoryError
LONGEST = 128  # bytes of an input
KEPT = 24  # inputs of a target in the corpus
WITHOUT = "fuzzing needs atheris (Linux on x86-64, CPython 3.11 to 3.13): pip install 'secagg[fuzz]'"
OUTCOMES = 1024  # different ones that count as coverage


def corpus(name: str, folder: Path = CORPUS) -> list[bytes]:
    """The inputs kept of a target: its file has one in hex a line."""
    path = folder / name
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def findings(name: str, folder: Path = FINDINGS) -> list[Path]:
    return sorted(path for path in folder.glob("*") if re.fullmatch(f"{name}-[0-9a-f]{{8}}", path.name))


_QUOTED = re.compile(
    r"(?<!\w)'.*'|(?<!\w)\".*\"|(?<=field )`.*`|0x\w\w|\b[0-9a-f]{4}( [0-9a-f]{4}){7}\b|\d+", re.DOTALL
)


def skeleton(words: str) -> str:
    """What a refusal says, but for the numbers and what it quotes."""
    return _QUOTED.sub("#", words)[:300]


# In a process of its own


def fuzz(name: str, seconds: int, seed: int, folder: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["secagg", "transport", *(["fl"] if name == "tasks" else [])]):
        from tests.fuzz import targets

        target = targets.TARGETS.get(name) or targets.PLANTED[name]
        target.seeds()  # imports what only this target needs
    start = folder / "corpus"
    start.mkdir()
    for i, data in enumerate([*(bytes([i]) for i in range(len(target.seeds()))), *corpus(name)]):
        (start / str(i)).write_bytes(data)
    # msgspec decides in C, where no coverage is seen: each way to refuse counts as a branch of its own.
    counters = [atheris._reserve_counter() for _ in range(OUTCOMES)]
    outcomes: dict[str, int] = {}

    def run(data: bytes) -> None:
        words = skeleton(target(data))
        if words not in outcomes and len(outcomes) < OUTCOMES:
            outcomes[words] = counters[len(outcomes)]
            print(f"outcomes: {len(outcomes)}", file=sys.stderr)
        if words in outcomes:
            atheris._trace_branch(outcomes[words])

    virtual = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY, virtual + MEMORY))
    bounds = f"-max_total_time={seconds} -max_len={LONGEST} -timeout={HANG_SECONDS} -rss_limit_mb=0"
    options = f"{bounds} -seed={seed} -print_final_stats=1".split()
    atheris.Setup(["tests.fuzz", *options, f"-artifact_prefix={folder}/", str(start)], run)
    atheris.Fuzz()


# Over all


@dataclass(frozen=True)
class Report:
    """What came of one target. edges: of the packages' code. outcomes: different things it said. why: what it
    ended with, if not with its time; finding: the file of the input that did it.
    """

    name: str
    executions: int
    seconds: int
    edges: int
    outcomes: int
    finding: Path | None
    why: str

    def __str__(self) -> str:
        rate = self.executions // max(self.seconds, 1)
        end = f"{self.finding or 'no input'}: {self.why}" if self.why else "none"
        return f"{self.name:13} {self.executions:11,} {rate:8,} {self.edges:6} {self.outcomes:9}  {end}"


HEAD = f"{'target':13} {'executions':>11} {'a second':>8} {'edges':>6} {'outcomes':>9}  finding"


def run(name: str, seconds: int, seed: int, kept: Path, widen: bool) -> Report:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        options = f"--seconds={seconds} --seed={seed} --in".split()
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", name, *options, scratch],
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        finding = keep(name, Path(scratch).glob("*-*"), kept)
        if widen and not finding:
            extend(name, [path.read_bytes() for path in Path(scratch, "corpus").iterdir()])
    log = done.stdout
    outcomes = last(r"^outcomes: (\d+)", log)
    return Report(
        name,
        last(r"stat::number_of_executed_units: (\d+)", log) or last(r"^#(\d+)", log),
        last(r"Done \d+ runs in (\d+) second", log) or seconds,
        max(last(r"cov: (\d+)", log) - outcomes, 0),
        outcomes,
        finding,
        reason(log) if finding or done.returncode else "",
    )


def last(pattern: str, log: str) -> int:
    found = re.findall(pattern, log, re.MULTILINE)
    return int(found[-1]) if found else 0


def reason(log: str) -> str:
    """What was raised, or what libFuzzer has to say, or the last word there is."""
    raised = re.findall(r"^[\w.]*(?:Error|Exception|Clients)\b.*", log, re.MULTILINE)
    return (raised or re.findall(r"libFuzzer: .*", log) or log.splitlines() or ["nothing was said"])[-1][:150]


def keep(name: str, artifacts: Iterable[Path], kept: Path) -> Path | None:
    for artifact in artifacts:
        data = artifact.read_bytes()
        kept.mkdir(parents=True, exist_ok=True)
        path = kept / f"{name}-{sha256(data).hexdigest()[:8]}"
        path.write_bytes(data)
        return path
    return None


def extend(name: str, inputs: list[bytes]) -> None:
    """Keep the shortest input for each outcome of which the corpus has none yet."""
    from tests.fuzz.targets import TARGETS

    kept = corpus(name)
    known = {skeleton(TARGETS[name](data)) for data in kept}
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        words = skeleton(TARGETS[name](data))
        if words not in known and len(kept) < KEPT:
            known.add(words)
            kept.append(data)
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / name).write_text("".join(data.hex() + "\n" for data in sorted(kept)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them if none is named")
    parser.add_argument("--seconds", type=int, default=45, metavar="N", help="for each target (45)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the mutations (1)")
    parser.add_argument(
        "--jobs", type=int, default=min(os.cpu_count() or 1, 2), metavar="N", help="at once (2)"
    )
    parser.add_argument("--keep", action="store_true", help="add inputs with new outcomes to the corpus")
    parser.add_argument("--findings", type=Path, default=FINDINGS, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print(WITHOUT, file=sys.stderr)
        return 2
    if given.scratch:
        fuzz(given.targets[0], given.seconds, given.seed, given.scratch)
        return 0
    from tests.fuzz.targets import PLANTED, TARGETS

    if unknown := set(given.targets) - TARGETS.keys() - PLANTED.keys():
        parser.error(f"no target {min(unknown)!r}: there are {', '.join(TARGETS)}")
    print(HEAD, flush=True)
    failed = False
    with ThreadPoolExecutor(given.jobs) as pool:
        more = given.seconds, given.seed, given.findings, given.keep
        for report in pool.map(lambda name: run(name, *more), given.targets or TARGETS):
            print(report, flush=True)
            failed |= bool(report.why)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
