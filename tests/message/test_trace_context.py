"""W3C Trace Context: what is read, what is ignored, what is handed on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nucleon.message.trace import STATE_LIMIT, Trace, state_from, trace_from

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
hexadecimal = "0123456789abcdef"
ids = some.text(hexadecimal, min_size=32, max_size=32).filter(lambda one: one.strip("0"))
parents = some.text(hexadecimal, min_size=16, max_size=16).filter(lambda one: one.strip("0"))
keys = some.from_regex(r"[a-z][a-z0-9_*/-]{0,20}(@[a-z]{1,5})?", fullmatch=True)
values = some.from_regex(r"[!-+\--<>-~]{1,60}", fullmatch=True)
states = some.dictionaries(keys, values, max_size=32)


def joined(members: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in members.items())


@settings(max_examples=50, deadline=None)
@given(ids, parents, some.integers(0, 3), states)
def test_what_is_written_is_read_again(trace_id: str, parent_id: str, flags: int, members: dict[str, str]) -> None:
    trace = Trace(trace_id, parent_id, flags, state_from(joined(members)))
    assert trace_from(trace.fields()) == trace


@settings(max_examples=50, deadline=None)
@given(ids, parents, some.integers(0, 255))
def test_a_trace_is_handed_on_with_a_new_parent_and_the_flags_that_are_known(trace_id: str, parent_id: str, flags: int) -> None:
    trace = trace_from({"traceparent": f"00-{trace_id}-{parent_id}-{flags:02x}"})
    assert trace is not None
    handed_on = trace.handed_on()
    assert (handed_on.trace_id, handed_on.flags) == (trace_id, flags & 3)
    assert handed_on.parent_id != parent_id and len(handed_on.parent_id) == 16


@settings(max_examples=50, deadline=None)
@given(some.text(max_size=80), some.text(max_size=80))
def test_any_text_is_read_or_ignored(parent: str, state: str) -> None:
    assert trace_from({"traceparent": parent, "tracestate": state}) is None
    trace = trace_from({"traceparent": PARENT, "tracestate": state})
    assert trace is not None and trace.state == state_from(trace.state)


@settings(max_examples=50, deadline=None)
@given(states)
def test_a_long_state_loses_whole_members_and_keeps_their_order(members: dict[str, str]) -> None:
    given = [f"{key}={value}" for key, value in members.items()]
    kept = [member for member in state_from(joined(members)).split(",") if member]
    assert len(",".join(kept)) <= STATE_LIMIT
    assert kept == [member for member in given if member in kept]
    assert kept == given or len(",".join(given)) > STATE_LIMIT


@pytest.mark.parametrize(
    "malformed",
    [
        "", PARENT[:-1], PARENT.upper(), f" {PARENT}", f"{PARENT}\n", f"{PARENT}-more", f"{PARENT}, {PARENT}", PARENT.replace("-", "_"),
        f"ff-{TRACE_ID}-{PARENT_ID}-01", f"00-{'0' * 32}-{PARENT_ID}-01", f"00-{TRACE_ID}-{'0' * 16}-01", f"01{PARENT[2:]}.more",
        f"00-{TRACE_ID}-{PARENT_ID}-0x",
    ],
)  # fmt: skip
def test_a_malformed_parent_is_ignored(malformed: str) -> None:
    assert trace_from({"traceparent": malformed, "tracestate": "a=1"}) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    trace = trace_from({"traceparent": f"cc{PARENT[2:]}-what-comes-later"})
    assert trace is not None and trace.fields() == {"traceparent": PARENT}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("a=1 ,\t b=2,,", "a=1,b=2"),
        ("tenant@system=x y", "tenant@system=x y"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a", ""),
        ("a=b=c", ""),
        (",".join(f"k{number}=1" for number in range(33)), ""),
        (f"first={'x' * 200},second=2,third={'x' * 250},fourth={'x' * 100}", f"first={'x' * 200},second=2,fourth={'x' * 100}"),
    ],
)
def test_the_state_is_handed_on_whole_or_not_at_all(given: str, kept: str) -> None:
    trace = trace_from({"traceparent": PARENT, "tracestate": given})
    assert trace is not None and trace.state == kept
