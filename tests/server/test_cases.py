"""The table of raw requests, over a real socket: whole, byte by byte, at random cuts, and with a second request behind a refused one."""

from collections.abc import Iterable, Iterator

import pytest
from echo_app import EchoApp
from hosting import Hosted, hosted
from http_cases import CASES, Case
from raw_client import cuts, exchange, verdict

from nucleon import App, Request

SHORT = 400  # byte by byte costs a system call a byte
NEXT = b"GET /smuggled?q=12 HTTP/1.1\r\nHost: x\r\n\r\n"


def judge(echo: Hosted, case: Case, parts: Iterable[bytes]) -> None:
    echo.app.forget()
    finish = "-fin" in case.name or case.name == "half-close-after-request"
    seen = exchange(echo.address, parts, case.expected, finish=finish, head=case.sent.startswith(b"HEAD "))
    fault = verdict(case.expected, seen, echo.app)
    assert fault is None, f"{case.name} ({case.level}, {case.section}): {fault}"


def named(cases: Iterable[Case]) -> list[object]:
    return [pytest.param(case, id=f"{case.group}-{case.name}") for case in cases]


@pytest.mark.parametrize("case", named(CASES))
def test_each_request_of_the_table_sent_whole_has_its_outcome(echo: Hosted, case: Case) -> None:
    judge(echo, case, [case.sent])


@pytest.mark.parametrize("case", named(case for case in CASES if len(case.sent) <= SHORT))
def test_a_request_that_comes_byte_by_byte_has_the_same_outcome(echo: Hosted, case: Case) -> None:
    judge(echo, case, [case.sent[at : at + 1] for at in range(len(case.sent))])


@pytest.mark.parametrize("case", named(case for case in CASES if len(case.sent) <= 20_000))
@pytest.mark.parametrize("round_", range(3))
def test_a_request_that_comes_in_random_pieces_has_the_same_outcome(echo: Hosted, case: Case, round_: int) -> None:
    judge(echo, case, cuts(case.sent, f"{case.name} {round_}"))


@pytest.mark.parametrize(
    "case", named(case for case in CASES if case.expected.startswith("refuse") and " OR " not in case.expected and "-fin" not in case.name)
)
def test_nothing_behind_a_refused_request_runs(echo: Hosted, case: Case) -> None:
    judge(echo, case, [case.sent + NEXT])


class Calls(EchoApp):
    """What the handlers of an `App` saw, with the echo application's counters."""


@pytest.fixture(scope="module")
def typed() -> Iterator[Hosted]:
    calls = Calls()
    app = App("echo")

    @app.get("/t")
    def read(request: Request) -> dict[str, str]:
        calls.calls.append(request.path)
        return {"body": request.body().decode("latin-1")}

    @app.post("/t", status=200)
    def change(request: Request) -> dict[str, str]:
        calls.calls.append(request.path)
        body = request.body().decode("latin-1")
        calls.completed.append(request.path)
        return {"body": body}

    app.configure({})
    with hosted(app) as served:
        yield Hosted(served.server, calls, served.address)


@pytest.mark.parametrize("case", named(case for case in CASES if case.expected.startswith("refuse") and " OR " not in case.expected))
def test_a_typed_application_behind_the_server_is_guarded_alike(typed: Hosted, case: Case) -> None:
    judge(typed, case, [case.sent])
