"""What is found inside a query is what taking it apart finds; both builds give the same answers."""

import re
from urllib.parse import quote_plus, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import interpreted

from nucleon.binding import call, scanning

QUERIES = st.text("ab=&%+\u00e9\0", max_size=24)


@given(QUERIES, st.text("ab\u00e9", min_size=1, max_size=2))
def test_a_value_that_is_found_is_the_only_one_of_its_field(query: str, name: str) -> None:
    start = scanning.value_start(query, name)
    if start == scanning.UNSURE:
        is_repeated = query.isascii() and len(call.fields_from(query.replace("%", "").replace("+", ""), "query").get(name, ())) > 1
        assert is_repeated or "%" in query or "+" in query or not query.isascii() or not name.isascii()
    elif start == scanning.ABSENT:
        assert name not in call.fields_from(query, "query")
    else:
        assert call.fields_from(query, "query")[name] == [query[start : scanning.value_end(query, start)]]


@pytest.mark.parametrize("length", [scanning.SHORT, scanning.SHORT + 1])
def test_a_long_query_is_taken_apart(length: int) -> None:
    assert (scanning.value_start("a=".ljust(length, "x"), "a") == scanning.UNSURE) is (length > scanning.SHORT)


@given(st.text("0129-+. _\u0661", max_size=20) | st.integers(0, 10**20).map(str), st.integers(0, 3))
def test_a_number_is_digits_as_json_writes_them(text: str, start: int) -> None:
    digits = text[start:]
    expected = int(digits) if re.fullmatch("0|[1-9][0-9]{0,17}", digits) and text.isascii() else -1
    assert scanning.number_in(text, min(start, len(text)), len(text)) == expected


@given(st.text("a+%2fcC3zA9\u00e9", max_size=12) | st.text().map(quote_plus) | st.binary(max_size=8).map(quote_plus))
def test_what_is_encoded_is_decoded_as_the_standard_library_does(text: str) -> None:
    try:
        expected = unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            scanning.decoded(text)
    else:
        assert scanning.decoded(text) == expected


@given(QUERIES, st.text("ab\u00e9", min_size=1, max_size=2))
def test_both_twins_find_the_same(query: str, name: str) -> None:
    other = interpreted(scanning)
    assert (other.ABSENT, other.UNSURE, other.SHORT) == (scanning.ABSENT, scanning.UNSURE, scanning.SHORT)
    assert other.value_start(query, name) == scanning.value_start(query, name)
    for start in range(len(query)):
        assert other.value_end(query, start) == scanning.value_end(query, start)
        assert other.number_in(query, start, len(query)) == scanning.number_in(query, start, len(query))
