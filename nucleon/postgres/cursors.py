"""Signed cursors: opaque to clients, who cannot make one up; good for one collection, and for a while."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from time import time

import msgspec

from nucleon.errors import Invalid
from nucleon.postgres.settings import Settings

Texts = list[str | None]
"""The values of a key, as PostgreSQL reads them; None is null."""

SIGNATURE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Seal:
    """Signs the cursors of one collection and knows its own again."""

    key: bytes
    collection: bytes
    seconds: float

    @classmethod
    def of(cls, settings: Settings, collection: str) -> "Seal":
        """Return the seal of a collection. Without a `cursor_key` the DSN is the secret, the same in every worker."""
        if settings.cursor_key is not None:
            key = hashlib.blake2b(settings.cursor_key.reveal().encode(), person=b"nucleon cursors").digest()
        else:
            key = _key_from_dsn("" if settings.dsn is None else settings.dsn.reveal())
        return cls(key, collection.encode(), settings.cursor_seconds)

    def cursor(self, texts: Texts) -> str:
        """Return the cursor for what follows a key."""
        expires_at = round(time() + self.seconds, 3) if self.seconds else None
        payload = msgspec.json.encode((expires_at, texts))
        return base64.urlsafe_b64encode(self._signature(payload) + payload).rstrip(b"=").decode()

    def opened(self, cursor: str, keys: int) -> Texts:
        """Return the key in a cursor. Raises `Invalid` (422) for one that is not ours, or too old."""
        try:
            data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError):
            raise _refused("Not a cursor of this collection") from None
        signature, payload = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(payload)):
            raise _refused("Not a cursor of this collection")
        expires_at, texts = msgspec.json.decode(payload, type=tuple[float | None, list[str | None]])
        if expires_at is not None and time() > expires_at:
            raise _refused("This cursor has expired: begin again without one")
        if len(texts) != keys:
            raise _refused("Not a cursor of this collection")
        return texts

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self.key, self.collection + b"\0" + payload, "sha256")[:SIGNATURE_BYTES]


@lru_cache(maxsize=16)
def _key_from_dsn(dsn: str) -> bytes:
    """Return a key that costs 50 ms to make, once in a process: whoever has a cursor must not try passwords of the database quickly."""
    return hashlib.scrypt(dsn.encode(), salt=b"nucleon cursors", n=2**14, r=8, p=1, dklen=32)


def _refused(message: str) -> Invalid:
    return Invalid("the request has faults", errors=[{"location": "query", "pointer": "/cursor", "message": message}])
