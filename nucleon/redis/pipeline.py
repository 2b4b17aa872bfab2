"""Pipelines, transactions and subscriptions: redis-py's own, over a shared connection where that is safe."""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import redis
from redis._parsers import Encoder
from redis.client import NEVER_DECODE
from redis.exceptions import AuthenticationError, ReadOnlyError

from nucleon.redis.border import translated
from nucleon.redis.commands import is_read, is_simple, is_stateful, seconds_on_server, words_of
from nucleon.redis.multiplexer import OtherThread
from nucleon.redis.packing import pack

if TYPE_CHECKING:
    from nucleon.redis.client import Redis


class _Exchange:
    """Stands in for a connection while redis-py sends a pipeline and reads its replies: they all leave and come together."""

    himport_registry = None

    def __init__(self, client: "Redis", commands: list[Any], is_transaction: bool) -> None:
        self._client = client
        self._raws: tuple[bool, ...] | None = None
        if not is_transaction and any(NEVER_DECODE in options for _, options in commands):
            self._raws = tuple(NEVER_DECODE in options for _, options in commands)
        self._is_read = not is_transaction and all(is_read(args[0]) for args, _ in commands)
        self._wanted = 0
        self._replies: deque[Any] = deque()

    def pack_commands(self, commands: Iterable[Any]) -> bytes:
        pieces = [pack((*words_of(args), *args[1:])) for args in commands]
        self._wanted = len(pieces)
        return b"".join(pieces)

    def send_packed_command(self, data: bytes) -> None:
        if not self._wanted:
            return
        replies = self._client._multiplexer.ask(data, self._wanted, self._raws, self._is_read)
        self._replies.extend([replies] if self._wanted == 1 else replies)
        if any(isinstance(reply, (ReadOnlyError, AuthenticationError)) for reply in self._replies):
            self._client._multiplexer.replace()

    def read_response(self, disable_decoding: bool = False) -> Any:
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply


class Pipeline(redis.client.Pipeline):
    """redis-py's pipeline, with errors as `Redis` gives them.

    It travels over a shared connection in one piece, MULTI and EXEC included; with WATCH, a command that waits, or more than
    `large_bytes` it takes a connection of its own.
    """

    owner: "Redis"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Collect a command, or send it at once after WATCH. Raises `DataError` when it has no name."""
        words_of(args)
        return super().execute_command(*self.owner.with_prefix(args), **options)  # type: ignore[no-untyped-call]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected and return the replies in order."""
        written = [args for args, _ in self.command_stack if not is_read(args[0])]
        try:
            replies: list[Any] = self.owner._observed("PIPELINE", lambda: self._execute(raise_on_error))
        finally:
            self.owner.forget_written(*written)
        return replies

    def _execute(self, raise_on_error: bool) -> list[Any]:
        if not self._may_share():
            return super().execute(raise_on_error)
        stack = self.command_stack
        if not stack:
            return []
        is_transaction = bool(self.transaction) or self.explicit_transaction
        exchange = _Exchange(self.owner, stack, is_transaction)
        try:
            if self.scripts:
                self.load_scripts()
            run = self._execute_transaction if is_transaction else self._execute_pipeline
            return run(exchange, stack, raise_on_error)  # type: ignore[arg-type]
        except OtherThread:
            return super().execute(raise_on_error)
        finally:
            self.reset()

    def _may_share(self) -> bool:
        if self.watching or self.connection is not None:
            return False
        large = self.owner.settings.large_bytes
        for args, _ in self.command_stack:
            if not is_simple(args[0]) and (is_stateful(args) or seconds_on_server(args)):
                return False
            large -= sum([len(arg) if isinstance(arg, (bytes, str, bytearray, memoryview)) else 8 for arg in args])
        return large > 0

    def load_scripts(self) -> None:
        """Make the server know the scripts of the pipeline."""
        for script in self.scripts:
            if not self.owner.script_exists(script.sha)[0]:
                script.sha = self.owner.script_load(script.script)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once: what happens between WATCH and MULTI."""
        try:
            return self.owner._observed(str(args[0]), lambda: super(Pipeline, self).immediate_execute_command(*args, **options))  # type: ignore[no-untyped-call]
        finally:
            self.owner.forget_written(args)


class OneConnection(redis.Redis):
    """redis-py's client over one connection of the pool, for commands that belong together, such as WAIT after a write."""

    owner: "Redis"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply."""
        args = self.owner.with_prefix(args)
        try:
            return self.owner._observed(str(args[0]), lambda: super(OneConnection, self).execute_command(*args, **options))  # type: ignore[no-untyped-call]
        finally:
            self.owner.forget_written(args)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Collect commands; they do not travel over this connection."""
        return self.owner.pipeline(transaction, shard_hint)


class PubSub(redis.client.PubSub):
    """redis-py's subscriptions, with errors as `Redis` gives them.

    A lost connection is an `Unavailable`, so that the application hears of the gap: what was published meanwhile is lost.
    """

    def execute_command(self, *args: Any) -> None:
        """Send SUBSCRIBE and its like."""
        with translated():
            super().execute_command(*args)  # type: ignore[no-untyped-call]

    def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        """Wait for the next message: for ever, or `timeout` seconds."""
        with translated():
            return super().parse_response(block, timeout)  # type: ignore[no-untyped-call]


class RawPubSub(PubSub):
    """Subscriptions that give what was published as bytes: a message that is no text ends no connection. Read it with a timeout."""

    def __init__(self, connection_pool: Any) -> None:
        encoder = connection_pool.get_encoder()
        super().__init__(connection_pool, encoder=Encoder(encoder.encoding, encoder.encoding_errors, False))  # type: ignore[no-untyped-call]

    def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        """Wait `timeout` seconds for the next message."""
        connection: Any = self.connection

        def read() -> Any:
            if not connection.can_read(timeout=timeout):
                return None
            return connection.read_response(True, disconnect_on_error=False, push_request=True, timeout=timeout)

        with translated():
            return self._execute(connection, read)  # type: ignore[no-untyped-call]
