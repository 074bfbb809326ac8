"""Delete each check of `secagg` in turn and see whether a test fails: `make mutants`.

On the syntax tree, one at a time: every condition that leads to a raise (or to an answer of None or False),
every operand of such a condition, every other raise, every call of a check as a statement, and the record
that is kept before a masked input leaves. A mutant that no test of the core kills stands in SURVIVORS with
the reason why it may, or the command fails.

    python tests/mutants.py [-k TEXT] [TESTS ...]      only mutants with TEXT in their name; only these tests
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
HANGS = 600  # seconds of a stage; more where the tests take long without a mutant, as beside other work

# name -> why no test can, or need, kill it.
SURVIVORS: dict[str, str] = {
    "masking/server.py MaskingServer._checked: self._roster is None [of self._roster is None or not "
    "self._roster.signed_by(u, self._statement, message.signature)]": (
        "for the type checker: where nothing is signed there is no such round"
    ),
    "ckks/sharing.py AwaitingCiphertextsRequest.open: not K [of not K or not secret]": (
        "for the type checker: without K there is no secret"
    ),
}

# The tests that are likely to kill what is in a module come first; the long ones last.
LIKELY = {
    "masking/groups.py": ["test_groups", "test_grouped"],
    "masking/sums.py": ["test_groups", "test_one_cut", "test_grouped", "test_session"],
    "masking/client.py": ["test_dishonest_server", "test_at_most_once", "test_sparse"],
    "masking/session.py": ["test_session", "test_tickets", "test_one_cut"],
    "masking/kept.py": ["test_tickets"],
    "masking/kept_server.py": ["test_checkpoint", "test_tickets"],
    "tickets.py": ["test_tickets", "test_rollback", "test_twice"],
    "checkpoint.py": ["test_checkpoint", "test_rollback"],
    "masking/server.py": ["test_dishonest_client", "test_sparse", "test_groups", "test_alike"],
    "masking/messages.py": ["test_malformed"],
    "masking/derived.py": ["test_secrecy"],
    "masking/masks.py": ["test_session", "test_sparse"],
    "masking/shares.py": ["test_dishonest_server", "test_secrecy"],
    "masking/uploads.py": ["test_uploads", "test_checkpoint", "test_alike"],
    "alike.py": ["test_alike", "test_one_cut", "test_tags", "test_checkpoint", "test_grouped", "test_blank"],
    "planning.py": ["test_planning", "test_alike", "test_blank"],
    "sketch.py": ["test_alike"],
    "tagged.py": ["test_tags", "test_blank"],
    "blank.py": ["test_blank"],
    "masking/__init__.py": ["test_downgrade", "test_params", "test_policy", "test_groups", "test_sparse"],
    "masking/choice.py": ["test_params", "test_downgrade"],
    "masking/words.py": ["test_params"],
    "split/__init__.py": ["test_split_numbers", "test_split"],
    "split/client.py": ["test_split", "test_split_parties", "test_session"],
    "split/relay.py": ["test_split", "test_split_numbers", "test_tags", "test_session"],
    "split/server.py": ["test_split_parties", "test_split", "test_tags", "test_session"],
    "split/messages.py": ["test_split", "test_split_parties"],
    "split/derived.py": ["test_split"],
    "ckks/__init__.py": ["test_params", "test_ckks_session", "test_downgrade"],
    "ckks/derived.py": ["test_ckks_session"],
    "ckks/client.py": ["test_ckks_session", "test_session"],
    "ckks/sharing.py": ["test_ckks_session", "test_session"],
    "ckks/server.py": ["test_ckks_session", "test_params"],
    "ckks/rounds.py": ["test_ckks_session", "test_params"],
    "ckks/messages.py": ["test_malformed"],
    "ckks/flooding.py": ["test_ckks_flooding", "test_ckks_session"],
    "ckks/packing.py": ["test_ckks_packing", "test_ckks_session"],
    "ckks/ring.py": ["test_ckks_ring"],
    "ckks/seal.py": ["test_ckks_seal", "test_ckks_session"],
    "ckks/parameters.py": ["test_params", "test_downgrade"],
    "decoys/__init__.py": ["test_decoys_session", "test_decoys_numbers"],
    "decoys/client.py": ["test_decoys_session"],
    "decoys/derived.py": ["test_decoys_session"],
    "decoys/messages.py": ["test_decoys_session"],
    "decoys/plan.py": ["test_decoys_numbers", "test_decoys_session"],
    "decoys/seal.py": ["test_decoys_numbers"],
    "decoys/server.py": ["test_decoys_session"],
    "decoys/transform.py": ["test_decoys_numbers"],
    "inputs.py": ["test_session", "test_ckks_session"],
    "rounds.py": ["test_session", "test_interface", "test_ckks_session", "test_plain"],
    "states.py": ["test_session", "test_ckks_session", "test_at_most_once"],
    "graph.py": ["test_graph", "test_params"],
    "prg.py": ["test_prg"],
    "noise.py": ["test_noise", "test_private"],
    "parallel.py": ["test_parallel"],
    "policy.py": ["test_policy", "test_groups", "test_one_cut", "test_downgrade"],
    "schemes.py": ["test_downgrade", "test_policy"],
    "identity.py": ["test_other_terms", "test_dishonest_server", "test_dishonest_client"],
    "params.py": ["test_params", "test_downgrade", "test_policy", "test_split_numbers"],
    "specs.py": ["test_specs", "test_downgrade"],
    "encoding.py": ["test_encoding", "test_session"],
    "private.py": ["test_private"],
    "rotation.py": ["test_rotation", "test_private"],
    "bits.py": ["test_bits", "test_dishonest_client"],
    "crypto.py": ["test_crypto", "test_dishonest_client"],
    "shamir.py": ["test_shamir"],
    "session.py": ["test_session"],
    "aggregate.py": ["test_session", "test_private"],
    "in_process.py": ["test_session"],
    "averaging.py": ["test_averaging"],
    "tree.py": ["test_tree"],
    "leaves.py": ["test_tree"],
    "plain.py": ["test_plain", "test_session"],
    "wire.py": ["test_wire", "test_malformed"],
}
LATE = ["test_masking", "test_equivocation", "test_dropouts_exhaustive"]


@dataclass(frozen=True)
class Mutant:
    """path: within the package. source: the module without the check."""

    name: str
    path: str
    source: str


# Where there is something to delete

Edit = Callable[[], Callable[[], None]]
"""Make the change; what is returned takes it back."""


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    tree = ast.parse(source)
    seen: dict[str, int] = {}
    for where, what, edit in _Finder().sites(tree):
        name = f"{path} {where}: {what}"
        seen[name] = seen.get(name, 0) + 1
        undo = edit()
        mutated = ast.unparse(ast.fix_missing_locations(tree))
        undo()
        yield Mutant(name if seen[name] == 1 else f"{name} ({seen[name]})", path, mutated)


def every_mutant(package: Path) -> list[Mutant]:
    return [
        mutant
        for file in sorted(package.rglob("*.py"))
        for mutant in mutants_of(file.relative_to(package).as_posix(), file.read_text())
    ]


class _Finder:
    """Every (function, what is deleted there, edit) of a module, in order."""

    def sites(self, tree: ast.AST, where: str = "") -> Iterator[tuple[str, str, Edit]]:
        for node in ast.iter_child_nodes(tree):
            inside = where
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                inside = f"{where}.{node.name}" if where else node.name
            for what, edit in self._here(node):
                yield inside or "module", what, edit
            yield from self.sites(node, inside)

    def _here(self, node: ast.AST) -> Iterator[tuple[str, Edit]]:
        match node:
            case ast.If() if _refuses(node):
                yield f"if {ast.unparse(node.test)}", _never(node)
                yield from _operands(node.test)
            case ast.Return(value=ast.IfExp(orelse=ast.Constant(value=None)) as either):
                yield ast.unparse(node), _set(either, test=ast.Constant(True))
            case ast.Return(value=ast.BoolOp() as both):
                yield from _operands(both)
            case ast.GeneratorExp(elt=ast.BoolOp() as both):
                yield from _operands(both)
            case ast.ExceptHandler() | ast.match_case():
                for i, statement in enumerate(node.body):
                    if isinstance(statement, ast.Raise):
                        yield ast.unparse(statement), _replace(node.body, i, ast.Pass())
            case ast.Expr(value=ast.Call() as call) if _is_check(call):
                yield ast.unparse(node), _set(node, value=ast.Constant(None))
                yield from _operands(call)


def _operands(condition: ast.AST) -> Iterator[tuple[str, Edit]]:
    """One operand fewer, of every `and`, `or` and chain of comparisons in it."""
    for node in ast.walk(condition):
        whole = ast.unparse(node) if isinstance(node, ast.BoolOp | ast.Compare) else ""
        if isinstance(node, ast.BoolOp):
            for i, value in enumerate(node.values):
                rest = node.values[:i] + node.values[i + 1 :]
                yield (
                    f"{ast.unparse(value)} [of {whole}]",
                    _set(node, values=rest if len(rest) > 1 else rest * 2),
                )
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            terms = [node.left, *node.comparators]
            without_first = _set(node, left=terms[1], ops=node.ops[1:], comparators=terms[2:])
            yield f"{ast.unparse(terms[0])} [of {whole}]", without_first
            without_last = _set(node, ops=node.ops[:-1], comparators=node.comparators[:-1])
            yield f"{ast.unparse(terms[-1])} [of {whole}]", without_last


def _refuses(node: ast.If) -> bool:
    """Whether what hangs on the condition is a raise, or an answer of None or False."""
    last = node.body[-1]
    if isinstance(last, ast.Return):
        return last.value is None or (isinstance(last.value, ast.Constant) and not last.value.value)
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return ast.unparse(last.value.func).startswith(("refuse", "_refuse"))  # a function that only raises
    return isinstance(last, ast.Raise)


def _is_check(call: ast.Call) -> bool:
    """Of a check, or of a record that is kept before a masked input leaves or a set is signed."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("_once", "once", "sign", "_check", "set_exactly") or name.lstrip("_").startswith("check_")


def _never(node: ast.If) -> Edit:
    # The condition is still looked at: it may name something that is used further down.
    return _set(node, test=ast.BoolOp(ast.And(), [node.test, ast.Constant(False)]))


def _set(node: ast.AST, **new: object) -> Edit:
    def edit() -> Callable[[], None]:
        old = {field: getattr(node, field) for field in new}
        vars(node).update(new)
        return lambda: vars(node).update(old)

    return edit


def _replace(statements: list[ast.stmt], i: int, new: ast.stmt) -> Edit:
    def edit() -> Callable[[], None]:
        old, statements[i] = statements[i], new

        def undo() -> None:
            statements[i] = old

        return undo

    return edit


# Running the tests against it


def in_stages(tests: list[Path], path: str) -> list[list[Path]]:
    """The test files: those that are likely to notice, the others, and those that take long."""
    likely = [file for name in LIKELY.get(path, []) for file in tests if file.stem == name]
    late = [file for file in tests if file.stem in LATE and file not in likely]
    others = [file for file in tests if file not in likely and file not in late]
    return [stage for stage in (likely, others, late) if stage]


def verdict_on(mutant: Mutant, folder: Path, stages: list[list[Path]], limit: float) -> str:
    """What the tests make of this module in the place of the package's own: "SURVIVES" where every one
    passes, "hangs" where a stage has not ended after `limit` seconds, else "killed".
    """
    module = folder / "secagg" / mutant.path
    original = module.read_text()
    try:
        module.write_text(mutant.source)
        return "SURVIVES" if all(_passes(folder, stage, limit) for stage in stages) else "killed"
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        module.write_text(original)


def _passes(folder: Path, tests: list[Path], limit: float | None = None) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    # Appended to the path, and run outside of it, the checkout does not hide the copy of the package.
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "--import-mode=append"]
    command += ["--hypothesis-seed=0", *map(str, tests)]
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=limit, check=False
    )
    if done.returncode == 5:
        raise SystemExit(f"no tests: {done.stdout.decode()}")
    return done.returncode == 0


class Run:
    """All mutants against the tests, two at a time, each worker in a copy of the package of its own."""

    def __init__(self, package: Path, mutants: list[Mutant], tests: list[Path], scratch: Path) -> None:
        self.mutants, self.tests, self.started = mutants, tests, time.monotonic()
        self.done, self.hung, self._limit = 0, 0, float(HANGS)
        self._package, self._scratch = package, scratch
        self._local, self._lock = threading.local(), threading.Lock()

    def survivors(self) -> list[str]:
        self._check_the_ground()
        with ThreadPoolExecutor(WORKERS) as pool:
            alive = list(pool.map(self._try, self.mutants))
        return [mutant.name for mutant, survived in zip(self.mutants, alive, strict=True) if survived]

    def _folder(self) -> Path:
        if not hasattr(self._local, "folder"):
            self._local.folder = Path(tempfile.mkdtemp(dir=self._scratch))
            shutil.copytree(self._package, self._local.folder / "secagg")
        return self._local.folder

    def _check_the_ground(self) -> None:
        """The tests pass as things are, and fail where the copy does not load: it is what they import."""
        if not _passes(self._folder(), self.tests):
            raise SystemExit("the tests fail without any mutant")
        seconds = time.monotonic() - self.started
        # Two at a time they take longer, and one that is only slow is not to pass for one that hangs.
        self._limit = max(HANGS, 3 * seconds)
        broken = Mutant("broken", "__init__.py", "raise ImportError")
        if verdict_on(broken, self._folder(), [self.tests[:1]], self._limit) != "killed":
            raise SystemExit("the tests do not import the copy of the package")
        print(f"the tests pass, in {seconds:.0f} s; {len(self.mutants)} mutants")

    def _try(self, mutant: Mutant) -> bool:
        start = time.monotonic()
        verdict = verdict_on(mutant, self._folder(), in_stages(self.tests, mutant.path), self._limit)
        now = time.monotonic()
        with self._lock:
            self.done += 1
            self.hung += verdict == "hangs"
            print(
                f"[{self.done:3}/{len(self.mutants)} {now - self.started:5.0f} s] {verdict:8} "
                f"{now - start:5.1f} s  {mutant.name}",
                flush=True,
            )
        return verdict == "SURVIVES"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-k", default="", metavar="TEXT", help="only mutants with this in their name")
    arguments.add_argument("--list", action="store_true", help="name the mutants, run nothing")
    arguments.add_argument("tests", nargs="*", type=Path, help="folders of tests; those of the core if none")
    given = arguments.parse_args()
    folders = given.tests or [ROOT / "tests" / "secagg", ROOT / "tests" / "enemies"]
    tests = sorted(file.resolve() for folder in folders for file in folder.glob("test_*.py"))
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        package = Path(scratch) / "secagg"  # as it is now: the checkout may change while this runs
        shutil.copytree(ROOT / "secagg", package, ignore=shutil.ignore_patterns("__pycache__"))
        mutants = [mutant for mutant in every_mutant(package) if given.k in mutant.name]
        if given.list:
            print("\n".join(mutant.name for mutant in mutants))
            return 0
        run = Run(package, mutants, tests, Path(scratch))
        alive = run.survivors()
    unexplained = [name for name in alive if name not in SURVIVORS]
    stale = [name for name in SURVIVORS if name in {m.name for m in mutants} - set(alive)]
    gone = [name for name in SURVIVORS if not given.k and name not in {m.name for m in mutants}]
    minutes = (time.monotonic() - run.started) / 60
    hung = f", {run.hung} of them since they hang," if run.hung else ""
    print(f"{len(mutants) - len(alive)} of {len(mutants)} killed{hung} in {minutes:.1f} minutes")
    for label, names in {
        "survives, and no reason is given": unexplained,
        "is listed as a survivor, and was killed": stale,
        "is listed as a survivor, and does not exist": gone,
    }.items():
        for name in names:
            print(f"{label}: {name}")
    return 1 if unexplained or stale or gone else 0


if __name__ == "__main__":
    sys.exit(main())
