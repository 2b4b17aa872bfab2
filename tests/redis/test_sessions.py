"""Sessions: data that belongs to one browser, ids that are worth nothing when they are old, guessed or stolen from Redis."""

from typing import Any

import pytest

from nucleon import App, BadRequest, Model, SetupError
from nucleon.config import load
from nucleon.redis import Redis, Session, Sessions
from nucleon.secret import Secret
from nucleon.testing import Client, HeldClock


class Login(Model):
    user: str
    basket: list[str] = []


def shop(redis: Redis, **options: Any) -> tuple[App, Sessions[Login]]:
    app = App("shop")
    sessions = Sessions(redis, Login, **options).install(app)

    @app.post("/login/{name}")
    def login(name: str, session: Session[Login]) -> None:
        session.renew(Login(name))

    @app.get("/me")
    def me(session: Session[Login]) -> str:
        return session.require().user

    @app.post("/basket/{item}")
    def put(item: str, session: Session[Login]) -> list[str]:
        login = session.data or Login("guest")
        session.put(Login(login.user, [*login.basket, item]))
        if item == "bad":
            raise BadRequest("no such item")
        return (session.data or login).basket

    @app.post("/logout")
    def logout(session: Session[Login]) -> None:
        session.end()

    @app.get("/other")
    def other(session: Session[Login]) -> int:
        return 1

    return app, sessions


def test_a_login_is_remembered_until_the_logout(redis: Redis) -> None:
    app, sessions = shop(redis)
    client = Client(app)
    assert client.get("/me").status == 401
    answer = client.post("/login/ann")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-session=") and cookie.endswith("; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert answer.headers["cache-control"] == "no-store"
    me = client.get("/me")
    assert (me.text, me.headers["cache-control"], "set-cookie" in me.headers) == ("ann", "private", False)
    assert Client(app).get("/me").status == 401
    gone = client.post("/logout")
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert client.get("/me").status == 401
    assert redis.keys("session:*") == []
    assert "1 begun, 1 ended" in repr(sessions)


def test_a_login_changes_the_id_and_the_old_one_is_worth_nothing(redis: Redis) -> None:
    client = Client(shop(redis)[0])
    client.post("/basket/pen")
    fixed = dict(client.cookies)
    client.post("/login/ann")
    assert client.cookies != fixed
    client.cookies.clear()
    client.cookies.update(fixed)
    assert client.get("/me").status == 401
    assert len(redis.keys("session:*")) == 1


def test_data_is_typed_and_changed_and_kept_when_the_handler_fails(redis: Redis) -> None:
    client = Client(shop(redis)[0])
    client.post("/login/ann")
    assert client.post("/basket/pen").json() == ["pen"]
    assert client.post("/basket/ink").json() == ["pen", "ink"]
    assert client.post("/basket/bad").status == 400
    assert client.post("/basket/cup").json() == ["pen", "ink", "cup"]
    assert client.get("/me").text == "ann"


def test_an_error_before_any_session_leaves_none(redis: Redis) -> None:
    client = Client(shop(redis)[0])
    assert "set-cookie" not in client.post("/basket/bad").headers
    assert redis.keys("session:*") == []


def test_ids_that_were_changed_or_invented_never_reach_redis(redis: Redis) -> None:
    client = Client(shop(redis, secret=Secret("s" * 20))[0])
    client.post("/login/ann")
    (name, value), = client.cookies.items()
    before = redis.calls
    for wrong in (value[:-1] + ("A" if value[-1] != "A" else "B"), "x" + value, "invented", "a.b", ".", "ä.ö", "x" * 5000):
        assert client.get("/me", headers={"cookie": f"{name}={wrong}"}).status == 401
    assert redis.calls == before
    assert client.get("/me", headers={"cookie": f"{name}=a.b; {name}={value}"}).text == "ann"


def test_redis_holds_no_id_that_a_thief_could_use(redis: Redis) -> None:
    client = Client(shop(redis)[0])
    client.post("/login/ann")
    id = next(iter(client.cookies.values())).partition(".")[0].encode()
    (key,) = redis.keys("session:*")
    assert id not in key and id not in (redis.get(key) or b"")


def test_a_session_that_is_used_lives_on_until_its_absolute_end(redis: Redis) -> None:
    clock = HeldClock()
    client = Client(shop(redis, clock=clock, idle_seconds=100, absolute_seconds=250)[0])
    client.post("/login/ann")
    (key,) = redis.keys("session:*")
    redis.pexpire(key, 1000)
    assert client.get("/me").status == 200 and redis.ttl(key) > 90
    clock.advance(200)
    client.post("/basket/pen")
    assert redis.ttl(key) <= 50
    assert client.get("/me").status == 200 and redis.ttl(key) <= 50
    clock.advance(51)
    assert client.get("/me").status == 401
    assert redis.keys("session:*") == []


def test_a_logout_wins_over_a_change_of_the_same_moment(redis: Redis) -> None:
    app, _ = shop(redis)

    @app.post("/slow")
    def slow(session: Session[Login]) -> None:
        session.put(Login(session.require().user, ["late"]))
        redis.delete(*redis.keys("session:*"))  # what a logout elsewhere does

    client = Client(app)
    client.post("/login/ann")
    assert client.post("/slow").status == 204
    assert client.get("/me").status == 401


def test_secrets_can_be_changed_without_ending_sessions(redis: Redis) -> None:
    old, both, new = Secret("o" * 20), Secret(f"{'n' * 20} {'o' * 20}"), Secret("n" * 20)
    client = Client(shop(redis, secret=old)[0])
    client.post("/login/ann")
    cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    assert Client(shop(redis, secret=both)[0]).get("/me", headers=cookies).text == "ann"
    assert Client(shop(redis, secret=new)[0]).get("/me", headers=cookies).status == 401


def test_without_a_secret_all_workers_share_one_that_redis_keeps(redis: Redis, redis_url: str) -> None:
    client, other = Client(shop(redis)[0]), Redis(url=Secret(redis_url), decode_responses=True)
    client.post("/login/ann")
    cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    assert Client(shop(other)[0]).get("/me", headers=cookies).text == "ann"
    other.stop()


def test_workers_agree_on_a_new_secret_after_redis_has_lost_its_data(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nucleon.redis.sessions.SECRET_SECONDS", 0)
    one, other = Client(shop(redis)[0]), Client(shop(redis)[0])
    for client in (one, other):
        client.post("/login/ann")
    redis.flushall()
    for writer, reader in ((one, other), (other, one)):
        writer.post("/login/ben")
        cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in writer.cookies.items())}
        assert reader.get("/me", headers=cookies).text == "ben"


def test_data_of_an_older_release_counts_as_no_session(redis: Redis) -> None:
    client = Client(shop(redis)[0])
    client.post("/login/ann")
    (key,) = redis.keys("session:*")
    redis.set(key, b"000001700000000" + b'{"other": "shape"}', keepttl=True)
    assert client.get("/me").status == 401


def test_handlers_that_do_not_look_cost_redis_nothing(redis: Redis) -> None:
    client = Client(shop(redis)[0])
    client.post("/login/ann")
    before = redis.calls
    answer = client.get("/other")
    assert (answer.status, redis.calls, "cache-control" in answer.headers) == (200, before, False)


def test_with_redis_away_sessions_are_unavailable_and_nothing_else(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    client = Client(shop(redis, secret=Secret("s" * 20))[0])
    client.post("/login/ann")
    redis_server.stop()
    assert [client.get("/me").status, client.post("/login/ben").status, client.get("/other").status] == [503, 503, 200]
    redis_server.start()
    assert client.get("/me").text == "ann"
    redis.stop()


def test_settings_come_from_the_section_and_are_checked(redis: Redis, tmp_path: Any) -> None:
    app, sessions = shop(redis, secure=False, cookie="sid")
    assert sessions.cookie == "sid"
    (tmp_path / "test.toml").write_text('[session]\nidle_seconds = 5\nsecret = "0123456789abcdef"\n')
    loaded = load({"session": app.settings_types()["session"]}, environment="test", folder=tmp_path)
    app.configure(loaded.sections)
    assert sessions.settings.idle_seconds == 5 and "0123456789" not in repr(sessions.settings)
    unsafe = {"same_site": "None", "secure": False}
    for wrong in ({"secret": Secret("short")}, unsafe, {"idle_seconds": 0}, {"cookie": "a b"}, {"colour": 1}):
        with pytest.raises(SetupError):
            Sessions(redis, Login, **wrong)


@pytest.mark.parametrize("junk", [b"", b"x", b"0" * 15, b"\xff" * 20, b"9" * 15 + b'{"user":"\xff"}', b"9" * 15 + b"[" * 9_999])
def test_what_is_no_session_counts_as_none(redis: Redis, junk: bytes) -> None:
    app, _ = shop(redis)
    client = Client(app)
    client.post("/login/ann")
    redis.set(redis.keys("session:*")[0], junk)
    assert client.get("/me").status == 401
    client.post("/login/ben")
    assert client.get("/me").text == "ben"


def test_none_is_no_data_of_a_session(redis: Redis) -> None:
    app, sessions = shop(redis)

    @app.post("/nothing")
    def nothing(session: Session[Login]) -> str:
        for change in (session.put, session.renew):
            with pytest.raises(TypeError, match="end"):
                change(None)  # type: ignore[arg-type]
        return "refused"

    assert Client(app).post("/nothing").text == "refused"
    assert redis.keys("session:*") == [] and sessions.begun == 0
