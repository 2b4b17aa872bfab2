"""The PROXY protocol: what a TCP proxy says before the first byte of HTTP (HAProxy, doc/proxy-protocol.txt)."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nucleon.http import MalformedInput
from nucleon.http.proxy_protocol import SIGNATURE, Preamble, preamble_from

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def version_2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2, "big") + block


def v4(client: str, more: bytes = b"") -> bytes:
    return version_2(0x21, 0x11, IPv4Address(client).packed + bytes(4) + (4711).to_bytes(2, "big") + (80).to_bytes(2, "big") + more)


GOOD = {
    "version 1, IPv4": (b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n", "192.0.2.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:DB8::7 2001:db8::1 56324 443\r\n", "2001:db8::7"),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", ""),
    "version 1, unknown with addresses": (b"PROXY UNKNOWN ffff:f::f ffff:f::f 65535 65535\r\n", ""),
    "version 2, IPv4": (v4("192.0.2.7"), "192.0.2.7"),
    "version 2, extensions behind the addresses": (v4("192.0.2.7", b"\x01\x00\x02h2"), "192.0.2.7"),
    "version 2, IPv6": (version_2(0x21, 0x21, IPv6Address("2001:db8::7").packed + bytes(20)), "2001:db8::7"),
    "version 2, Unix": (version_2(0x21, 0x31, bytes(216)), ""),
    "version 2, the proxy's own check": (version_2(0x20, 0x00, b""), ""),
    "version 2, unspecified": (version_2(0x21, 0x00, b"anything"), ""),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_read_to_its_end_wherever_it_is_cut(name: str) -> None:
    header, client = GOOD[name]
    assert preamble_from(header + REQUEST) == Preamble(client, len(header))
    for cut in range(len(header)):
        assert preamble_from(header[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        REQUEST,
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 70000 2\r\n",
        b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n",
        b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n",
        b"PROXY " + b"x" * 107,
        b"PROXY UNKNOWN" + b" x" * 60 + b"\r\n",
        version_2(0x11, 0x11, bytes(12)),
        version_2(0x21, 0x11, bytes(11)),
        version_2(0x21, 0x21, bytes(35)),
        version_2(0x21, 0x11, bytes(5000)),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedInput) as refused:
        preamble_from(data)
    assert refused.value.status_hint == 400


TAILS = st.binary(max_size=60)


@given(st.one_of(TAILS, TAILS.map(SIGNATURE.__add__), TAILS.map(b"PROXY ".__add__)))
def test_any_bytes_give_a_header_not_yet_or_a_refusal(data: bytes) -> None:
    try:
        read = preamble_from(data)
    except MalformedInput:
        return
    assert read is None or 0 < read.size <= len(data)
