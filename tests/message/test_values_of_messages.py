"""Models, patches, pages, events and Accept."""

from typing import Annotated

import msgspec
import pytest

from nucleon.errors import ContentTooLarge, Invalid
from nucleon.message import Event, Headers, Len, Max, Min, Model, Page, PageQuery, Patch, Pattern, Request, cursor_from, partial_from
from nucleon.message.accept import preferred


class Thing(Model):
    name: Annotated[str, Len(1, 3), Pattern("^[a-z]+$")]
    size: Annotated[int, Min(0), Max(9)] = 1


@pytest.mark.parametrize(
    "text", ['{"name":"abcd"}', '{"name":""}', '{"name":"A"}', '{"name":"a","size":10}', '{"name":"a","size":-1}', '{"name":"a","x":1}']
)
def test_a_model_refuses_what_its_constraints_forbid(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Thing)


def test_a_patch_holds_what_was_named_and_makes_a_changed_copy() -> None:
    partial = msgspec.json.decode(b'{"size":3}', type=partial_from(Thing))
    assert partial.name is msgspec.UNSET  # type: ignore[attr-defined]
    patch: Patch[Thing] = Patch({"size": 3})
    assert patch.applied_to(Thing("a")) == Thing("a", 3)
    assert dict(patch) == {"size": 3} and "name" not in patch and not Patch({})


@pytest.mark.parametrize("key", [7, "a/b", [1, "x"]])
def test_a_cursor_comes_back_as_its_key(key: object) -> None:
    assert PageQuery(cursor=cursor_from(key)).after(type(key), type(key)()) == key


@pytest.mark.parametrize("cursor", ["%", "abc", cursor_from("text")])
def test_a_broken_cursor_is_invalid(cursor: str) -> None:
    with pytest.raises(Invalid):
        PageQuery(cursor=cursor).after(int, 0)


def test_a_page_knows_whether_another_follows() -> None:
    query = PageQuery(limit=2)
    assert query.fetch == 3
    assert Page.of([1, 2], query, key=lambda one: one).next is None
    more = Page.of([1, 2, 3], query, key=lambda one: one)
    assert more.items == [1, 2] and more.next == cursor_from(2)


def test_an_event_cannot_smuggle_lines() -> None:
    with pytest.raises(ValueError):
        Event(1, name="a\ndata: b")
    assert Event(1, name="a", id="2", retry_ms=3).head() == "event: a\nid: 2\nretry: 3\n"


@pytest.mark.parametrize(
    ("accept", "offer"),
    [("*/*", "a/b"), ("a/c", "a/c"), ("a/*;q=0.5, a/c", "a/c"), ("a/b;q=0, a/*", "a/c"), ("html/x", None), ("a/b;q=x", None), ("", None)],
)
def test_the_preferred_offer_is_chosen(accept: str, offer: str | None) -> None:
    assert preferred(accept, ("a/b", "a/c")) == offer


def test_a_body_beyond_its_limit_is_refused_even_without_a_length() -> None:
    import io

    assert Request("PUT", "/", body_reader=io.BytesIO(b"abc")).body(3) == b"abc"
    with pytest.raises(ContentTooLarge):
        Request("PUT", "/", body_reader=io.BytesIO(b"abcd")).body(3)
    untouched = io.BytesIO(b"abcd")
    with pytest.raises(ContentTooLarge):
        Request("PUT", "/", headers=Headers({"content-length": "4"}), body_reader=untouched).body(3)
    assert untouched.tell() == 0
