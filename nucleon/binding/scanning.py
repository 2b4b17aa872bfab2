"""Values found inside a query without taking it apart. This is the interpreted twin of `scanning.pyx`; both give the same answers."""

from urllib.parse import unquote_plus

__all__ = ["ABSENT", "SHORT", "UNSURE", "decoded", "number_in", "value_end", "value_start"]

ABSENT, UNSURE = -1, -2
"""What `value_start` returns instead of a place: no such field; the query has to be taken apart."""
SHORT = 256
"""Characters: a longer query is taken apart once, instead of being looked through for each parameter."""


def value_start(text: str, name: str) -> int:
    """Return where the value of a field begins in a query; `ABSENT`; `UNSURE` for a long or encoded query, and for a repeated field."""
    if len(text) > SHORT or not text.isascii() or not name.isascii() or "%" in text or "+" in text:
        return UNSURE
    found, at = ABSENT, 0
    for part in text.split("&"):
        if part and part.partition("=")[0] == name:
            if found != ABSENT:
                return UNSURE
            found = at + min(len(part), len(name) + 1)
        at += len(part) + 1
    return found


def value_end(text: str, start: int) -> int:
    """Return where the value that begins there ends."""
    end = text.find("&", start)
    return len(text) if end < 0 else end


def decoded(text: str) -> str:
    """Return urlencoded text (WHATWG URL, section 5.1) decoded. Raises `UnicodeDecodeError` for what is not UTF-8."""
    return unquote_plus(text, errors="strict")


def number_in(text: str, start: int, end: int) -> int:
    """Return the number of digits as JSON writes them: no sign, no leading zero, at most 18; -1 for all else."""
    digits = text[start:end]
    if not 0 < len(digits) < 19 or not text.isascii() or not digits.isdigit() or (digits[0] == "0" and len(digits) > 1):
        return -1
    return int(digits)
