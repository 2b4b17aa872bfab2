"""What the fuzzer has found, kept as cases: see `fuzz.py`."""

import fuzz
import pytest

CORPUS = fuzz.corpus()


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) > 100


@pytest.mark.parametrize("part", range(10))
def test_every_kept_input_is_read_the_same_however_it_is_cut(part: int) -> None:
    for data in CORPUS[part::10]:
        fuzz.check(data)
