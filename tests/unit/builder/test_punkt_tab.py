"""NLTK on the converted tables against the package that the tables come from."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nltk
import numpy as np
import punkt
import pytest
from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTokenizer

from builder.assemble import locate, write_tables
from builder.pins import PackageProfile

LANGUAGES = [name for name in punkt.available_languages() if name != "english_web"]

Spans = list[tuple[int, int]]

ENGLISH = (
    "Dr. Smith of Acme Inc. met Prof. J. S. Bach at 5 p.m. on Jan. 3. He paid $3.50 (approx. "
    'two pounds). "Why?" she asked. Mr. Brown vs. the U.S. Government... It went on. OK!'
)


@pytest.fixture(scope="module")
def nltk_data(
    tmp_path_factory: pytest.TempPathFactory, demo_profile: PackageProfile
) -> Iterator[Path]:
    """Every language's tables, where NLTK looks first."""
    folder = tmp_path_factory.mktemp("nltk_data")
    model = next(m for m in demo_profile.models if m.kind == "nltk_data")
    for file in model.files:
        write_tables(locate(file, demo_profile.distributions), folder / file.to)
    nltk.data.path.insert(0, str(folder))
    yield folder
    nltk.data.path.remove(str(folder))


def reference(language: str) -> Callable[[str], Spans]:
    """The package's own splitter, without the extension that `punkt_tab` has no place for."""
    parameters = replace(punkt.load_model(language), numeric_abbrev_types=set())
    splitter = punkt.PunktSentenceTokenizer(parameters)
    return lambda text: list(splitter.span_tokenize(text))


def compose(language: str, rng: np.random.Generator) -> str:
    """Compose a text out of the words that the tables know something about."""
    tables = punkt.load_model(language)
    known = [
        [f"{word}." for word in sorted(tables.abbrev_types)],
        sorted(tables.sent_starters),
        [". ".join(pair).replace("##number##", "17") for pair in sorted(tables.collocations)],
        sorted(tables.ortho_context),
        [f"{word}{mark}" for word in sorted(tables.ortho_context)[::7] for mark in ".?!"],
        ["7", "42.", "B.", "1999,", "..."],
    ]
    usable = [words for words in known if words]
    chosen = [usable[rng.integers(len(usable))] for _ in range(60)]
    drawn = [words[rng.integers(len(words))] for words in chosen]
    words = [word for word in drawn if any(map(str.isalnum, word))]
    return " ".join(w.capitalize() if rng.random() < 0.4 else w for w in words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_as_the_package_does(language: str, nltk_data: Path) -> None:
    """Aligning gets the same sentences from NLTK as the package would give."""
    assert (nltk_data / "tokenizers" / "punkt_tab" / language).is_dir()
    rng = np.random.default_rng(1)
    texts = [compose(language, rng) for _ in range(12)]
    splitter, expected = PunktTokenizer(language), reference(language)
    assert [list(splitter.span_tokenize(t)) for t in texts] == [expected(t) for t in texts]


def test_abbreviations_make_a_difference(nltk_data: Path) -> None:
    """The tables are really read: an untrained splitter cuts after "Dr."."""
    assert nltk_data.is_dir()
    trained = list(PunktTokenizer("english").span_tokenize(ENGLISH))
    assert trained == reference("english")(ENGLISH)
    assert len(trained) < len(list(PunktSentenceTokenizer().span_tokenize(ENGLISH)))


def test_whisperx_finds_the_tables_by_the_name_it_asks_for(nltk_data: Path) -> None:
    """`whisperx.alignment` asks for a pickle that NLTK answers with the tables."""
    assert nltk_data.is_dir()
    splitter = nltk.data.load("tokenizers/punkt_tab/german.pickle")
    assert splitter.tokenize("Das ist z.B. ein Satz. Und noch einer.") == [
        "Das ist z.B. ein Satz.",
        "Und noch einer.",
    ]


def test_lines_are_sorted_so_that_two_builds_are_equal(nltk_data: Path) -> None:
    """Sets have no order, and the inventory of checksums needs one."""
    for path in (nltk_data / "tokenizers" / "punkt_tab" / "english").iterdir():
        lines = path.read_text(encoding="utf-8").split("\n")
        assert lines == sorted(lines)
