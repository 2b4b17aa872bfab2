"""Laws of the reader: any bytes give a request or `MalformedInput`, the same however the network cut them; h11 agrees on good ones."""

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reading import Reading, decided, pieces, readings

from nucleon.http import CHUNKED, Limits, reply_head

TOKENS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


FRAGMENTS = [
    b"GET / HTTP/1.1\r\n", b"POST /a%20b?x=1 HTTP/1.1\r\n", b"PUT http://y/p HTTP/1.0\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET",
    b" ", b"/", b"HTTP/1.1", b"Host: x\r\n", b"Host: [::1]:80\r\n", b"host:x", b"Content-Length: 5\r\n",
    b"Content-Length: +5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: foo, close\r\n",
    b"Expect: 100-continue\r\n", b"X: y\r\n", b": y\r\n", b"X : y\r\n", b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\x00",
    b"\xff", b"\t", b"%", b"%zz", b"%00", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\n", b"3;a=b\r\nabc\r\n",
    b"fffffffffffffff\r\n", b"a" * 250, b"X: " + b"v" * 190 + b"\r\n",
]  # fmt: skip
LIKELY = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)), max_size=14).map(b"".join)
BYTES = st.one_of(st.binary(max_size=200), LIKELY)
PLACES = st.lists(st.integers(0, 2000), max_size=6)


@settings(max_examples=600, deadline=None)
@given(BYTES, PLACES)
@example(b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", [1, 2, 3])
@example(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\r\n", [60, 61, 62, 63])
def test_any_bytes_give_requests_or_one_refusal_the_same_however_they_are_cut(data: bytes, places: list[int]) -> None:
    requests, refused = readings([data])
    assert refused is None or 400 <= refused <= 599
    whole = decided([data])
    assert whole[0][: len(requests)] == requests
    assert decided(list(pieces(data, places))) == whole
    assert decided([data[at : at + 1] for at in range(len(data))]) == whole


WORDS = st.text(TOKENS, min_size=1, max_size=12)
VALUES = st.text([chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x100))], max_size=20)
FRAMING = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}
RESERVED = FRAMING | {"proxy", "content-type", "authorization", "cookie"}


@st.composite
def good_requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A well-formed request on the wire, and its body."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "M-SEARCH"]))
    target = "/" + draw(st.text("abcXYZ019-._~!$&'()*+,;=:@/", max_size=20)) + draw(st.sampled_from(["", "?", "?a=b&c=%20", "?x=/?"]))
    names = draw(st.lists(WORDS.filter(lambda word: word.lower() not in RESERVED and "_" not in word), max_size=5, unique_by=str.lower))
    lines = [f"{name}:{draw(st.sampled_from(['', ' ', chr(9) + ' ']))}{draw(VALUES)}" for name in names]
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    wire = body
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("transfer-encoding: chunked")
        size = draw(st.integers(1, 16))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        wire = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        body = wire = b""
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: example.org:8000", *draw(st.permutations(lines)), "", ""])
    return head.encode("latin-1") + wire, body


def read_by_h11(data: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    fields = sorted((name.decode(), value.decode("latin-1")) for name, value in request.headers)
    return Reading(request.method.decode(), request.target.decode(), "", tuple(fields), body)


@settings(max_examples=400, deadline=None)
@given(good_requests(), PLACES)
def test_a_well_formed_request_is_read_as_h11_reads_it(request_: tuple[bytes, bytes], places: list[int]) -> None:
    data, body = request_
    requests, refused = readings(list(pieces(data, places)), Limits())
    assert refused is None
    (ours,) = requests
    theirs = read_by_h11(data)
    assert (ours.method, ours.target, ours.fields, ours.body) == (theirs.method, theirs.target, theirs.fields, theirs.body)
    assert ours.body == body
    assert ours.path == ours.target.partition("?")[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(good_requests(), min_size=2, max_size=4), PLACES)
def test_pipelined_requests_are_read_in_order_and_apart(several: list[tuple[bytes, bytes]], places: list[int]) -> None:
    data = b"".join(wire for wire, _ in several)
    requests, refused = readings(list(pieces(data, places)), Limits())
    assert refused is None
    assert [request.body for request in requests] == [body for _, body in several]


ANY_TEXT = st.text(st.characters(max_codepoint=0x17F, codec="utf-8"), max_size=12)
FIELDS = st.lists(st.tuples(st.one_of(WORDS, ANY_TEXT), st.one_of(VALUES, ANY_TEXT)), max_size=4)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 700), FIELDS, st.integers(-1, 40), st.booleans())
@example(200, [("X-A", "v\r\nX-Injected: 1")], 0, True)
@example(200, [("X-A", "v\n")], 0, True)
@example(200, [("Content-Length", "5"), ("Transfer-Encoding", "chunked")], 5, True)
@example(200, [("SERVER", "mine"), ("Date", "")], 0, False)
def test_a_response_head_is_refused_or_reads_as_it_was_meant(status: int, headers: list[tuple[str, str]], size: int, keep: bool) -> None:
    try:
        head, framing, stays = reply_head(status, headers, size, keep_alive=keep)
    except ValueError:
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head)
    answer = client.next_event()
    assert isinstance(answer, h11.Response)
    assert answer.status_code == status
    seen = [(name.decode(), value.decode("latin-1")) for name, value in answer.headers]
    names = [name for name, _ in seen]
    assert sum(name in ("content-length", "transfer-encoding") for name in names) <= 1
    assert (names.count("date"), names.count("server")) == (1, 1)
    assert (("connection", "close") in seen) is not stays
    for name, value in headers:
        if name.lower() not in (*FRAMING, "te", "trailer", "keep-alive", "proxy-connection", "date", "server"):
            assert (name.lower(), value.strip(" \t")) in seen
    assert framing == (0 if status in (204, 304) else CHUNKED) or framing >= 0
