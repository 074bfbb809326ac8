"""docs/errors.md is what the code makes it; every message on it has a test that expects it."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterable, Iterator

import pytest

from tests.docs.errors_page import PAGE, ROOT, Code, Site, blocks, exit_code, messages, pieces, remedies
from tests.docs.pages import rewritten

CODE = Code.of_the_packages()
SITES = CODE.sites()
TEXTS = list(dict.fromkeys(site.text for site in SITES))

WITHOUT_WORDS = {
    "RemoteProtocolError(str(error))": "of check_vectors, about a vector of a plain session",
    "ConfigError(str(error))": "of fl.cohort.selection, about who can be chosen",
    "ConfigError(said.removeprefix('error: '))": "of the benchmarks, from their own process",
    "SessionOverError(frame.reason)": "of the server",
    "ConfigError((folder / REFUSED).read_text(encoding='utf-8'))": "of an attack, from its own process",
    "ValueError": "of transport.journal: a line not its own, which its one handler calls damage",
    "typer.Exit": "no error: --version",
    "server.lost": "why the last sum had too few clients",
    "_DisconnectedError": "the session goes on, or is over with the words of `disconnected`",
    "NotImplementedError": "of a scheme that calls its sessions suspendable, and says no more",
    "cause": "what a task of a cluster raised",
    "AssertionError": "the end of a loop that has none",
}
"""What is raised without words of its own, and whose words it passes on."""

UNREACHABLE = {
    "the server asked for a message that was not announced": "a client announces a message before it listens",
    "{key} after {last}: clients come first, and ids must ascend: give each party's public key once": (
        "`sign` sorts them"
    ),
}
"""Messages that nothing outside their own function can bring about, and why."""


# The page


def test_the_page_is_what_the_code_makes_it() -> None:
    page = PAGE.read_text()
    assert rewritten(page, blocks(CODE)) == page, "stale: run `python -m tests.docs.errors_page`"


def test_a_table_that_was_changed_is_rewritten_and_the_rest_is_not() -> None:
    page = "# Errors\n\n<!-- begin a -->\n| by hand |\n<!-- end a -->\n\n| by hand |\n"
    assert rewritten(page, {"a": "| made |"}) == page.replace("| by hand |", "| made |", 1)


@pytest.mark.parametrize("made", [{"a": ""}, {"a": "", "b": "", "c": ""}])
def test_a_page_with_other_tables_than_are_made_is_refused(made: dict[str, str]) -> None:
    with pytest.raises(LookupError, match=r"alone: \['[bc]'\]"):
        rewritten("<!-- begin a -->\n\n<!-- end a -->\n<!-- begin b -->\n\n<!-- end b -->\n", made)


def test_a_message_stands_once_with_its_modules_and_what_helps() -> None:
    sites = [Site(f"fl/{name}.py", "E", text) for name, text in (("b", "one"), ("a", "two"), ("c", "one"))]
    assert messages(sites, {"two": "retry"}).splitlines()[2:] == [
        "| `one` |  | `fl.b`, `fl.c` |",
        "| `two` | retry | `fl.a` |",
    ]


def test_a_remedy_is_of_a_message_and_says_something() -> None:
    said = {(site.kind, site.text) for site in SITES}
    helps = {(kind, text): what for kind, of in remedies().items() for text, what in of.items()}
    assert {key for key in helps if key[1] != "again"} <= said, "see tests/docs/remedies.toml"
    assert all(helps.values())


def test_every_class_says_whether_to_try_again() -> None:
    raised = {site.kind for site in SITES if site.kind in CODE.classes}
    assert raised == {kind for kind, of in remedies().items() if "again" in of}


def test_the_exit_code_is_that_of_the_nearest_base_class() -> None:
    assert [exit_code(CODE, kind) for kind in ("TransportError", "RemoteProtocolError")] == [1, 4]


# What the code says


def test_everything_raised_has_words_of_its_own_or_passes_on_those_of_another() -> None:
    assert CODE.without_words() == WITHOUT_WORDS.keys()


SAMPLE = '''
class Fault(Exception):
    """Said by itself."""

class _Inner(Exception):
    def __init__(self, place, message):
        super().__init__(message[:500])

class Few(Fault):
    def __init__(self, left, of=None):
        who = "" if of is None else f" of {of}"
        super().__init__(f"{left} left{who}")

def check(condition, message):
    if not condition:
        raise Fault(message)

def why(error):
    if error:
        return "no room"
    return f"no {error}", "or this"

def f(self, n, path, error):
    check(n > 1, f"{n} is not above 1")
    check(n > 2, error.strerror)
    label = f"vector {n!r}" if n else "the vector"
    try:
        raise _Inner(3, "bad line")
    except _Inner as inner:
        raise Fault(f"{path}: {inner}")
    raise Fault(f"{label} of {len(n)} in {', '.join(map(str, path))}: {error.strerror}")
    raise Fault(why(error))
    raise Few(3)
    raise Fault(str(error))
    raise error
    self.lose(n, "late" if error else "gone")
'''


def test_the_words_are_read_off_the_source() -> None:
    code = Code({"secagg/sample.py": SAMPLE})
    assert {(site.kind, site.text) for site in code.sites()} == {
        ("Fault", "{n} is not above 1"),
        ("Fault", "{path}: bad line"),
        ("Fault", "vector {n} of {len(n)} in {path}: {strerror}"),
        ("Fault", "no room"),
        ("Fault", "or this"),
        ("Few", "{left} left[ of {of}]"),
        ("reason", "late"),
        ("reason", "gone"),
    }
    assert code.without_words() == {"check(n > 2, error.strerror)", "Fault(str(error))", "error"}


def test_of_a_message_without_placeholders_the_pieces_are_left() -> None:
    assert pieces("{n} is[ not] {len(n)}, such as {'a'}") == ["", " is", " not", " ", ", such as {'a'}"]


# Tests


def constants(source: str) -> Iterator[str]:
    """The strings of a test that can be expectations, as `match` reads them, with 0 for what is filled in:
    neither docstrings nor what it raises itself."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree := ast.parse(source)):
        match node:
            case ast.Raise() | ast.Expr(value=ast.Constant()):
                skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if node not in skipped:
                pass
            case ast.JoinedStr(values=parts) if node not in skipped:
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
            case _:
                continue
        for part in re.split(r"(?<!\\)(?:\.[*+]|\|)", text):
            yield re.sub(r"\\(.)", r"\1", part.removeprefix("^").removesuffix("$"))


LEAST = 8  # characters that two words have


def overlap(string: str, piece: str) -> str:
    """Where one is a part of the other, or begins as the other ends: that text. Empty where they differ."""
    if string in piece or piece in string:
        return min(string, piece, key=len)
    start, end = string.rfind(piece[:LEAST]), string.find(piece[-LEAST:]) + LEAST
    if start >= 0 and piece.startswith(string[start:]):
        return string[start:]
    return string[:end] if end >= LEAST and piece.endswith(string[:end]) else ""


def whole(text: str) -> re.Pattern[str]:
    """What a message looks like, whatever is filled in."""
    parts = re.split(r"(\{\w[^{}]*\}|[\[\]])", text)
    filled = {"[": "(?:", "]": ")?"}
    parts[1::2] = [filled.get(part, ".+") for part in parts[1::2]]
    parts[::2] = map(re.escape, parts[::2])
    return re.compile("".join(parts))


def expected(texts: Iterable[str], strings: Iterable[str]) -> set[str]:
    """Which of the messages these strings expect.

    A string expects the message that has two words in a row with it, and nowhere contradicts it, if no other
    message has them; or that it is as a whole, and of several the one with the most words of its own.
    """
    patterns = {text: whole(text) for text in texts}
    own = {text: len("".join(pieces(re.sub(r"\[.*?\]", "", text)))) for text in patterns}
    of = [(piece, text) for text in patterns for piece in pieces(text) if len(piece) >= LEAST]
    sharing: dict[str, set[tuple[str, str]]] = {}  # so that few of the many are compared
    for piece, text in of:
        for run in runs(piece):
            sharing.setdefault(run, set()).add((piece, text))
    short = patterns.keys() - {text for _, text in of}
    found: set[str] = set()
    for string in set(strings):
        near = set().union(*(sharing.get(run, ()) for run in runs(string)))
        whole_ones = [text for text in short | {text for _, text in near} if own[text]]
        fitting = [text for text in whole_ones if patterns[text].fullmatch(string)]
        found |= {text for text in fitting if own[text] == max(own[other] for other in fitting)}
        for piece, text in near if " " in string else ():
            common = overlap(string, piece)
            if len(common) >= LEAST and " " in common.strip():
                found |= {text} if {name for other, name in of if common in other} == {text} else set()
    return found


def runs(text: str) -> set[str]:
    """Of letters in a row, each that is as long as two words are at least."""
    return {text[at : at + LEAST] for at in range(len(text) - LEAST + 1)}


@functools.cache
def expected_by_the_tests() -> set[str]:
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "docs"]
    strings = [constants(path.read_text()) for path in paths if path.name != "mutants.py"]
    return expected(TEXTS, itertools.chain.from_iterable(strings))


def test_every_message_has_a_test_that_expects_it() -> None:
    known = expected_by_the_tests() | UNREACHABLE.keys()
    assert {site.text: site.path for site in SITES if site.text not in known} == {}


def test_what_is_excused_from_having_a_test_is_still_there_and_has_none() -> None:
    assert UNREACHABLE.keys() <= set(TEXTS) - expected_by_the_tests()


MESSAGES = [
    "{path} holds NaN or infinity",
    "the mean holds NaN or infinity",
    "no round {name}: the rounds are {rounds}",
    "late",
    "{n} clients left[ of client {of}]",
]


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("the mean holds NaN", 1),
        ("error: the mean holds NaN or infinity (see --help)", 1),
        ("holds NaN or infinity", None),  # of either
        ("the mean of NaN or infinity", None),  # contradicts both
        ("x.npz holds NaN or infinity", 0),
        ("no round 'lunch': the rounds are join", 2),
        ("infinity", None),  # one word
        ("late", 3),
        ("too late", None),
        ("3 clients left", 4),
        ("clients left of client 3", 4),
        ("clients are left", None),
    ],
)
def test_a_string_expects_the_one_message_that_has_its_words(string: str, message: int | None) -> None:
    assert expected(MESSAGES, [string]) == ({MESSAGES[message]} if message is not None else set())


def test_docstrings_and_what_a_test_raises_expect_nothing() -> None:
    source = (
        '"""Of the file."""\n'
        "def test():\n"
        '    """Of the test."""\n'
        '    with pytest.raises(Fault, match=r"^words \\(2\\) .*then more$"):\n'
        '        raise Fault("raised by itself")\n'
        '    refuses(here, "an argument", f"{n} left|gone")\n'
    )
    assert set(constants(source)) == {"words (2) ", "then more", "an argument", "0 left", " left", "gone"}
