"""Text from docstrings: what becomes of words, and that no test docstring is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl import data
from fl.data import DataError, docstrings
from fl.data.docstrings import LENGTH, MODULES, UNKNOWN, VOCABULARY
from fl.data.verify import check_dataset


@pytest.fixture(scope="module")
def text() -> data.Dataset:
    return data.load("text")


def test_text_is_windows_of_eight_words_and_the_next(text: data.Dataset) -> None:
    check_dataset(text)
    assert (text.name, text.shape, text.classes) == ("text", (LENGTH,), VOCABULARY)
    assert text.words[0] == UNKNOWN
    assert len(set(text.words)) == len(text.words) == text.classes
    assert 10_000 < len(text.test_y) < len(text.train_y) < 500_000


def test_an_unknown_word_is_read_and_never_to_be_predicted(text: data.Dataset) -> None:
    for x, y in ((text.train_x, text.train_y), (text.test_x, text.test_y)):
        assert (x == 0).any()
        assert (y > 0).all()


def test_common_words_have_low_tokens(text: data.Dataset) -> None:
    counts = np.bincount(text.train_y, minlength=text.classes)
    assert {"the", "a", "of", "to", "is"} <= set(text.words[1:12])
    assert counts[1:20].min() > counts[-500:].max()


WORDS = "one two three four five six seven eight nine"
SOURCE = f'''"""{WORDS}"""
# No comment, no "string" and no code counts.
x = """not a docstring at all, however long it may be, of many words in a row"""
class A:
    """{WORDS} It's TEN."""
    def f(self):
        """{WORDS}"""
    async def g(self):
        """too short"""
def h():
    """{" ".join(reversed(WORDS.split()))}"""
def i():
    """{WORDS} two"""
'''


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of one module and one package, with tests that do not count."""
    monkeypatch.setattr(docstrings, "MODULES", ("alpha", "beta"))
    monkeypatch.setattr(docstrings, "standard_library", lambda: tmp_path)
    (tmp_path / "alpha.py").write_text(SOURCE)
    (tmp_path / "beta" / "test").mkdir(parents=True)
    (tmp_path / "beta" / "__init__.py").write_text("")
    (tmp_path / "beta" / "inner.py").write_text('"""nine nine nine nine nine nine nine nine nine nine"""')
    (tmp_path / "beta" / "test" / "test_it.py").write_text('"""a a a a a a a a a a a a"""')
    return tmp_path


def test_documents_go_by_file_and_line_count_once_and_every_fourth_is_for_the_test(small: Path) -> None:
    """In order: the module, A, g, h, i, inner; f says what the module says. Held out: the module and i. Words
    are by their number in the others, and equally common ones by the alphabet.
    """
    text = docstrings.text(small)
    assert text.words == (
        *(UNKNOWN, "nine", "eight", "five", "four", "one", "seven", "six", "three", "two"),
        *("it's", "short", "ten", "too"),
    )

    def read(x: np.ndarray, y: np.ndarray) -> list[str]:
        return [
            " ".join(text.words[token] for token in (*window, label))
            for window, label in zip(x, y, strict=True)
        ]

    assert read(text.test_x, text.test_y) == [WORDS, WORDS, "two three four five six seven eight nine two"]
    assert read(text.train_x, text.train_y) == [
        WORDS,
        "two three four five six seven eight nine it's",
        "three four five six seven eight nine it's ten",
        "nine eight seven six five four three two one",
        *["nine nine nine nine nine nine nine nine nine"] * 2,
    ]


def test_beyond_the_vocabulary_words_are_unknown_and_not_predicted(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docstrings, "VOCABULARY", 3)
    text = docstrings.text(small)
    assert text.words == (UNKNOWN, "nine", "eight")
    assert set(text.train_y) == {1}
    assert text.train_x[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 2]


def test_a_python_without_sources_has_no_text(small: Path) -> None:
    (small / "alpha.py").unlink()
    assert docstrings.absent(small) == ["alpha"]
    with pytest.raises(DataError, match="lacks alpha: install Python with the sources of its library"):
        docstrings.text(small)


def test_no_module_is_listed_twice() -> None:
    assert sorted(set(MODULES)) == list(MODULES)
