"""Opening and losing one connection: addresses, logins, TLS, limits, and peers that break the protocol."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import gevent
import gevent.socket
import gevent.ssl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from private_servers import PrivateRabbit
from tls_front import TlsFront

from nucleon.amqp import AccessRefused, Amqp, AmqpError, ConnectionLost, Settings
from nucleon.amqp.address import address_from
from nucleon.amqp.codec import PROTOCOL_HEADER, CommandReader, Method, encode_table, frame, method_frame, methods
from nucleon.errors import SetupError
from nucleon.secret import Secret
from nucleon.testing import ScriptedPeer, eventually
from nucleon.testing.peers import Conversation

START = methods.ConnectionStart(0, 9, {"product": "script"}, b"PLAIN AMQPLAIN")


@pytest.mark.parametrize(
    ("url", "hosts", "user", "password", "vhost"),
    [  # the examples of https://www.rabbitmq.com/uri-spec
        ("amqp://user:pass@host:10000/vhost", (("host", 10000),), "user", "pass", "vhost"),
        ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", (("hoast", 10000),), "usera", "apass", "v/host"),
        ("amqp://", (("localhost", 5672),), "guest", "guest", "/"),
        ("amqp://:@/", (("localhost", 5672),), "guest", "", ""),
        ("amqp://user@", (("localhost", 5672),), "user", "guest", "/"),
        ("amqp://user:pass@", (("localhost", 5672),), "user", "pass", "/"),
        ("amqp://host", (("host", 5672),), "guest", "guest", "/"),
        ("amqp://:10000", (("localhost", 10000),), "guest", "guest", "/"),
        ("amqp:///vhost", (("localhost", 5672),), "guest", "guest", "vhost"),
        ("amqp://host/", (("host", 5672),), "guest", "guest", ""),
        ("amqp://host/%2f", (("host", 5672),), "guest", "guest", "/"),
        ("amqp://[::1]", (("::1", 5672),), "guest", "guest", "/"),
        ("amqps://a,b:1,[::1]:2/x", (("a", 5671), ("b", 1), ("::1", 2)), "guest", "guest", "x"),
    ],
)
def test_addresses_are_read_as_rabbitmq_specifies(url: str, hosts: object, user: str, password: str, vhost: str) -> None:
    address, _ = address_from(Settings(url=Secret(url)))
    assert (address.hosts, address.user, address.password.reveal(), address.vhost) == (hosts, user, password, vhost)
    assert address.is_tls == url.startswith("amqps")


def test_query_parameters_go_over_the_settings() -> None:
    url = "amqps://h/?heartbeat=3&channel_max=7&frame_max=9000&connection_timeout=2500"
    url += "&verify=verify_none&cacertfile=/ca.pem&auth_mechanism=EXTERNAL"
    _, changed = address_from(Settings(url=Secret(url)))
    assert (changed.heartbeat_seconds, changed.channel_max, changed.frame_max, changed.connect_seconds) == (3, 7, 9000, 2.5)
    assert (changed.verify, changed.ca_file, changed.mechanism) == (False, "/ca.pem", "external")


UNREADABLE = ["http://h", "amqp://h:x", "amqp://h:99999", "amqp://h/a/b", "amqp://h?colour=red", "amqp://h?heartbeat=x", "amqp://[::1"]


@pytest.mark.parametrize("url", UNREADABLE)
def test_addresses_that_cannot_be_read_are_a_setup_error_without_the_password(url: str) -> None:
    with pytest.raises(SetupError, match="url of RabbitMQ cannot be read") as caught:
        address_from(Settings(url=Secret(url.replace("://", "://user:geheim@", 1))))
    assert "geheim" not in str(caught.value)


@given(some.text(max_size=80))
@settings(deadline=None)
def test_any_address_is_read_or_refused(text: str) -> None:
    with suppress(SetupError):
        address_from(Settings(url=Secret("amqp://" + text)))


def test_settings_that_do_not_fit_say_so() -> None:
    for wrong in ({"mechanism": "magic"}, {"frame_max": 100}, {"prefetch": 0}, {"wait_seconds": 0}, {"heartbeat_seconds": -1}):
        with pytest.raises(SetupError, match=next(iter(wrong))):
            Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["plain", "amqplain"])
def test_both_logins_by_password_work(connect: Callable[..., Amqp], mechanism: str) -> None:
    client = connect(mechanism=mechanism)
    client.health()
    assert client.publishing.get().server["product"] == "RabbitMQ"


def test_a_mechanism_that_is_not_offered_is_a_setup_error(connect: Callable[..., Amqp]) -> None:
    with pytest.raises(SetupError, match="does not offer the mechanism EXTERNAL, only"):
        connect(mechanism="external").health()


def test_limits_are_agreed_and_channels_are_used_again(connect: Callable[..., Amqp]) -> None:
    client = connect(channel_max=3, frame_max=8192, heartbeat_seconds=7)
    connection = client.publishing.get()
    assert (connection.channel_max, connection.frame_max, connection.heartbeat_seconds) == (3, 8192, 7)
    channels = [connection.channel() for _ in range(3)]
    with pytest.raises(AmqpError, match="all 3 channels"):
        connection.channel()
    channels[1].close()
    assert connection.channel().number == 2
    channels[0].close()
    client.queue("large").put(bytes(50_000))
    assert len(client.queue("large").get(5).body) == 50_000


def test_a_new_secret_is_accepted(connect: Callable[..., Amqp]) -> None:
    client = connect()
    client.publishing.get().update_secret("new", "the token was renewed")
    client.queue("jobs").put(b"x")


def test_nobody_there_is_connection_lost_that_names_the_place(connect: Callable[..., Amqp]) -> None:
    client = connect(url="amqp://127.0.0.1:1", wait_seconds=0.3)
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1: Connection refused") as caught:
        client.publish("", "key", b"x")
    assert caught.value.detail == "RabbitMQ is not available"  # what a client of the service reads names no host


@pytest.fixture
def front(rabbitmq: PrivateRabbit, amqp_url: str, tmp_path: Path) -> Iterator[TlsFront]:
    front = TlsFront(rabbitmq.address, tmp_path)
    yield front
    front.close()


def test_tls_carries_everything_and_verifies(connect: Callable[..., Amqp], front: TlsFront, amqp_url: str, rabbitmq: PrivateRabbit) -> None:
    secure = amqp_url.replace("amqp:", "amqps:").replace(f"127.0.0.1:{rabbitmq.port}", f"localhost:{front.port}")
    client = connect(url=secure, ca_file=str(front.authority))
    jobs = client.queue("jobs", prefetch=10)

    def publish(worker: int) -> None:
        for number in range(20):
            jobs.put(bytes([worker]) * (number * 1000))

    publishers = [gevent.spawn(publish, worker) for worker in range(10)]
    sizes = []
    for _ in range(200):
        with jobs.get(10) as message:
            sizes.append(len(message.body))
    gevent.joinall(publishers, raise_error=True)
    assert sum(sizes) == 10 * sum(number * 1000 for number in range(20))
    jobs.put(bytes(3_000_000))
    assert len(jobs.get(10).body) == 3_000_000
    strange = connect(url=secure, wait_seconds=0.5)
    with pytest.raises(ConnectionLost, match="is not trusted"):
        strange.health()
    misnamed = connect(url=secure.replace("localhost", "127.0.0.1"), ca_file=str(front.authority), wait_seconds=0.5)
    with pytest.raises(ConnectionLost, match="is not trusted"):
        misnamed.health()
    connect(url=secure.replace("localhost", "127.0.0.1"), verify=False).health()


def test_the_clients_certificate_is_shown(connect: Callable[..., Amqp], amqp_url: str, rabbitmq: PrivateRabbit, tmp_path: Path) -> None:
    front = TlsFront(rabbitmq.address, tmp_path, asks_for_certificate=True)
    secure = amqp_url.replace("amqp:", "amqps:").replace(f"127.0.0.1:{rabbitmq.port}", f"localhost:{front.port}")
    connect(url=secure, ca_file=str(front.authority), certificate_file=str(front.client)).health()
    with pytest.raises(ConnectionLost):
        connect(url=secure, ca_file=str(front.authority), wait_seconds=0.5).health()
    with pytest.raises(SetupError, match="TLS files"):
        connect(url=secure, ca_file=str(tmp_path / "missing.pem")).health()
    front.close()


def over_tls(url: str, node: PrivateRabbit, user: str = "") -> str:
    """Return the address by way of RabbitMQ's own TLS; with a user, without a password."""
    parts = urlsplit(url)
    login = f"{user}@" if user else parts.netloc.rpartition("@")[0] + "@"
    return parts._replace(scheme="amqps", netloc=f"{login}localhost:{node.tls_port}").geturl()


def test_rabbitmqs_own_tls_is_spoken(connect: Callable[..., Amqp], amqp_url: str, rabbitmq: PrivateRabbit) -> None:
    client = connect(url=over_tls(amqp_url, rabbitmq), ca_file=str(rabbitmq.authority))
    client.queue("jobs").put(bytes(1_000_000))
    assert len(client.queue("jobs").get(10).body) == 1_000_000
    with pytest.raises(ConnectionLost, match="is not trusted"):
        connect(url=over_tls(amqp_url, rabbitmq), wait_seconds=0.5).health()


def test_a_certificate_is_a_login(connect: Callable[..., Amqp], amqp_url: str, rabbitmq: PrivateRabbit) -> None:
    """SASL EXTERNAL, by RabbitMQ's plugin rabbitmq_auth_mechanism_ssl: the certificate's common name is the user."""
    url, files = over_tls(amqp_url, rabbitmq, user="whoever"), {"ca_file": str(rabbitmq.authority), "mechanism": "external"}
    client = connect(url=url, certificate_file=str(rabbitmq.client_certificate("nucleon")), **files)
    client.queue("jobs").put(b"x", user_id="nucleon")  # RabbitMQ checks that it is the user of the connection
    assert client.queue("jobs").get(5).properties.user_id == "nucleon"
    stranger = connect(url=url, certificate_file=str(rabbitmq.client_certificate("stranger")), **files)
    with pytest.raises(AccessRefused, match="403 ACCESS_REFUSED"):
        stranger.health()
    with pytest.raises(AccessRefused, match="403 ACCESS_REFUSED"):
        connect(url=url, **files).health()  # no certificate at all


def server_script(*answers: Method | bytes, with_opening: bytes = b"") -> Callable[[Conversation], None]:
    """A server that opens the connection properly, says `with_opening` in the same breath, then `answers` on every method that comes."""

    def play(talk: Conversation) -> None:
        talk.expect(PROTOCOL_HEADER)
        reader = CommandReader()
        opening: list[Method] = [methods.ConnectionTune(10, 131_072, 60), methods.ConnectionOpenOk()]
        talk.send(method_frame(0, START))
        rest = list(answers)
        while rest:
            data = talk.connection.recv(65_536)
            if not data:
                return
            for command in reader.feed(data):
                if isinstance(command.method, methods.ConnectionTuneOk):
                    continue
                if opening:
                    talk.send(method_frame(0, opening.pop(0)) + (b"" if opening else with_opening))
                elif rest:
                    answer = rest.pop(0)
                    talk.send(answer if isinstance(answer, bytes) else method_frame(command.channel, answer))
        while talk.connection.recv(65_536):
            pass

    return play


OPEN_OK = methods.ChannelOpenOk()


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"\xff" * 8, "not AMQP"),
        (frame(1, 1, b"\x00\x3c\x00"), "too short"),
        (frame(1, 9, b"\x00\x14\x00\x0b\0\0\0\0"), "channel 9"),
        (frame(3, 1, b"x"), "a body frame"),
        (frame(2, 1, b"\x00\x3c\x00\x00" + bytes(10)), "without its method"),
        (frame(3, 0, b"x"), "content on channel 0"),
        (method_frame(1, methods.BasicAck(1)), "did not ask for confirms"),
        (method_frame(1, methods.QueuePurgeOk(1)), "answers nothing that was asked"),
        (method_frame(1, methods.BasicDeliver("t", 1)) * 2, "in the middle of a message"),
        (b"\x01\x00\x01\x7f\xff\xff\xff", "more than the agreed"),
    ],
)
def test_a_server_that_breaks_the_protocol_ends_the_connection_and_is_named(
    connect: Callable[..., Amqp], answer: bytes, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedPeer(server_script(OPEN_OK, answer, methods.QueueDeclareOk("q"))) as peer:
        client = connect(url=f"amqp://127.0.0.1:{peer.port}", retry_minimum_seconds=5, retry_maximum_seconds=5, bridge_seconds=0)
        with pytest.raises(ConnectionLost):
            client.queue("q").declare()
        client.stop()
    assert what in caplog.text


def test_a_server_that_breaks_the_protocol_with_the_opening_is_named_and_its_socket_closed(
    connect: Callable[..., Amqp], caplog: pytest.LogCaptureFixture
) -> None:
    script = server_script(OPEN_OK, with_opening=method_frame(0, methods.QueuePurgeOk(1)))
    with ScriptedPeer(script) as peer:
        client = connect(url=f"amqp://127.0.0.1:{peer.port}", retry_minimum_seconds=5, retry_maximum_seconds=5, bridge_seconds=0)
        with pytest.raises(ConnectionLost):
            client.queue("q").declare()
        client.stop()
    assert "broke the protocol: QueuePurgeOk on channel 0" in caplog.text


@pytest.mark.parametrize("answer", [methods.ConnectionClose(403, "ACCESS_REFUSED"), methods.ConnectionClose(530, "NOT_ALLOWED")])
def test_a_refused_login_is_access_refused(connect: Callable[..., Amqp], answer: Method) -> None:
    def play(talk: Conversation) -> None:
        talk.expect(PROTOCOL_HEADER)
        talk.send(method_frame(0, START))
        talk.connection.recv(65_536)
        talk.send(method_frame(0, answer))
        talk.connection.recv(65_536)

    with ScriptedPeer(play) as peer:
        client = connect(url=f"amqp://127.0.0.1:{peer.port}")
        with pytest.raises(AccessRefused):
            client.health()
        assert peer.accepted == 1


@pytest.mark.parametrize("first", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b""], ids=["http", "amqp 1.0", "nothing"])
def test_what_does_not_speak_amqp_is_connection_lost(connect: Callable[..., Amqp], first: bytes) -> None:
    def play(talk: Conversation) -> None:
        talk.expect(PROTOCOL_HEADER)
        talk.send(first)

    with ScriptedPeer(play) as peer:
        client = connect(url=f"amqp://127.0.0.1:{peer.port}", wait_seconds=0.3)
        with pytest.raises(ConnectionLost):
            client.health()
        client.stop()


def test_a_server_that_says_nothing_is_given_up_in_time(connect: Callable[..., Amqp]) -> None:
    with ScriptedPeer(lambda talk: talk.expect_close() if talk.receive(8) else None) as peer:
        client = connect(url=f"amqp://127.0.0.1:{peer.port}", wait_seconds=0.6, connect_seconds=0.2)
        with pytest.raises(ConnectionLost, match=r"within 0\.2 s"):
            client.health()
        client.stop()


def test_an_alarm_that_was_on_before_is_told_with_the_opening(connect: Callable[..., Amqp]) -> None:
    def play(talk: Conversation) -> None:
        talk.expect(PROTOCOL_HEADER)
        reader = CommandReader()
        talk.send(method_frame(0, START))
        for answer in (methods.ConnectionTune(10, 131_072, 0), None, methods.ConnectionOpenOk()):
            while not (seen := reader.feed(talk.connection.recv(65_536))):
                pass
            if answer is None or len(seen) > 1:
                answer = methods.ConnectionOpenOk()
                talk.send(method_frame(0, answer) + method_frame(0, methods.ConnectionBlocked("low on disk")))
                break
            talk.send(method_frame(0, answer))
        while talk.connection.recv(65_536):
            pass

    with ScriptedPeer(play) as peer:
        client = connect(url=f"amqp://127.0.0.1:{peer.port}")
        connection = client.publishing.get()
        eventually(lambda: connection.blocked_reason == "low on disk")
        assert "blocked: low on disk" in repr(connection)
        connection.drop()
        client.stop()


def test_amqplain_sends_a_table_without_its_length() -> None:
    assert encode_table({"LOGIN": "a"})[4:6] == b"\x05L"


def test_external_names_the_mechanism_and_shows_no_password(connect: Callable[..., Amqp]) -> None:
    answers: list[methods.ConnectionStartOk] = []

    def play(talk: Conversation) -> None:
        talk.expect(PROTOCOL_HEADER)
        talk.send(method_frame(0, methods.ConnectionStart(0, 9, {}, b"PLAIN EXTERNAL")))
        (command,) = CommandReader().feed(talk.connection.recv(65_536))
        assert isinstance(command.method, methods.ConnectionStartOk)
        answers.append(command.method)
        talk.send(method_frame(0, methods.ConnectionClose(320, "enough")))
        talk.connection.recv(65_536)

    with ScriptedPeer(play) as peer:
        client = connect(url=f"amqp://user:geheim@127.0.0.1:{peer.port}", mechanism="external", wait_seconds=0.3)
        with pytest.raises(ConnectionLost, match="320 enough"):
            client.health()
        client.stop()
    assert (answers[0].mechanism, answers[0].response) == ("EXTERNAL", b"")
    assert answers[0].client_properties["capabilities"]["consumer_cancel_notify"]


def test_a_broker_that_hangs_up_at_the_login_refuses_it(connect: Callable[..., Amqp]) -> None:
    def play(talk: Conversation) -> None:
        talk.expect(PROTOCOL_HEADER)
        talk.send(method_frame(0, START))
        talk.connection.recv(65_536)

    with ScriptedPeer(play) as peer:
        client = connect(url=f"amqp://user:geheim@127.0.0.1:{peer.port}")
        with pytest.raises(AccessRefused, match="at the login of 'user'") as caught:
            client.health()
        assert "geheim" not in str(caught.value)
        client.stop()
