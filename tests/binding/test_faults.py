"""All faults of a value, with pointers."""

from typing import Any, Generic, TypeVar

import msgspec
import pytest

from nucleon.binding.faults import MAXIMUM_FAULTS, faults_of
from nucleon.message import Model

T = TypeVar("T")


class Node(Model):
    v: int
    kids: list["Node"] = []


class Cat(Model, tag="cat"):
    lives: int


class Dog(Model, tag="dog"):
    name: str


class Box(Model, Generic[T]):
    inside: T


@pytest.mark.parametrize(
    ("value", "kind", "pointers"),
    [
        ({"v": 1, "kids": [{"v": 2}]}, Node, []),
        ({"v": 1, "kids": [{"v": "x"}, {"w/x": 1}]}, Node, ["/kids/0/v", "/kids/1/v", "/kids/1/w~1x"]),
        ([1, "a", 2, None], list[int], ["/1", "/3"]),
        ({"a": 1, "b": "x"}, dict[str, int], ["/b"]),
        ({"type": "dog", "name": 1, "z": 1}, Cat | Dog, ["/name", "/z"]),
        ({"type": "cow"}, Cat | Dog, ["/type"]),
        ({"inside": 1, "more": 2}, Box[str], ["/inside", "/more"]),
        ([1, "a"], tuple[str, int], ["/0", "/1"]),
        (5, Node, [""]),
    ],
)
def test_every_fault_has_its_pointer(value: Any, kind: Any, pointers: list[str]) -> None:
    assert [pointer for pointer, _ in faults_of(value, kind)] == pointers


def test_faults_are_bounded() -> None:
    assert len(faults_of(["x"] * 1000, list[int])) == MAXIMUM_FAULTS


def test_a_message_does_not_repeat_its_path() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"v": "x"}, Node)
    assert faults_of({"v": "x"}, Node) == [("/v", "Expected `int`, got `str`")]
