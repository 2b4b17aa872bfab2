"""Names, hosts, sockets, TLS, passwords: against real servers, and never blocking the hub."""

import logging
import os
from time import monotonic

import gevent
import psycopg2.extensions
import pytest
from private_servers import PrivatePostgres
from tls_front import PostgresTlsFront

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.postgres import Away, Postgres
from nucleon.postgres.connection import wait
from nucleon.testing import TcpProxy
from nucleon.testing.waiting import eventually

PASSWORD = "geheim-4711"


@pytest.fixture(scope="module")
def guarded(postgres_template):
    """A server where the role `clerk` has to say its password."""
    server = PrivatePostgres(copy_of=postgres_template)
    server.start()
    server.require_password("clerk", PASSWORD)
    yield server
    server.close()


@pytest.fixture
def connect():
    made = []

    def make(dsn, **settings):
        database = Postgres(dsn=dsn, **settings)
        made.append(database)
        database.start()
        return database

    yield make
    for database in made:
        database.stop()


@pytest.fixture
def proxy(shared_postgres):
    with TcpProxy(shared_postgres.address) as proxy:
        yield proxy


def parameters_of(database):
    with database.connection() as connection:
        return connection.get_dsn_parameters()


def refusal(database, caplog=None, kind=Away):
    started = monotonic()
    with pytest.raises(kind) as caught:
        database.value("select 1")
    assert monotonic() - started < 2
    return caught.value


class TestNames:
    def test_a_name_is_resolved_by_us_and_libpq_gets_the_address(self, connect, proxy, monkeypatch):
        asked = []

        def resolve(host, port):
            asked.append(host)
            gevent.sleep(0.05)  # a slow name server: others go on meanwhile
            return [(2, 1, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(green, "resolve", resolve)
        database = connect(f"host=db.invalid port={proxy.port} user=nucleon dbname=postgres")
        parameters = parameters_of(database)
        assert (parameters["host"], parameters["hostaddr"], asked) == ("db.invalid", "127.0.0.1", ["db.invalid"])

    def test_an_unknown_name_is_503_and_the_log_names_it(self, connect, caplog):
        database = connect("host=db.invalid user=nucleon", wait_seconds=0.5)
        with caplog.at_level(logging.WARNING), pytest.raises(Unavailable) as caught:
            database.value("select 1")
        assert 'could not resolve host name "db.invalid"' in caplog.text and "db.invalid" not in str(caught.value)

    def test_a_name_server_that_does_not_answer_is_not_waited_for_longer_than_a_connect(self, connect, monkeypatch):
        monkeypatch.setattr(green, "resolve", lambda host, port: gevent.sleep(60))
        database = connect("host=db.invalid user=nucleon", connect_seconds=0.2, wait_seconds=1, bridge_seconds=0)
        with pytest.raises(Unavailable) as caught:
            database.value("select 1")
        assert "no answer within 0.2 s" in str(caught.value.__cause__)

    def test_a_real_name_works(self, connect, proxy):
        database = connect(f"postgresql://nucleon@localhost:{proxy.port}/postgres")
        assert parameters_of(database)["hostaddr"] in ("127.0.0.1", "::1")


class TestHosts:
    def test_a_host_that_refuses_is_passed_over(self, connect, proxy):
        with TcpProxy(("127.0.0.1", 1)) as other:
            nobody = other.port
        database = connect(f"host=127.0.0.1,127.0.0.1 port={nobody},{proxy.port} user=nucleon dbname=postgres")
        assert parameters_of(database)["port"] == str(proxy.port)

    def test_a_first_host_that_is_a_black_hole_takes_only_its_share_of_the_time(self, connect, proxy):
        with TcpProxy(proxy.address) as hole:
            hole.blackhole()
            database = connect(f"host=127.0.0.1,127.0.0.1 port={hole.port},{proxy.port} user=nucleon dbname=postgres", connect_seconds=0.6)
            started = monotonic()
            assert database.value("select 1") == 1
            assert monotonic() - started < 1.5 and database.pool.created == 1

    def test_every_host_is_named_when_none_answers(self, connect, caplog):
        with TcpProxy(("127.0.0.1", 1)) as one, TcpProxy(("127.0.0.1", 1)) as two:
            ports = (one.port, two.port)
        database = connect("host=127.0.0.1,127.0.0.1 port={},{} user=nucleon".format(*ports), wait_seconds=0.2)
        with pytest.raises(Unavailable) as caught:
            database.value("select 1")
        assert all(str(port) in str(caught.value.__cause__) for port in ports), caught.value.__cause__

    @pytest.mark.parametrize(("wanted", "found"), [("read-write", "off"), ("read-only", "on"), ("any", "on")])
    def test_the_session_must_be_of_the_kind_that_is_wanted(self, connect, guarded, shared_postgres, wanted, found):
        guarded.administer("alter system set default_transaction_read_only = on")
        guarded.administer("select pg_reload_conf()")
        try:
            hosts = f"host={guarded.sockets},{shared_postgres.sockets}"
            database = connect(f"{hosts} port=5432 user=nucleon dbname=postgres target_session_attrs={wanted}")
            assert database.value("show transaction_read_only") == found
        finally:
            guarded.administer("begin read write; set local default_transaction_read_only = off; commit")
            (guarded.data / "postgresql.auto.conf").write_text("")
            guarded.administer("select pg_reload_conf()")

    def test_a_standby_is_preferred_not_required(self, connect, shared_postgres):
        assert connect(f"{shared_postgres.dsn} target_session_attrs=prefer-standby").value("select 1") == 1

    def test_a_broken_connection_string_is_told_at_the_start_without_its_text(self):
        with pytest.raises(SetupError) as caught:
            Postgres(dsn=f"host=x pasword={PASSWORD}")
        assert PASSWORD not in str(caught.value) and caught.value.__cause__ is None

    def test_lists_that_do_not_fit_are_told_at_once(self, connect):
        assert "same length" in str(refusal(connect("host=a,b port=1,2,3")).__cause__)


class TestPasswords:
    def test_a_password_comes_from_pgpass(self, connect, guarded, tmp_path):
        file = tmp_path / "pgpass"
        file.write_text(f"*:*:*:clerk:{PASSWORD}\n")
        file.chmod(0o600)
        dsn = guarded.dsn.replace("user=nucleon", "user=clerk") + f" passfile={file}"
        assert connect(dsn).value("select current_user::text") == "clerk"

    def test_a_pgpass_that_others_may_read_is_not_used(self, connect, guarded, tmp_path, capfd):
        file = tmp_path / "pgpass"
        file.write_text(f"*:*:*:clerk:{PASSWORD}\n")
        file.chmod(0o644)
        dsn = guarded.dsn.replace("user=nucleon", "user=clerk") + f" passfile={file}"
        assert "no password supplied" in str(refusal(connect(dsn)).__cause__)
        assert "has group or world access" in capfd.readouterr().err, "libpq says so itself"

    def test_a_service_file_names_host_and_database(self, connect, guarded, tmp_path, monkeypatch):
        file = tmp_path / "services"
        file.write_text(
            f"# ours\n[other]\nhost=nowhere.invalid\n[shop]\nhost={guarded.sockets}\nuser=clerk\npassword={PASSWORD}\ndbname=postgres\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(file))
        assert connect("service=shop").value("select current_user::text") == "clerk"
        monkeypatch.setenv("PGSERVICE", "shop")
        assert connect("").value("select current_user::text") == "clerk"
        monkeypatch.delenv("PGSERVICE")
        assert 'definition of service "nobody" not found' in str(refusal(connect("service=nobody")).__cause__)

    def test_a_wrong_password_is_told_at_once_and_shown_nowhere(self, connect, guarded, caplog):
        database = connect(guarded.dsn.replace("user=nucleon", "user=clerk password=falsch-99"))
        with caplog.at_level(logging.DEBUG):
            problem = refusal(database)
        shown = f"{problem.document()} {database!r} {database.settings!r} {caplog.text}"
        assert "falsch-99" not in shown and 'password authentication failed for user "clerk"' in caplog.text

    def test_a_password_changed_while_running_hurts_only_new_connections(self, connect, guarded):
        database = connect(guarded.dsn.replace("user=nucleon", f"user=clerk password={PASSWORD}"))
        with database.transaction():
            database.value("select 1")
            guarded.administer("alter role clerk password 'neu'")
            other = gevent.spawn(database.value, "select 2")
            eventually(lambda: database.pool._opening.failures)
            assert database.value("select 3") == 3
        assert other.get(timeout=2) == 2, "it waited for the connection that still works"
        database.pool.evict("test")
        refusal(database)
        guarded.administer(f"alter role clerk password '{PASSWORD}'")
        eventually(lambda: database.pool.numbers()["idle"])
        assert database.value("select 4") == 4


class TestTls:
    @pytest.fixture
    def front(self, shared_postgres, tmp_path):
        with PostgresTlsFront(shared_postgres.address, tmp_path, "db.example") as front:
            yield front

    def dsn(self, front, host="db.example", authority=None):
        root = authority or front.authority
        return f"host={host} hostaddr=127.0.0.1 port={front.port} user=nucleon dbname=postgres sslmode=verify-full sslrootcert={root}"

    def test_the_server_is_verified_and_a_cancel_is_encrypted_too(self, connect, front):
        database = connect(self.dsn(front))
        with database.connection() as connection:
            assert connection.info.ssl_in_use
        with pytest.raises(DeadlineExceeded), green.deadline(0.2):
            database.execute("select pg_sleep(30)")
        assert front.cancels == 1 and database.pool.created == 1, "the server answered the cancel"

    def test_another_name_is_refused_at_once(self, connect, front):
        assert "does not match host name" in str(refusal(connect(self.dsn(front, host="other.example"))).__cause__)

    def test_another_authority_is_refused_at_once(self, connect, front, shared_postgres, tmp_path):
        with PostgresTlsFront(shared_postgres.address, tmp_path, "x.example") as other:
            assert "certificate verify failed" in str(refusal(connect(self.dsn(front, authority=other.authority))).__cause__)

    def test_a_server_without_tls_is_refused_at_once(self, connect, proxy):
        database = connect(f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=postgres sslmode=require")
        assert "does not support SSL" in str(refusal(database).__cause__)


class TestTheSession:
    def test_setup_is_called_for_each_connection_and_after_each_reset(self, fresh_postgres_dsn):
        def setup(connection):
            with connection.cursor() as cursor:
                cursor.execute("set search_path to shop, public")

        database = Postgres(dsn=fresh_postgres_dsn, maximum=1, setup=setup)
        database.start()
        assert database.value("show search_path") == "shop, public"
        database.execute("set search_path to nowhere")
        assert database.value("show search_path") == "shop, public" and database.pool.created == 1
        database.stop()

    def test_a_setup_that_fails_is_a_connect_that_fails(self, fresh_postgres_dsn):
        def setup(connection):
            with connection.cursor() as cursor:
                cursor.execute("select * from nowhere")

        database = Postgres(dsn=fresh_postgres_dsn, wait_seconds=0.2, setup=setup)
        database.start()
        with pytest.raises(Unavailable) as caught:
            database.value("select 1")
        assert 'relation "nowhere" does not exist' in str(caught.value.__cause__)
        database.stop()
        assert database.pool.size == 0

    def test_settings_and_connection_string_go_together(self, connect, postgres_dsn):
        dsn = f"{postgres_dsn} options='-c work_mem=1MB' application_name=shop"
        database = connect(dsn, lock_timeout_seconds=3, statement_timeout_seconds=7)
        found = [database.value(f"show {name}") for name in ("work_mem", "lock_timeout", "statement_timeout", "application_name")]
        assert found == ["1MB", "3s", "7s", "shop"]
        assert connect(postgres_dsn).value("show application_name") == "nucleon"
        assert connect(postgres_dsn, application_name="till").value("show application_name") == "till"

    def test_another_patch_leaves_no_connection_without_its_deadline(self, connect, postgres_dsn):
        database = connect(postgres_dsn)
        database.value("select 1")
        green.patch()
        assert psycopg2.extensions.get_wait_callback() is wait
        psycopg2.extensions.set_wait_callback(None)  # a library that knows nothing of us
        with pytest.raises(DeadlineExceeded), green.deadline(0.1):
            database.execute("select pg_sleep(30)")


class TestTime:
    def test_a_connect_into_a_black_hole_ends_in_time_and_holds_up_nobody(self, connect, proxy):
        proxy.blackhole()
        database = connect(f"host=127.0.0.1 port={proxy.port} user=nucleon", connect_seconds=0.3, wait_seconds=0.5)
        ticks = []
        ticker = gevent.spawn(lambda: [(gevent.sleep(0.01), ticks.append(1)) for _ in range(1000)])
        started = monotonic()
        with pytest.raises(Unavailable):
            database.value("select 1")
        assert monotonic() - started < 0.9 and len(ticks) > 20
        ticker.kill()

    def test_a_connect_timeout_of_the_connection_string_holds_for_each_address(self, connect, proxy):
        proxy.blackhole()
        dsn = f"host=127.0.0.1 port={proxy.port} user=nucleon connect_timeout={{}}"
        started = monotonic()
        with pytest.raises(Unavailable) as caught:
            connect(dsn.format(1), wait_seconds=3, bridge_seconds=0).value("select 1")
        assert monotonic() - started < 2.5 and "no connection within 1.0 s" in str(caught.value.__cause__)
        with pytest.raises(Unavailable) as caught:
            connect(dsn.format(0), connect_seconds=0.2, wait_seconds=3, bridge_seconds=0).value("select 1")
        assert "no connection within 0.2 s" in str(caught.value.__cause__)

    def test_every_statement_at_its_deadline_is_ended_on_the_server(self, connect, fresh_postgres_dsn):
        database = connect(fresh_postgres_dsn, maximum=12, minimum=12)
        eventually(lambda: database.pool.numbers()["idle"] == 12)

        def late():
            with pytest.raises(DeadlineExceeded), green.deadline(0.4):
                database.execute("select pg_sleep(30)")

        gevent.joinall([gevent.spawn(late) for _ in range(11)], raise_error=True)
        sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(30)' and state = 'active'"
        eventually(lambda: database.value(sleeping) == 0)

    def test_a_cancel_into_a_black_hole_holds_up_nobody(self, connect, proxy):
        database = connect(f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=postgres", cancel_grace_seconds=0.1, connect_seconds=0.5)
        database.value("select 1")
        proxy.blackhole()
        ticks = []
        ticker = gevent.spawn(lambda: [(gevent.sleep(0.01), ticks.append(1)) for _ in range(1000)])
        started = monotonic()
        with pytest.raises(DeadlineExceeded), green.deadline(0.2):
            database.execute("select 1")
        assert monotonic() - started < 0.8 and len(ticks) > 10
        ticker.kill()
        proxy.pass_through()
        assert database.value("select 2") == 2


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(SetupError, match="wait_seconds, lifetime_seconds cannot be negative"):
        Postgres(wait_seconds=-1, lifetime_seconds=-0.5)
    with pytest.raises(SetupError, match="do not fit"):
        Postgres(minimum=3, maximum=2)


def test_nothing_of_the_environment_leaks_into_these_tests():
    assert not [name for name in os.environ if name.startswith("PG") and name != "PGDATA"]
