"""LISTEN and NOTIFY: one connection for all, nothing missed without a word."""

import gc
import os

import gevent
import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, Unavailable
from nucleon.postgres import Gap, Notification, Postgres
from nucleon.testing import TcpProxy
from nucleon.testing.waiting import eventually

LISTENING = "select count(*) from pg_stat_activity where application_name = 'ears' and pid <> pg_backend_pid()"
SEND_HOME = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where application_name = 'ears'"


@pytest.fixture
def ears(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, application_name="ears")
    database.start()
    yield database
    database.stop()


def payloads(listener, number):
    with gevent.Timeout(5):
        return [next(listener).payload for _ in range(number)]


def channels_of(database):
    return database._channels._active


def test_what_is_said_after_listen_returned_is_heard_in_order(ears, db):
    listener = ears.listen("prices")
    for number in range(5):
        db.notify("prices", str(number))
    assert payloads(listener, 5) == ["0", "1", "2", "3", "4"]
    db.notify("prices")
    heard = next(listener)
    assert isinstance(heard, Notification) and (heard.channel, heard.payload) == ("prices", "") and heard.sender_pid > 0


def test_a_transaction_notifies_when_it_commits_and_only_then(ears, db):
    listener = ears.listen("prices")
    with db.transaction():
        db.notify("prices", "in")
        assert listener.get(timeout_seconds=0.1) is None
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.notify("prices", "never")
        raise ZeroDivisionError
    db.notify("prices", "after")
    assert payloads(listener, 2) == ["in", "after"]


def test_many_listeners_share_one_connection_that_goes_after_the_last(ears, db, monkeypatch):
    monkeypatch.setattr("nucleon.postgres.listening.LINGER_SECONDS", 0.05)
    listeners = [ears.listen(f"channel {number % 7}") for number in range(50)]
    for number in range(7):
        db.notify(f"channel {number}", str(number))
    assert [payloads(listener, 1) for listener in listeners] == [[str(number % 7)] for number in range(50)]
    assert db.value(LISTENING) == 1 and len(channels_of(ears)) == 7
    for listener in listeners[7:]:
        listener.close()
    for listener in listeners[:3]:
        listener.close()
    eventually(lambda: len(channels_of(ears)) == 4)
    for listener in listeners:
        listener.close()
    eventually(lambda: db.value(LISTENING) == 0)
    with ears.listen("again") as again:
        db.notify("again", "yes")
        assert payloads(again, 1) == ["yes"]


@pytest.mark.parametrize("channel", ["UPPER", 'a "quoted" one', "größe; drop table t", "x" * 63])
def test_any_name_is_a_channel(ears, db, channel):
    listener = ears.listen(channel)
    db.notify(channel, "yes")
    assert payloads(listener, 1) == ["yes"]


def test_names_and_payloads_that_cannot_be_are_refused_at_once(ears):
    for channel in ("", "x" * 64, "a\0b"):
        with pytest.raises(ValueError):
            ears.listen(channel)
    with pytest.raises(ValueError, match="into a table"):
        ears.notify("prices", "x" * 8000)
    ears.notify("prices", "x" * 7999)


def test_after_a_reconnect_a_gap_is_told_before_what_follows(ears, db):
    listener, other = ears.listen("prices"), ears.listen("stock")
    db.notify("prices", "before")
    assert payloads(listener, 1) == ["before"]
    db.value(SEND_HOME)
    with gevent.Timeout(8):
        assert next(listener) == Gap("prices") and next(other) == Gap("stock")
    db.notify("prices", "after")
    assert payloads(listener, 1) == ["after"] and ears._channels.reconnects == 1


def test_a_restarted_server_is_a_gap(postgres_server):
    database = Postgres(dsn=postgres_server.dsn)
    database.start()
    listener = database.listen("prices")
    postgres_server.restart()
    with gevent.Timeout(8):
        assert next(listener) == Gap("prices")
    database.notify("prices", "after")
    assert payloads(listener, 1) == ["after"]
    database.stop()


def test_a_black_hole_is_found_out_and_is_a_gap(shared_postgres, monkeypatch):
    monkeypatch.setattr("nucleon.postgres.listening.PING_SECONDS", 0.1)
    monkeypatch.setattr("nucleon.postgres.listening.STATEMENT_SECONDS", 0.2)
    with TcpProxy(shared_postgres.address) as proxy:
        dsn = f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=postgres"
        database = Postgres(dsn=dsn, connect_seconds=0.3, cancel_grace_seconds=0.1)
        database.start()
        listener = database.listen("prices")
        proxy.blackhole()
        eventually(lambda: database._channels.reconnects)
        proxy.pass_through()
        with gevent.Timeout(8):
            assert next(listener) == Gap("prices")
        database.stop()


def test_a_slow_listener_loses_the_newest_and_is_told(ears, db):
    slow, quick = ears.listen("prices", maximum=3), ears.listen("prices")
    for number in range(10):
        db.notify("prices", str(number))
    assert payloads(quick, 10) == [str(number) for number in range(10)]
    assert payloads(slow, 3) == ["0", "1", "2"]
    assert next(slow) == Gap("prices")
    db.notify("prices", "10")
    assert payloads(slow, 1) == ["10"]


def test_a_listener_ends_at_the_deadline_and_when_the_resource_stops(ears):
    with pytest.raises(DeadlineExceeded), green.deadline(0.1):
        for _ in ears.listen("prices"):
            pass
    eventually(lambda: "prices" not in channels_of(ears))
    waiting = gevent.spawn(list, ears.listen("prices"))
    gevent.sleep(0)
    ears.stop()
    assert waiting.get(timeout=2) == []
    ears.start()
    assert ears.listen("prices").get(timeout_seconds=0.01) is None


def test_a_killed_or_forgotten_listener_unsubscribes(ears):
    def follow():
        for _ in ears.listen("prices"):
            gevent.sleep(60)

    follower = gevent.spawn(follow)
    eventually(lambda: "prices" in channels_of(ears))
    follower.kill()
    eventually(lambda: not channels_of(ears))
    ears.listen("stock")
    gc.collect()
    eventually(lambda: not channels_of(ears))


def test_a_listener_killed_while_it_is_being_made_leaves_nothing(ears):
    for pause in (0, 0, 0.0005, 0.001, 0.002, 0.004):
        maker = gevent.spawn(ears.listen, "prices")
        gevent.sleep(pause)
        maker.kill()
        del maker
        gc.collect()
    eventually(lambda: not ears._channels._listeners)
    assert ears.listen("prices").get(timeout_seconds=0.01) is None


def test_a_server_that_is_away_is_told_within_the_time(postgres_server):
    database = Postgres(dsn=postgres_server.dsn, wait_seconds=0.3)
    database.start()
    postgres_server.stop()
    with pytest.raises(Unavailable):
        database.listen("prices")
    wrong = Postgres(dsn=postgres_server.dsn.replace("dbname=postgres", "dbname=nowhere"))
    postgres_server.start()
    with gevent.Timeout(2), pytest.raises(Unavailable):
        wrong.listen("prices")
    database.stop()
    wrong.stop()


def test_a_forked_child_leaves_the_parents_connection_alone(ears, db):
    listener = ears.listen("prices")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            gevent.sleep(0.05)
            code = 0 if listener.get(timeout_seconds=0) is None and listener.is_closed else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    db.notify("prices", "still here")
    assert payloads(listener, 1) == ["still here"] and ears._channels.reconnects == 0
