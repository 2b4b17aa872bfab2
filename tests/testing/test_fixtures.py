"""The servers that other tests stand on."""

import psycopg2
import pytest
import redis


def ask(dsn: str, statement: str) -> object:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_database_without_tables(fresh_postgres_dsn: str, turn: int) -> None:
    connection = psycopg2.connect(fresh_postgres_dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("create table only_here (id int)")
        connection.commit()
    finally:
        connection.close()
    assert ask(fresh_postgres_dsn, "select count(*) from only_here") == 0


def test_a_private_postgres_can_be_stopped_and_started_again(postgres_server) -> None:
    assert ask(postgres_server.dsn, "select 1") == 1
    postgres_server.stop()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(postgres_server.dsn)
    postgres_server.start()
    assert ask(postgres_server.dsn, "select 2") == 2


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_finds_redis_empty(redis_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("key", turn)


def test_a_paused_redis_keeps_connections_and_answers_nothing(redis_server) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.1, retry=None) as client:
        assert client.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.resume()
        assert client.ping()
