"""What decoding raises for bytes that are no value of a type."""

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec's own error; text that is no UTF-8; lists in lists without end."""
