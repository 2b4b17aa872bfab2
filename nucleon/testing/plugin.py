"""The pytest plugin: a `client` for the project's own application, with real servers behind it.

It is loaded in every project where nucleon is installed, so it does nothing (not even import gevent) unless the project
names its application, in pyproject.toml

    [tool.pytest.ini_options]
    nucleon_app = "app:app"

or has a nucleon app in `app.py` or `app/__init__.py` beside its configuration. Then it patches the standard library before any
conftest or test is imported, and offers the fixtures `app` (configured for the environment "test"), `client` (started and stopped
for each test), `db` (rolled back after each test) and `committed_db` (a database for the test). Servers that the settings do not name are
embedded ones, shared by the test run.

Of their own, whatever the app uses: `private_valkey` (one server for the run), `fresh_redis` (a `Redis` on it, empty for each test) and
`held_clock` (for everything that takes `clock=`).
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nucleon.testing.valkey import fresh_redis, held_clock, private_valkey

if TYPE_CHECKING:
    from nucleon.postgres import Postgres
    from nucleon.testing.broker import FakeBroker
    from nucleon.testing.client import Client
    from nucleon.testing.databases import Template

__all__ = ["fresh_redis", "held_clock", "private_valkey"]  # fixtures that live elsewhere; pytest finds them here


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting `nucleon_app`."""
    parser.addini("nucleon_app", "the nucleon application under test, MODULE:APP or a folder", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Patch the standard library before the project's own modules are imported."""
    if application_named(early_config) is None:
        return
    from gevent.monkey import MonkeyPatchWarning

    from nucleon import green

    with warnings.catch_warnings():
        # Other pytest plugins may have imported ssl; they have opened no connection yet, and whatever kept names of the
        # unpatched library in a way that hurts is refused by green.patch() itself.
        warnings.simplefilter("ignore", MonkeyPatchWarning)
        green.patch()


def application_named(config: pytest.Config) -> str | None:
    """Return what `nucleon_app` says, the app beside the configuration when it says nothing, or None in a project of others."""
    named = str(config.getini("nucleon_app"))
    if named:
        return named
    for place in ("app.py", "app/__init__.py"):
        file = config.rootpath / place
        if file.is_file() and "nucleon" in file.read_text(errors="replace"):
            return "app:app"
    return None


@pytest.fixture(scope="session")
def app(pytestconfig: pytest.Config) -> Iterator[Any]:
    """The project's application with the settings of the environment "test"; not started.

    Its databases with migrations are copies made for this run.
    """
    named = application_named(pytestconfig)
    if named is None:
        pytest.fail('no application to test: write nucleon_app = "MODULE:APP" under [tool.pytest.ini_options]')
    application, code = _configured(named, pytestconfig.rootpath)
    with _copies_of_databases(application, code, pytestconfig.rootpath):
        yield application


@pytest.fixture
def client(request: pytest.FixtureRequest, app: Any) -> "Iterator[Client]":
    """A client of the application, which is started for the test and stopped after it.

    When the application uses RabbitMQ and the settings name none, it has the one of the fixture `broker`: `client.drain()`.
    """
    from nucleon.testing.client import Client

    lacks_broker = any(one.settings.url is None for one in _brokers_of(app).values())
    broker = request.getfixturevalue("broker") if lacks_broker or "broker" in request.fixturenames else None
    for name in ("db", "committed_db"):  # before the start hooks, wherever the test names it
        if name in request.fixturenames:
            request.getfixturevalue(name)
    with Client(app, broker=broker) as client:
        yield client


@pytest.fixture
def broker(app: Any) -> "Iterator[FakeBroker]":
    """A RabbitMQ in memory, empty, which the application uses in this test."""
    from dataclasses import replace

    from nucleon.secret import Secret
    from nucleon.testing.broker import FakeBroker

    before = {name: resource.settings for name, resource in _brokers_of(app).items()}
    with FakeBroker() as broker:
        app.configure({name: replace(settings, url=Secret(broker.url)) for name, settings in before.items()})
        yield broker
    app.configure(before)


@pytest.fixture
def db(request: pytest.FixtureRequest, app: Any) -> "Iterator[Postgres]":
    """The application's `Postgres`, inside a transaction that is rolled back after the test (all of them, when there are several)."""
    from nucleon.testing.rolled_back import rolled_back

    if "committed_db" in request.fixturenames:
        pytest.fail("db rolls back what committed_db would commit: take one of them")
    databases = _databases_of(app)
    with rolled_back(*databases.values()):
        yield next(iter(databases.values()))


@pytest.fixture
def committed_db(app: Any) -> "Iterator[Postgres]":
    """The application's `Postgres` on a database of this test's own, where commits are commits (all of them, when there are several)."""
    from nucleon.testing.databases import committed

    databases = _databases_of(app)
    with ExitStack() as stack:
        for name, database in databases.items():
            stack.enter_context(committed(database, _templates[name]))
        yield next(iter(databases.values()))


def _brokers_of(application: Any) -> dict[str, Any]:
    return {name: one for name, one in application.resources.items() if getattr(one, "kind", None) == "amqp"}


def _databases_of(application: Any) -> "dict[str, Postgres]":
    found = {name: one for name, one in application.resources.items() if getattr(one, "kind", None) == "postgres"}
    if not found:
        pytest.fail(f"the app {application.name} uses no PostgreSQL: db = app.use(Postgres())")
    return found


_templates: "dict[str, Template]" = {}


@contextmanager
def _copies_of_databases(application: Any, code: Path, project: Path) -> Iterator[None]:
    """Move each database that has migrations to a copy of its template, until the run ends."""
    with ExitStack() as stack:
        for name, resource in application.resources.items():
            if getattr(resource, "kind", None) == "postgres":
                from nucleon.postgres.migrating import folder_of
                from nucleon.testing.databases import template_of

                folder = folder_of(resource.settings, name, code, project)
                _templates[name] = template = template_of(resource.settings, project, name, folder)
                if template.name is not None:
                    resource.configure(stack.enter_context(template.copy()), name)
        yield


def _configured(named: str, project: Path) -> tuple[Any, Path]:
    """Return the application and the folder of its code."""
    import sys

    from nucleon import config

    sys.path.insert(0, str(project))
    module, _, name = named.partition(":")
    application = _imported(module, name or "app")
    types = {**config.house_types(), **application.settings_types()}
    settings = config.load(types, environment="test", folder=project / "config")
    settings = _with_embedded(settings, project)
    config.refuse_missing_servers(settings, {*_brokers_of(application), *application.optional})
    application.configure(settings.sections)
    application.check()
    return application, Path(str(sys.modules[module].__file__)).parent


def _imported(module: str, name: str) -> Any:
    from importlib import import_module

    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _with_embedded(settings: Any, project: Path) -> Any:
    """Fill in embedded servers, in a folder of the tests' own, for the addresses that nobody set."""
    from nucleon import config

    missing = config.missing_servers(settings)
    if all(type(settings.sections[section]).__module__.startswith("nucleon.amqp.") for section, _field in missing):
        return settings  # RabbitMQ is in memory
    from nucleon import embedded

    services = embedded.acquire(_place_of_tests(project), environment="test")
    offered = {"postgres": services.postgres_dsn, "redis": services.redis_url}
    addresses = {}
    for section, field in missing:
        room = type(settings.sections[section]).__module__.split(".")[1]
        if room in offered:
            addresses[section, field] = offered[room]
    return config.with_servers(settings, addresses, "embedded")


def _place_of_tests(project: Path) -> Path:
    """Return a folder beside the development data: a test run must not empty a developer's tables."""
    place = project / ".nucleon" / "test"
    place.mkdir(parents=True, exist_ok=True)
    return place
