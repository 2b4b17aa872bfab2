import pytest

from nucleon.errors import Conflict, Invalid, NotFound, Problem, Unavailable
from nucleon.secret import Secret


class OutOfStock(Conflict):
    sku: str
    left: int


def test_a_problem_document_has_the_members_of_rfc_9457() -> None:
    document = NotFound("no order 7").document(instance="/orders/7", request_id="r-1")
    assert document == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no order 7",
        "instance": "/orders/7",
        "request_id": "r-1",
    }


def test_an_annotated_subclass_is_a_problem_type_with_extension_members() -> None:
    problem = OutOfStock("none left", sku="A-1", left=0)
    assert problem.document() == {
        "type": "urn:problem-type:out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "none left",
        "sku": "A-1",
        "left": 0,
    }
    assert problem.sku == "A-1"


def test_members_that_are_missing_or_unknown_are_refused_where_the_problem_is_raised() -> None:
    with pytest.raises(TypeError, match=r"missing members \['left'\]"):
        OutOfStock(sku="A-1")
    with pytest.raises(TypeError, match=r"unknown members \['colour'\]"):
        NotFound(colour="red")


def test_a_member_named_like_a_standard_one_is_refused_where_the_class_is_written() -> None:
    with pytest.raises(TypeError, match="status"):
        type("Shadow", (Problem,), {"__annotations__": {"status": int}})


def test_invalid_input_carries_every_fault() -> None:
    faults = [{"location": "body", "pointer": "/name", "message": "is missing"}]
    assert Invalid("1 fault", errors=faults).document()["errors"] == faults


def test_unavailable_says_when_to_come_back() -> None:
    assert Unavailable("full", retry_after_seconds=3).headers == {"Retry-After": "3"}


def test_a_secret_shows_nothing_and_is_compared_by_value() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret!r} {secret} {[secret]}"
    assert secret == Secret("hunter2")
    assert secret != Secret("other")
    assert secret.reveal() == "hunter2"
    with pytest.raises(TypeError, match="not pickled"):
        secret.__reduce__()
