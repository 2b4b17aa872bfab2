"""Which octets may stand where: tables with one entry for each octet, 0 for no."""

_TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = bytes(1 if octet in _TCHAR else 0 for octet in range(256))
"""token = 1*tchar, RFC 9110 5.6.2."""
VALUE = bytes(1 if octet == 9 or 0x20 <= octet <= 0x7E or octet >= 0x80 else 0 for octet in range(256))
"""VCHAR, SP, HTAB, obs-text: RFC 9110 5.5."""

TARGET = bytes(1 if 0x21 <= octet <= 0x7E and octet != 0x23 else 0 for octet in range(256))
"""Visible ASCII; "#" never belongs into a request target."""
PATH = bytes(0 if octet == 0x3F or not TARGET[octet] else 3 if octet == 0x25 else 1 for octet in range(256))
"""The same without "?"; 3 for "%"."""
DIGIT = bytes(b"0123456789abcdef".find(bytes((octet,)).lower()) % 256 for octet in range(256))
"""The value of a hexadecimal digit; 255 for what is none."""
