"""The way of most commands: packed, sent over the shared connections, and their reply made into what redis-py gives.

Written for the compiler: `shared.pxd` gives it C types; interpreted it does the same, slower.
"""

from collections.abc import Callable
from typing import Any

from redis import ResponseError
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import AuthenticationError, ReadOnlyError

from nucleon.redis.commands import BLOCKING, READS, is_stateful, seconds_on_server, spelled, words_of
from nucleon.redis.copies import ASK_TO_TRACK, KEPT, RAW, WANTED, Copies, Copy, get_command, remaining_command
from nucleon.redis.keys import keys_of
from nucleon.redis.multiplexer import Multiplexer, OtherThread
from nucleon.redis.packing import pack

ALONE = object()
"""What `answer` gives for a command that needs a connection of its own."""
THEIRS = "redis._parsers.response_callbacks"  # redis-py's own callback for HGETALL gives a dict, and nothing else


class Plan:
    """What is known about a command by its name."""

    __slots__ = ("callback", "is_kept", "is_one_word", "is_own", "is_pairs", "is_read", "may_wait", "words")

    def __init__(self, args: tuple[Any, ...], callback: Callable[..., Any] | None) -> None:
        name = spelled(args)
        self.words = words_of(args)
        self.is_one_word = len(self.words) == 1
        self.callback = callback
        self.is_own = is_stateful(args)
        self.may_wait = name in BLOCKING
        self.is_read = name in READS
        self.is_kept = name in KEPT
        self.is_pairs = name == "HGETALL" and getattr(callback, "__module__", "") == THEIRS


class SharedCommands:
    """Sends commands over the shared connections of a worker.

    multiplexer: has the connections. callbacks: redis-py's, by the command's name; `plans` has to be cleared when they change. copies:
    where replies are kept, if they are. large_bytes: a packed command that is longer goes alone.
    """

    def __init__(self, multiplexer: Multiplexer, callbacks: Any, copies: Copies | None, large_bytes: int) -> None:
        self.multiplexer = multiplexer
        self.callbacks = callbacks
        self.copies = copies
        self.large_bytes = large_bytes
        self.plans: dict[Any, Plan] = {}

    def answer(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return the reply to a command, or `ALONE`. options: of redis-py's callbacks. Raises redis-py's errors and `DeadlineExceeded`."""
        plan = self.plans.get(args[0])
        if plan is None or plan.is_own or plan.may_wait:
            plan = self._plan(args)
            if plan.is_own or (plan.may_wait and seconds_on_server(args)):
                return ALONE
        data = pack(args if plan.is_one_word else plan.words + args[1:])
        if len(data) > self.large_bytes:
            return ALONE
        raws = None
        if options:
            options.pop("keys", None)  # for redis-py's cache
            raws = (True,) if NEVER_DECODE in options else None
        try:
            if self.copies is None:
                reply = self.multiplexer.ask(data, 1, raws, plan.is_read, None, plan.is_pairs and raws is None)
            else:
                reply = self._answer_beside_copies(plan, args, data, raws)
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

    def _plan(self, args: tuple[Any, ...]) -> Plan:
        plan = Plan(args, self.callbacks.get(args[0], None))
        if spelled(args) == spelled(args[:1]):  # CLIENT and its like, when split in two words, are looked at every time
            self.plans[args[0]] = plan
        return plan

    def _refused(self, error: Exception, options: dict[str, Any]) -> Any:
        """What an error reply means: an answer for some, a reason to look for another server for others."""
        if isinstance(error, (ReadOnlyError, AuthenticationError)):
            self.multiplexer.replace()  # a replica since a failover, or a password that is old
        elif EMPTY_RESPONSE in options and isinstance(error, ResponseError):
            return options[EMPTY_RESPONSE]
        raise error

    def _answer_beside_copies(self, plan: Plan, args: tuple[Any, ...], data: bytes, raws: tuple[bool, ...] | None) -> Any:
        """Read by a copy where there may be one; whatever is written is forgotten before anybody reads it again."""
        if plan.is_kept:
            return self._kept(args, data, raws)
        if plan.is_read:
            return self.multiplexer.ask(data, 1, raws, True)
        try:
            return self.multiplexer.ask(data, 1, raws, False)
        finally:
            self.forget_written(args)

    def _kept(self, args: tuple[Any, ...], data: bytes, raws: tuple[bool, ...] | None) -> Any:
        """Return the reply to a read from its copy, or ask for it, so that there is one."""
        copies, shared = self.copies, self.multiplexer
        assert copies is not None
        if shared.is_elsewhere():
            raise OtherThread
        name = data if raws is None else data + RAW
        copy = copies.find(name)
        if copy is not None:
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
        """Return the copy of what GET gives for a key (with its prefix), as bytes; None when there is none that counts."""
        if self.copies is None or self.multiplexer.is_elsewhere():
            return None
        return self.copies.find(get_command(self.copies.raw(key)) + RAW)

    def forget_written(self, *commands: tuple[Any, ...]) -> None:
        """Forget copies of the keys that commands of ours have written, before the notice of the server comes."""
        copies = self.copies
        if copies is not None and not self.multiplexer.is_elsewhere():
            for args in commands:
                keys = keys_of(args)
                copies.forget(keys if keys is None else [copies.raw(key) for key in keys])
