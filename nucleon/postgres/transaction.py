"""Transactions: `with db.transaction():` begins one, inside another it is a savepoint. It belongs to its greenlet."""

import hashlib
import logging
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType

from greenlet import getcurrent

from nucleon.errors import Problem
from nucleon.pool import Pool, Slot
from nucleon.postgres.errors import Away, OutcomeUnknown, TransactionConflict, TransactionMisused
from nucleon.postgres.exchange import Parameters, Result
from nucleon.postgres.session import (
    IDLE,
    Statement,
    controls_transaction,
    give_back,
    is_retryable,
    pause_before_retry,
    rollback,
    run,
)

log = logging.getLogger("nucleon.postgres")

ISOLATIONS = {"read committed", "repeatable read", "serializable"}


class Transaction:
    """The transaction of one greenlet on one connection.

    With `retries`, a serialization failure or deadlock rolls back and runs the statements so far again; when each gives
    what it gave before, the block goes on as if nothing had happened, else `TransactionConflict` (409). The block's own code
    never runs twice.
    """

    def __init__(
        self, pool: Pool, current: "ContextVar[Transaction | None]", resource: str, *, begin: str, retries: int, read_only: bool
    ) -> None:
        self.greenlet = getcurrent()
        self.done = False
        self.failed: BaseException | None = None
        self.savepoints = 0
        self.after_commit: list[Callable[[], object]] = []
        self._pool, self._current, self._resource = pool, current, resource
        self._begin, self._retries, self._read_only = begin, retries, read_only
        self._prefix = begin
        self._slot: Slot | None = None
        self._attempt = 0
        self._record: list[tuple[Statement, Parameters, bytes]] | None = [] if retries else None

    @property
    def slot(self) -> Slot:
        """The slot that this transaction holds, from its first statement on."""
        if self._slot is None:
            if self.done:
                raise TransactionMisused("this transaction is over")
            self._slot = self._pool.take()
        return self._slot

    def __enter__(self) -> "Transaction":
        self._current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._current.set(None)
        slot = self._slot
        try:
            self._end(slot, error)
        finally:
            self.done = True
            self._slot = None
            if slot is not None:
                give_back(self._pool, slot)
        if error is None:
            for action in self.after_commit:
                _call(action)

    def _end(self, slot: Slot | None, error: BaseException | None) -> None:
        has_begun = slot is not None and not self._prefix
        if has_begun and error is None and self.failed is None:
            self._commit(self.slot)
        elif has_begun:
            self._roll_back(self.slot)
        if error is None and self.failed is not None:
            raise TransactionMisused(
                "a statement of this transaction failed and its error was swallowed: nothing was committed"
            ) from self.failed

    def run(self, statement: Statement, parameters: Parameters = None) -> Result:
        """Run a statement in this transaction. Raises its problem; after one, only rolling back is left."""
        self.require_usable()
        if isinstance(statement, str) and controls_transaction(statement):
            raise TransactionMisused("the block of transaction() begins and ends it: no begin, commit, rollback or savepoint inside")
        return self.run_any(statement, parameters)

    def run_any(self, statement: Statement, parameters: Parameters = None) -> Result:
        """Run a statement that may also be one of the block's own."""
        while True:
            try:
                result = self._step(statement, parameters)
            except Problem as problem:
                self.failed = problem
                if not self._may_retry(problem):
                    raise
                self._replay()
                continue
            except BaseException as error:
                self.failed = error
                raise
            if self._record is not None:
                self._record.append((statement, parameters, _digest(result)))
            return result

    def require_usable(self) -> None:
        """Raise `TransactionMisused` when it is over, failed, or another greenlet's."""
        if self.done:
            raise TransactionMisused("this transaction is over")
        if self.greenlet is not getcurrent():
            raise TransactionMisused(
                "a transaction belongs to the greenlet that began it: pass values to other greenlets, not the open transaction"
            )
        if self.failed is not None:
            raise TransactionMisused(
                "an earlier statement of this transaction failed: put what may fail into a nested transaction()"
            ) from self.failed

    def forbid_replay(self) -> None:
        """From here on the statements cannot be repeated: something happened that is not on record."""
        self._record = None

    def begin_now(self) -> None:
        """Send BEGIN, which otherwise travels with the first statement."""
        if self._prefix:
            self.run("select")

    def _step(self, statement: Statement, parameters: Parameters) -> Result:
        prefix, self._prefix = self._prefix, ""
        result = run(self.slot, statement, parameters, prefix, self._resource)
        if self.slot.thing.get_transaction_status() == IDLE:
            raise TransactionMisused("the statement ended the transaction: leave that to the block of transaction()")
        return result

    def _may_retry(self, problem: Problem) -> bool:
        return self._record is not None and self._attempt < self._retries and is_retryable(problem)

    def _replay(self) -> None:
        while True:
            self._attempt += 1
            rollback(self.slot)
            pause_before_retry(self._attempt)
            self.failed, self._prefix = None, self._begin
            try:
                for statement, parameters, digest in self._record or ():
                    if _digest(self._step(statement, parameters)) != digest:
                        raise TransactionConflict("another transaction changed the rows that this one had read")
            except Problem as problem:
                self.failed = problem
                if self._may_retry(problem):
                    continue
                raise
            return

    def _commit(self, slot: Slot) -> None:
        while True:
            try:
                result = run(slot, "COMMIT", resource=self._resource)
            except Problem as problem:
                if self._may_retry(problem):
                    self._replay()
                    continue
                if slot.thing.closed:
                    if self._read_only:
                        return
                    if self._was_sent(problem):
                        raise OutcomeUnknown("the connection was lost during COMMIT: the change may or may not have happened") from problem
                elif slot.thing.get_transaction_status() != IDLE:
                    self._roll_back(slot)
                raise
            if result.status == "ROLLBACK":
                raise TransactionMisused("the transaction had failed: the database rolled it back instead of committing")
            return

    def _was_sent(self, problem: Problem) -> bool:
        return isinstance(problem, Away) or problem.status == 504

    def _roll_back(self, slot: Slot) -> None:
        if slot.thing.closed or slot.thing.get_transaction_status() == IDLE:
            return
        try:
            rollback(slot)
        except Exception:
            log.debug("a transaction could not be rolled back, its connection is closed", exc_info=True)
            slot.thing.shut()


class Savepoint:
    """A nested `transaction()`: its failure undoes only what it did."""

    def __init__(self, outer: Transaction) -> None:
        self._outer = outer
        outer.savepoints += 1
        self._name = f"nucleon_{outer.savepoints}"
        self._callbacks = 0

    def __enter__(self) -> Transaction:
        self._outer.require_usable()
        self._outer.run_any(f"SAVEPOINT {self._name}")
        self._callbacks = len(self._outer.after_commit)
        return self._outer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        outer = self._outer
        if outer.done or outer.slot.thing.closed:
            return
        failure = outer.failed
        if error is None and failure is None:
            outer.run_any(f"RELEASE SAVEPOINT {self._name}")
            return
        outer.forbid_replay()
        del outer.after_commit[self._callbacks :]
        if error is not None and not isinstance(error, Exception):
            outer.failed = error  # a kill: the whole transaction goes
            return
        outer.failed = None
        try:
            outer.run_any(f"ROLLBACK TO SAVEPOINT {self._name}")
        except Problem as problem:
            outer.failed = problem
        if error is None:
            raise TransactionMisused(
                "a statement of this nested transaction failed and its error was swallowed: it was rolled back"
            ) from failure


def begin_from(isolation: str | None, read_only: bool) -> str:
    """Return the BEGIN that travels in front of the first statement."""
    if isolation is not None and isolation.lower() not in ISOLATIONS:
        raise ValueError(f"isolation is one of {', '.join(sorted(ISOLATIONS))}, not {isolation!r}")
    return f"BEGIN{f' ISOLATION LEVEL {isolation.upper()}' if isolation else ''}{' READ ONLY' if read_only else ''}; "


def _digest(result: Result) -> bytes:
    return hashlib.blake2b(repr((result.columns, result.rows, result.touched)).encode(), digest_size=16).digest()


def _call(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:
        log.exception("an after_commit function failed; the transaction is committed")
