"""Lua scripts that the server keeps: sent by digest, and whole when it does not know them (after a restart, say)."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from redis.exceptions import NoScriptError

from nucleon.redis.settings import Settings


class Commands(Protocol):
    """What the tools of this room need of a client: one command and its reply, and what the operator has set."""

    @property
    def settings(self) -> Settings: ...

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


class Script:
    """One Lua script. A script runs whole or not at all, and nothing runs between its steps."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, commands: Commands, keys: Sequence[str], *arguments: Any, raw: bool = False) -> Any:
        """Run it. raw: replies are bytes whatever the client decodes. NOSCRIPT means that nothing ran: the script is sent again, whole."""
        options = {"NEVER_DECODE": True} if raw else {}
        try:
            return commands.execute_command("EVALSHA", self.digest, len(keys), *keys, *arguments, **options)
        except NoScriptError:
            return commands.execute_command("EVAL", self.text, len(keys), *keys, *arguments, **options)


RELEASE = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
"""Delete a key that still holds what we wrote: KEYS key; ARGV token."""
