"""The PROXY protocol, versions 1 and 2: what a TCP proxy says about the client before the first byte of HTTP.

Source: "The PROXY protocol", HAProxy 2.x, doc/proxy-protocol.txt.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from nucleon.http.malformed import MalformedInput

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # section 2.2
_V1_BYTES = 107  # the longest line of version 1 with its CRLF, section 2.1
_V2_BYTES = 4096  # addresses take at most 216; the rest are extensions that we skip
_V1 = re.compile(
    rb"PROXY (?:(?P<unknown>UNKNOWN)(?: [^\r\n]*)?|TCP(?P<family>[46]) (?P<source>\S+) \S+ (?P<port>[0-9]{1,5}) [0-9]{1,5})\r\n"
)
LONGEST_BYTES = 16 + _V2_BYTES
"""No header is longer."""
_LOCAL, _PROXY = 0x20, 0x21
_V4_BYTES, _V6_BYTES, _UNIX_BYTES = 12, 36, 216
_BLOCKS = {0x11: _V4_BYTES, 0x12: _V4_BYTES, 0x21: _V6_BYTES, 0x22: _V6_BYTES, 0x31: _UNIX_BYTES, 0x32: _UNIX_BYTES, 0x00: 0}


@dataclass(frozen=True, slots=True)
class Preamble:
    """What the proxy said. client: the client's address, "" when the proxy speaks for itself or does not know. size: in bytes."""

    client: str
    size: int


def preamble_from(data: bytes) -> Preamble | None:
    """Read the header at the start of data; None for "not yet". Raises `MalformedInput` when it is none."""
    if SIGNATURE.startswith(data[:12]):
        return _version_2(data)
    if not b"PROXY ".startswith(data[:6]):
        raise MalformedInput("the connection does not begin with a PROXY protocol header")
    end = data.find(b"\n", 0, _V1_BYTES) + 1
    if not end:
        if len(data) >= _V1_BYTES:
            raise MalformedInput("the PROXY protocol header is longer than 107 bytes")
        return None
    line = _V1.fullmatch(data, 0, end)
    if line is None:
        raise MalformedInput("the PROXY protocol header is malformed")
    if line["unknown"]:
        return Preamble("", end)
    source = line["source"].decode("ascii", "replace")
    try:
        client = str(IPv4Address(source) if line["family"] == b"4" else IPv6Address(source))
    except AddressValueError:
        raise MalformedInput("the PROXY protocol header has no valid client address") from None
    if int(line["port"]) > 65_535:
        raise MalformedInput("the PROXY protocol header has no valid client port")
    return Preamble(client, end)


def _version_2(data: bytes) -> Preamble | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise MalformedInput("the PROXY protocol header has an unknown version or command")
    if length > _V2_BYTES:
        raise MalformedInput(f"the PROXY protocol header is longer than {_V2_BYTES} bytes")
    if len(data) < 16 + length:
        return None
    if command == _LOCAL:
        return Preamble("", 16 + length)
    if length < _BLOCKS.get(family, 0):
        raise MalformedInput("the PROXY protocol header is shorter than its addresses")
    if family >> 4 == 1:
        return Preamble(str(IPv4Address(data[16:20])), 16 + length)
    if family >> 4 == 2:
        return Preamble(str(IPv6Address(data[16:32])), 16 + length)
    return Preamble("", 16 + length)
