"""Paths to routes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nucleon.routing import Match, NoRoute, Router, WrongMethod, pattern_from


def router(*routes: tuple[str, str]) -> Router[str]:
    made: Router[str] = Router()
    for method, text in routes:
        assert made.add(method, pattern_from(text), f"{method} {text}") is None
    return made


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/a/b", "GET /a/b", {}),
        ("/a/x", "GET /a/{id}", {"id": "x"}),
        ("/a/b/c", "GET /a/{id}/c", {"id": "b"}),
        ("/a/b/d/e", "GET /a/{rest:path}", {"rest": "b/d/e"}),
        ("/", "GET /", {}),
    ],
)
def test_the_closest_route_wins(path: str, route: str, params: dict[str, str]) -> None:
    found = router(("GET", "/"), ("GET", "/a/b"), ("GET", "/a/{id}"), ("GET", "/a/{id}/c"), ("GET", "/a/{rest:path}")).find("GET", path)
    assert isinstance(found, Match)
    assert (found.route, found.params) == (route, params)


def test_a_known_path_with_another_method_says_which() -> None:
    assert router(("GET", "/a"), ("POST", "/{x}")).find("PUT", "/a") == WrongMethod(("GET", "HEAD", "OPTIONS", "POST"))


def test_a_static_path_without_the_method_does_not_hide_a_parameter() -> None:
    found = router(("POST", "/a/b"), ("GET", "/a/{id}")).find("GET", "/a/b")
    assert isinstance(found, Match) and found.route == "GET /a/{id}"


def test_an_unknown_path_is_no_route() -> None:
    made = router(("GET", "/a/{id}"))
    for path in ("/", "/a", "/a/", "/a/b/", "/b"):
        assert isinstance(made.find("GET", path), NoRoute)


def test_the_same_shape_twice_gives_the_first() -> None:
    assert router(("GET", "/a/{id}")).add("GET", pattern_from("/a/{name}"), "other") == "GET /a/{id}"


@pytest.mark.parametrize("text", ["a", "/{a}-{b}", "/{a}/{a}", "/{a:path}/b", "/{1}", "/{a"])
def test_a_wrong_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        pattern_from(text)


@given(st.text(min_size=1).filter(lambda text: "/" not in text))
def test_a_path_built_from_a_pattern_matches_it(value: str) -> None:
    found = router(("GET", "/a/{id}/c")).find("GET", f"/a/{value}/c")
    assert isinstance(found, Match) and found.params == {"id": value}
