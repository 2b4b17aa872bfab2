"""Where RabbitMQ is and how to be let in: the AMQP URI (https://www.rabbitmq.com/uri-spec) and its query parameters."""

import ssl
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from nucleon.amqp.settings import Settings
from nucleon.errors import SetupError
from nucleon.secret import Secret

PARAMETERS = {
    "heartbeat": ("heartbeat_seconds", float),
    "frame_max": ("frame_max", int),
    "channel_max": ("channel_max", int),
    "connection_timeout": ("connect_seconds", lambda text: int(text) / 1000),
    "auth_mechanism": ("mechanism", str.lower),
    "cacertfile": ("ca_file", str),
    "certfile": ("certificate_file", str),
    "keyfile": ("key_file", str),
    "verify": ("verify", lambda text: {"verify_peer": True, "verify_none": False}[text]),
}
"""What a URI may say (https://www.rabbitmq.com/uri-query-parameters), and the setting it overrides."""


@dataclass(frozen=True, slots=True)
class Address:
    """What an AMQP URI says. hosts: (name, port), in the order they were written."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: Secret[str]
    vhost: str
    is_tls: bool


def address_from(settings: Settings) -> tuple[Address, Settings]:
    """Return the address in the url, and the settings as its query parameters change them. Raises `SetupError`."""
    if settings.url is None:
        raise SetupError("RabbitMQ has no server: set AMQP_URL, or url in the settings section [amqp]")
    url = settings.url.reveal()
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("amqp", "amqps"):
            raise ValueError("it does not begin with amqp:// or amqps://")
        is_tls = parts.scheme.lower() == "amqps"
        credentials, _, places = parts.netloc.rpartition("@")
        user, has_password, password = credentials.partition(":")
        if "/" in parts.path[1:]:
            raise ValueError("a slash in the name of the virtual host is written %2F")
        address = Address(
            hosts=tuple(_host(place, 5671 if is_tls else 5672) for place in places.split(",")),
            user=unquote(user) if user else "guest",
            password=Secret(unquote(password) if has_password else "guest"),
            vhost=unquote(parts.path[1:]) if parts.path else "/",
            is_tls=is_tls,
        )
        return address, _with_parameters(settings, parts.query)
    except ValueError as error:
        raise SetupError(f"the url of RabbitMQ cannot be read: {error}") from None


def _host(place: str, port: int) -> tuple[str, int]:
    if place.startswith("["):
        name, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address stands in brackets: [::1]:5672")
        digits = rest[1:]
    else:
        name, _, digits = place.partition(":")
    if digits and not (digits.isascii() and digits.isdigit() and int(digits) < 65_536):
        raise ValueError("a port is a number up to 65535")
    return unquote(name) or "localhost", int(digits) if digits else port


def _with_parameters(settings: Settings, query: str) -> Settings:
    changes: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            raise ValueError(f"unknown parameter {name!r}, known are {', '.join(PARAMETERS)}")
        field, convert = PARAMETERS[name]
        try:
            changes[field] = convert(text)  # type: ignore[operator]
        except (ValueError, KeyError):
            raise ValueError(f"{text!r} does not fit the parameter {name}") from None
    return replace(settings, **changes)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return a context that verifies the server unless the settings forbid it. Raises `SetupError` for files that cannot be read."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(name for name in (settings.ca_file, settings.certificate_file, settings.key_file) if name)
        raise SetupError(f"the TLS files of RabbitMQ cannot be used ({files}): {error}") from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
