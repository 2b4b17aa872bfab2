"""Who the client is when a proxy stands between; only trusted proxies are believed."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from nucleon.errors import SetupError

_FORWARDED = re.compile(r'(?:^|[;\s])(for|proto)=("[^"]*"|[^;,\s]*)', re.IGNORECASE)
_FIELDS = ("forwarded", "x-forwarded-for", "x-forwarded-proto")
_VARIABLES = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")


class TrustedProxies:
    """The networks whose forwarding fields are believed. setting: named in the `SetupError` for one that is no network."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, networks: tuple[str, ...], setting: str = "trusted_proxies") -> None:
        self._unix = "unix" in networks
        self._networks: list[IPv4Network | IPv6Network] = []
        for network in networks:
            if network != "unix":
                try:
                    self._networks.append(ip_network(network))
                except ValueError as error:
                    raise SetupError(f"[server] {setting}: {error}") from None

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Tell whether a peer is one of them; "" is a peer on a Unix socket."""
        if not address:
            return self._unix
        try:
            plain = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(plain, "ipv4_mapped", None)
        plain = mapped or plain
        return any(plain in network for network in self._networks)

    def origin(self, peer: str, scheme: str, fields: dict[str, str], *, is_environ: bool = False) -> tuple[str, str]:
        """Return the client's address and scheme, read from the right over trusted hops. is_environ: the fields have the names of CGI."""
        if not self.trusts(peer):
            return peer, scheme
        hops, proto = _hops(*(fields.get(name) for name in (_VARIABLES if is_environ else _FIELDS)))
        client = peer
        for hop in reversed(hops):
            client = hop
            if not self.trusts(hop):
                break
        return client, proto if proto in ("http", "https") else scheme


def _hops(forwarded: str | None, addresses: str | None, scheme: str | None) -> tuple[list[str], str]:
    """Return the addresses, nearest last, up to the first that is none; and the scheme the nearest proxy names."""
    if forwarded is not None and addresses is None:
        named = [{key.lower(): value.strip('"') for key, value in _FORWARDED.findall(element)} for element in forwarded.split(",")]
        hops = [element.get("for", "") for element in named]
        proto = named[-1].get("proto", "")
    else:
        hops = (addresses or "").split(",")
        proto = (scheme or "").rsplit(",", 1)[-1]
    good: list[str] = []
    for hop in reversed(hops):
        address = _address(hop.strip(" \t"))
        if address is None:
            break
        good.insert(0, address)
    return good, proto.strip(" \t").lower()


def _address(text: str) -> str | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
