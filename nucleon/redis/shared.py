# cython: embedsignature=True, embedsignature.format=clinic
"""The way of most commands: packed, sent over the shared connections, and their reply made into what redis-py gives.

Written for the compiler: `shared.pxd` gives it C types; interpreted it does the same, slower.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

from redis import ResponseError
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError

from nucleon.hooks import query_ended
from nucleon.redis.border import problem_from
from nucleon.redis.commands import BLOCKING, READS, is_read, is_stateful, seconds_on_server, spelled, words_of
from nucleon.redis.copies import ASK_TO_TRACK, KEPT, RAW, WANTED, Copies, Copy, get_command, remaining_command
from nucleon.redis.keys import keys_of, prefixed
from nucleon.redis.multiplexer import Multiplexer, OtherThread
from nucleon.redis.packing import pack

ALONE = object()
"""What `_answer` gives for a command that needs a connection of its own."""
PLANS = 1000
"""So many names of commands are remembered: an application may make them up, "GET user:7" in one word."""
THEIRS = "redis._parsers.response_callbacks"  # redis-py's own callback for HGETALL gives a dict, and nothing else


class Plan:
    """What is known about a command by its name."""

    __slots__ = ("callback", "is_kept", "is_one_word", "is_own", "is_pairs", "is_read", "may_wait", "words")

    def __init__(self, args: tuple[Any, ...], callback: Callable[..., Any] | None) -> None:
        name = spelled(args)
        self.words = words_of(args)
        self.is_one_word = len(self.words) == 1 and len(self.words[0]) == len(args[0])
        self.callback = callback
        self.is_own = is_stateful(args)
        self.may_wait = name in BLOCKING
        self.is_read = name in READS
        self.is_kept = name in KEPT
        self.is_pairs = name == "HGETALL" and getattr(callback, "__module__", "") == THEIRS


def are_text(args: tuple[Any, ...]) -> bool:
    """Tell whether all arguments are text: equal ones are the same to the server then, which 1, True and 1.0 are not."""
    for arg in args:  # noqa: SIM110  a loop of C
        if type(arg) is not str:
            return False
    return True


class SharedCommands:
    """The part of `Redis` that every command runs through; stands before redis-py's client, which has the commands themselves.

    calls, failures: how many commands were asked for, and how many of them failed.
    """

    name: str
    calls: int
    failures: int
    _multiplexer: Multiplexer
    _callbacks: Any
    _copies: Copies | None
    _plans: dict[Any, Plan]
    _prefix: str
    _large_bytes: int

    def _share(self, multiplexer: Multiplexer, callbacks: Any, copies: Copies | None, prefix: str, large_bytes: int) -> None:
        """Begin anew. callbacks: redis-py's by the command's name; `_replan` is to be called when they change. copies: where replies are
        kept. prefix: before all keys. large_bytes: a packed command that is longer goes alone."""
        self._multiplexer = multiplexer
        self._callbacks = callbacks
        self._copies = copies
        self._prefix = prefix
        self._large_bytes = large_bytes
        self._plans = {}

    def _replan(self) -> None:
        """Redis-py's callbacks have changed: look at every command again."""
        self._plans.clear()
        if self._copies is not None:
            self._copies.forget_words()

    def get(self, name: Any) -> Any:
        """Return the value of a key, or None: redis-py's method without what it prepares for a cache of its own."""
        return self.execute_command("GET", name)

    def set(self, name: Any, value: Any, *args: Any, **options: Any) -> Any:
        """Set a key: redis-py's method, which has the options; without any there is nothing to look at."""
        if args or options:
            return super().set(name, value, *args, **options)  # type: ignore[misc]
        return self.execute_command("SET", name, value)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply: what every method ends in."""
        self.calls += 1
        if options:
            options.pop("keys", None)  # for redis-py's cache
        listeners = query_ended.listeners
        words = None if self._copies is None or options or not are_text(args) else args
        if words is not None and not listeners:
            copy = self._copies.said(words)  # type: ignore[union-attr]
            if copy is not None:
                return copy.given()
        if self._prefix:
            args = prefixed(args, self._prefix)
        started = monotonic() if listeners else 0.0
        failed: Exception | None = None
        try:
            reply = self._answer(args, options, words)
            return reply if reply is not ALONE else self._answer_alone(args, options)
        except Exception as error:
            self.failures += 1
            failed = problem_from(error) if isinstance(error, RedisError) else None
            if failed is None:
                failed = error
                raise
            raise failed from error
        finally:
            for listener in listeners:
                listener(resource=self.name, statement=str(args[0]), seconds=monotonic() - started, error=failed)

    def with_prefix(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the command with the prefix of the settings before its keys."""
        return prefixed(args, self._prefix) if self._prefix else args

    def _answer(self, args: tuple[Any, ...], options: dict[str, Any], words: tuple[Any, ...] | None) -> Any:
        """Return the reply to a command, or `ALONE`. options: of redis-py's callbacks. words: what a copy may be remembered by.

        Raises redis-py's errors and `DeadlineExceeded`.
        """
        plan = self._plans.get(args[0])
        if plan is None or plan.is_own or plan.may_wait:
            plan = self._plan(args)
            if plan.is_own or (plan.may_wait and seconds_on_server(args)):
                return ALONE
        data = pack(args if plan.is_one_word else plan.words + args[1:])
        if len(data) > self._large_bytes:
            return ALONE
        raws = None
        if options:
            raws = (True,) if NEVER_DECODE in options else None
        try:
            if self._copies is None:
                reply = self._multiplexer.ask(data, 1, raws, plan.is_read, None, plan.is_pairs and raws is None)
            else:
                reply = self._answer_beside_copies(plan, args, data, raws, words)
        except OtherThread:
            return ALONE
        if isinstance(reply, Exception):
            return self._refused(reply, options)
        if plan.callback is None or (plan.is_pairs and type(reply) is dict):
            return reply
        if options:
            options.pop(NEVER_DECODE, None)
            options.pop(EMPTY_RESPONSE, None)
        return plan.callback(reply, **options)

    def _answer_alone(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Let redis-py do it over a connection that belongs to this command for as long as it takes."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[misc]
        finally:
            if self._copies is not None and not is_read(args[0]):
                self.forget_written(args)

    def _plan(self, args: tuple[Any, ...]) -> Plan:
        plan = Plan(args, self._callbacks.get(args[0], None))
        if len(self._plans) < PLANS and spelled(args) == spelled(args[:1]):  # CLIENT LIST in two arguments: looked at every time
            self._plans[args[0]] = plan
        return plan

    def _refused(self, error: Exception, options: dict[str, Any]) -> Any:
        """What an error reply means: an answer for some, a reason to look for another server for others."""
        if isinstance(error, (ReadOnlyError, AuthenticationError)):
            self._multiplexer.replace()  # a replica since a failover, or a password that is old
        elif EMPTY_RESPONSE in options and isinstance(error, ResponseError):
            return options[EMPTY_RESPONSE]
        raise error

    def _answer_beside_copies(
        self, plan: Plan, args: tuple[Any, ...], data: bytes, raws: tuple[bool, ...] | None, words: tuple[Any, ...] | None
    ) -> Any:
        """Read by a copy where there may be one; whatever is written is forgotten before anybody reads it again."""
        if plan.is_kept:
            return self._kept(plan, args, data, raws, words)
        if plan.is_read:
            return self._multiplexer.ask(data, 1, raws, True)
        try:
            return self._multiplexer.ask(data, 1, raws, False)
        finally:
            self.forget_written(args)

    def _kept(
        self, plan: Plan, args: tuple[Any, ...], data: bytes, raws: tuple[bool, ...] | None, words: tuple[Any, ...] | None
    ) -> Any:
        """Return the reply to a read from its copy, or ask for it, so that there is one."""
        copies, shared = self._copies, self._multiplexer
        assert copies is not None
        if shared.is_elsewhere():
            raise OtherThread
        name = data if raws is None else data + RAW
        copy = copies.find(name)
        if copy is not None:
            if words is not None and (plan.callback is None or (plan.is_pairs and type(copy.reply) is dict)):
                copies.remember(copy, words)
            return copy.given()
        key = copies.key_of(args[1]) if len(args) > 1 and shared.is_tracking() else None
        copy = copies.begin(name, key) if key is not None else None
        if copy is None or key is None:
            return shared.ask(data, 1, raws, True)
        try:
            return shared.ask(ASK_TO_TRACK + data + remaining_command(key), WANTED, raws and (True, True, True), True, copy)[1]
        finally:
            copies.leave(copy)

    def copy_of(self, key: str) -> Copy | None:
        """Return the copy in this worker of what GET gives for a key, as bytes; None when there is none that counts."""
        if self._copies is None or self._multiplexer.is_elsewhere():
            return None
        return self._copies.find(get_command(self._copies.raw(self._prefix + key)) + RAW)

    def forget_written(self, *commands: tuple[Any, ...]) -> None:
        """Forget copies of the keys that commands of ours have written, before the notice of the server comes."""
        copies = self._copies
        if copies is not None and not self._multiplexer.is_elsewhere():
            for args in commands:
                keys = keys_of(args)
                copies.forget(keys if keys is None else [copies.raw(key) for key in keys])
