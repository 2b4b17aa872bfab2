"""All or nothing, savepoints, misuse that raises, retries that never run the block twice."""

import gevent
import pytest

from nucleon.postgres import AlreadyExists, TransactionConflict, TransactionMisused


def names(db):
    return db.values("select name from items order by id")


def insert(db, name):
    db.execute("insert into items (name) values (%s)", name)


def test_a_block_commits_or_rolls_back(db):
    with db.transaction():
        insert(db, "a")
    with pytest.raises(ZeroDivisionError), db.transaction():
        insert(db, "b")
        raise ZeroDivisionError
    assert names(db) == ["a"] and db.pool.in_use == 0


def test_a_nested_block_undoes_only_what_it_did(db):
    with db.transaction():
        insert(db, "a")
        with pytest.raises(AlreadyExists), db.transaction():
            insert(db, "b")
            insert(db, "a")
        insert(db, "c")
    assert names(db) == ["a", "c"]


def test_an_error_swallowed_in_an_aborted_transaction_raises(db):
    with pytest.raises(TransactionMisused), db.transaction():
        insert(db, "a")
        with pytest.raises(AlreadyExists):
            insert(db, "a")
    assert names(db) == []


@pytest.mark.parametrize("statement", ["commit", "rollback"])
def test_ending_a_transaction_by_hand_raises(db, statement):
    with pytest.raises(TransactionMisused), db.transaction():
        insert(db, "a")
        db.execute(statement)
    with pytest.raises(TransactionMisused):
        db.execute("begin")
    assert db.value("select 1") == 1


def test_another_greenlet_cannot_use_the_transaction(db):
    from nucleon import green

    with db.transaction():
        insert(db, "a")
        child = green.spawn(insert, db, "b")
        with pytest.raises(TransactionMisused):
            child.get()


def test_after_commit_runs_only_after_a_commit(db):
    seen = []
    with db.transaction():
        db.after_commit(lambda: seen.append(names(db)))
        insert(db, "a")
        assert seen == []
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.after_commit(lambda: seen.append("never"))
        raise ZeroDivisionError
    assert seen == [["a"]]


def test_a_greenlet_killed_in_a_transaction_leaves_nothing(db):
    inside = gevent.event.Event()

    def work():
        with db.transaction():
            insert(db, "a")
            inside.set()
            gevent.sleep(60)

    worker = gevent.spawn(work)
    inside.wait(5)
    worker.kill()
    assert names(db) == [] and db.pool.in_use == 0
    assert db.value("select count(*) from pg_stat_activity where state like 'idle in transaction%%' and %s", True) == 0


def test_a_serialization_failure_is_replayed_when_the_reads_still_hold(db):
    insert(db, "a"), insert(db, "b")
    turns = []

    def other():
        db.execute("update items set price = 1 where name = 'a'")

    with db.transaction(isolation="repeatable read", retries=3):
        turns.append(db.value("select count(*) from items"))
        gevent.spawn(other).join()
        db.execute("update items set price = 2 where name = 'a'")
    assert turns == [2] and db.value(float, "select price from items where name = 'a'") == 2.0


def test_a_replay_that_reads_something_else_is_a_conflict(db):
    insert(db, "a")
    with pytest.raises(TransactionConflict), db.transaction(isolation="repeatable read", retries=3):
        db.values("select price from items")
        gevent.spawn(db.execute, "update items set price = 1").join()
        db.execute("update items set price = 2")
    assert db.value(float, "select price from items") == 1.0


def test_session_state_does_not_reach_the_next_borrower(fresh_postgres_dsn):
    from nucleon.postgres import Postgres

    db = Postgres(dsn=fresh_postgres_dsn, maximum=1)
    db.start()
    for statement in ("set search_path to nowhere", "set work_mem to '1MB'", "create temp table t (a int)",
                      "select pg_advisory_lock(7)", "listen somewhere",
                      "prepare p as select 1", "select set_config('a.b', 'c', false)"):  # fmt: skip
        db.execute(statement)
    row = db.one(
        dict,
        """select current_setting('search_path') path, current_setting('work_mem') mem, to_regclass('pg_temp.t') t,
           (select count(*) from pg_locks where locktype = 'advisory') locks, (select count(*) from pg_prepared_statements) prepared,
           (select count(*) from pg_listening_channels()) listening, current_setting('a.b', true) custom""",
    )
    assert row == {"path": '"$user", public', "mem": "4MB", "t": None, "locks": 0, "prepared": 0, "listening": 0, "custom": ""}
    assert db.pool.created == 1
    db.stop()


@pytest.mark.parametrize("statement", ["commit", " -- done\n COMMIT ", "/* x */ rollback", "end", "savepoint a", "start transaction"])
def test_ending_a_nested_block_by_hand_raises_before_anything_is_lost(db, statement):
    with pytest.raises(TransactionMisused, match="begins and ends it"), db.transaction():
        insert(db, "a")
        with db.transaction():
            insert(db, "b")
            db.execute(statement)
    assert names(db) == []


def test_a_transaction_takes_its_connection_with_the_first_statement(db):
    with db.transaction():
        assert db.pool.in_use == 0
        insert(db, "a")
        assert db.pool.in_use == 1
    assert db.pool.in_use == 0 and names(db) == ["a"]


def test_a_connection_that_could_not_be_had_is_not_swallowed(fresh_postgres_dsn):
    from nucleon.postgres import PoolExhausted, Postgres

    db = Postgres(dsn=fresh_postgres_dsn, maximum=1, wait_seconds=0.05)
    done = []
    with db.connection():
        other = gevent.spawn(_swallowing, db, done)
        with pytest.raises(TransactionMisused) as caught:
            other.get(timeout=5)
        assert isinstance(caught.value.__cause__, PoolExhausted)
    assert done == []
    db.stop()


def _swallowing(db, done):
    from nucleon.postgres import PoolExhausted

    with db.transaction():
        db.after_commit(lambda: done.append(1))
        with pytest.raises(PoolExhausted):
            insert(db, "a")


def test_after_commit_of_a_nested_block_that_failed_does_not_run(db):
    seen = []
    with db.transaction():
        with pytest.raises(ZeroDivisionError), db.transaction():
            db.after_commit(lambda: seen.append("inner"))
            raise ZeroDivisionError
        db.after_commit(lambda: seen.append("outer"))
        db.after_commit(lambda: 1 / 0)
        db.after_commit(lambda: seen.append("last"))
    assert seen == ["outer", "last"]
    db.after_commit(lambda: seen.append("none open"))
    assert seen[-1] == "none open"


def deadlock(db, first, second, **options):
    """Run two transactions that take two rows crosswise; return how each ended."""
    db.many("insert into items (name, price) values %s", [("a", 0), ("b", 0)])
    together = gevent.event.Event()
    waiting = []

    def work(one, other, before):
        with db.transaction(**options):
            before(db)
            db.execute("update items set price = price + 1 where name = %s", one)
            waiting.append(one)
            if len(waiting) == 2:
                together.set()
            together.wait(5)
            db.execute("update items set price = price + 1 where name = %s", other)

    workers = [gevent.spawn(work, "a", "b", first), gevent.spawn(work, "b", "a", second)]
    gevent.joinall(workers, timeout=20)
    return [worker.exception for worker in workers]


def test_a_deadlock_is_replayed_and_both_commit(db):
    assert deadlock(db, lambda db: None, lambda db: None, retries=3) == [None, None]
    assert db.values(float, "select price from items order by id") == [2.0, 2.0] and db.pool.in_use == 0


def test_what_is_not_on_record_is_not_replayed(db):
    def unseen(db):
        with db.connection() as connection, connection.cursor() as cursor:
            cursor.execute("select 1")

    ended = deadlock(db, unseen, unseen, retries=3)
    assert sorted(type(error).__name__ for error in ended) == ["NoneType", "TransactionConflict"]
    assert db.values(float, "select price from items order by id") == [1.0, 1.0]


def test_a_transaction_with_savepoints_killed_at_any_switch_leaves_all_or_nothing(db):
    from killing import killed_at_switch

    def work():
        with db.transaction(retries=2):
            insert(db, "a")
            with pytest.raises(AlreadyExists), db.transaction():
                insert(db, "b")
                insert(db, "a")
            with db.transaction():
                insert(db, "c")

    kills, ended = 0, False
    while not ended:
        kills += 1
        db.execute("delete from items")
        ended = killed_at_switch(kills, work)
        assert names(db) in ([], ["a", "c"]) and db.pool.in_use == 0
    assert names(db) == ["a", "c"] and kills > 8
    assert db.value("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == 0


def test_a_deadline_in_a_transaction_rolls_back_and_keeps_the_connection(db):
    from nucleon import green
    from nucleon.errors import DeadlineExceeded

    db.value("select 1")
    with pytest.raises(DeadlineExceeded), green.deadline(0.1), db.transaction(retries=3):
        insert(db, "a")
        db.execute("select pg_sleep(30)")
    assert names(db) == [] and db.pool.created == 1
