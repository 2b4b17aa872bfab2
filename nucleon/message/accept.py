"""Accept (RFC 9110 section 12.5.1): which of our media types the client prefers."""

from collections.abc import Sequence


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """Return the offer with the highest quality, the first of equals; None when the client takes none of them."""
    best, best_quality = None, 0.0
    ranges = [_range_from(part) for part in accept.split(",") if part.strip()]
    for offer in offers:
        main = offer.partition("/")[0] + "/*"
        quality, closeness = 0.0, -1
        for media, weight in ranges:
            rank = {offer: 2, main: 1, "*/*": 0}.get(media, -1)
            if rank > closeness:
                quality, closeness = weight, rank
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def _range_from(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media, min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return media, 0.0
    return media, 1.0
