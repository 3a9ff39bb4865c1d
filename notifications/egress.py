"""Where this platform may connect to on behalf of a tenant: the guard against request forgery.

An address is parsed once, strictly, and is sent to as it was normalised. A name is resolved at
every try, all its addresses must be allowed, and one of those very addresses is dialled; TLS and
`Host` keep the name. Nothing here follows a redirect or reads proxies from the environment.
Source: the IANA special-purpose address registries; docs/adr/0008-webhooks.md.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol
from urllib.parse import SplitResult, quote, urlsplit

import idna
from django.conf import settings

from notifications.webhooks.conf import webhooks_conf

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_CHARACTERS: Final = 2048
MOST_HOST_CHARACTERS: Final = 253
MOST_PORT: Final = 65_535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_BRACKETS: Final = re.compile(r"[^\[\]]*|(.*@)?\[[0-9a-fA-F:.%]*:[^\[\]]*\](:.*)?")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_INTERNAL_SUFFIXES: Final = (
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home.arpa",
)

_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_SPECIAL: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # the wire server of a cloud, on a public address
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
"""Never public. IPv6 outside 2000::/3 is not either: mapped, NAT64, unique local, link local."""

_resolvers: Final = ThreadPoolExecutor(max_workers=64, thread_name_prefix="resolve")


class EgressConf(Protocol, Hashable):
    """The settings that a policy is made of."""

    @property
    def allow(self) -> tuple[str, ...]:
        """Networks and names that may be reached though they are not public."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """Schemes for public addresses."""

    @property
    def ports(self) -> tuple[str, ...]:
        """Ports of public addresses."""


class EgressRefused(ValueError):
    """This address is not sent to; `reason` is a stable word, the text says why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """Who may be reached.

    Attributes:
        hosts: names that may have any address; `networks`: addresses allowed though not public.
        own_hosts: names of this platform, which is not its own receiver.
    """

    hosts: frozenset[str]
    networks: tuple[Network, ...]
    schemes: frozenset[str]
    ports: frozenset[int]
    own_hosts: frozenset[str] = frozenset()

    def check_url(self, url: str) -> str:
        """Give an address in its normal form, without looking names up.

        Raises:
            EgressRefused: it is malformed, or names what may never be reached.
        """
        parts = _split(url)
        host = _normal_host(parts.hostname or "")
        port = _port_of(parts)
        literal = _literal(host)
        is_trusted = host in self.hosts or (literal is not None and self._is_listed(literal))
        if not is_trusted:
            self._check_public(parts.scheme, host, port, literal)
        shown = f"[{host}]" if ":" in host else host
        suffix = "" if port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
        return f"{parts.scheme}://{shown}{suffix}{path}{'?' if query else ''}{query}"

    def _check_public(self, scheme: str, host: str, port: int, literal: Address | None) -> None:
        if scheme not in self.schemes:
            raise EgressRefused("scheme", f"{scheme} is not allowed here; use https")
        ports = self.ports | ({80} if "http" in self.schemes else set())
        if port not in ports:
            listed = ", ".join(str(one) for one in sorted(ports))
            raise EgressRefused("port", f"port {port} is not allowed; use one of {listed}")
        if host in self.own_hosts:
            raise EgressRefused("own_host", f"{host} is this platform itself")
        if literal is not None:
            self.check_addresses(host, [literal])
        elif "." not in host or host.endswith(tuple(f".{one}" for one in _INTERNAL_SUFFIXES)):
            raise EgressRefused("internal_name", f"{host} is a name of an internal network")

    def check_addresses(self, host: str, addresses: Iterable[Address]) -> None:
        """Pass only if each of a host's addresses may be dialled.

        Raises:
            EgressRefused: one of them is not public and not allowed.
        """
        if host in self.hosts:
            return
        for one in addresses:
            if not (is_public(one) or self._is_listed(one)):
                raise EgressRefused("address", f"{host} has the address {one}, which is not public")

    def _is_listed(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def is_public(address: Address) -> bool:
    """Say whether an address is one of the public internet.

    Addresses that carry an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) are not: they
    reach whatever they carry.
    """
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _SPECIAL if network.version == address.version)


def _split(url: str) -> SplitResult:
    if len(url) > MOST_CHARACTERS or _FORBIDDEN.search(url):
        raise EgressRefused("malformed", "an address has no spaces, backslashes or control signs")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise EgressRefused("malformed", "this is no address") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise EgressRefused("scheme", "write an absolute https:// address")
    if not _BRACKETS.fullmatch(parts.netloc):
        raise EgressRefused("malformed", "brackets belong around an IPv6 address alone")
    if "@" in parts.netloc:
        raise EgressRefused("userinfo", "leave user and password out of the address")
    if "%" in parts.netloc:
        raise EgressRefused("host", "write the host without percent signs or zone")
    return parts


def _port_of(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise EgressRefused("port", f"a port is a number up to {MOST_PORT}") from error
    if port == 0 or parts.netloc.endswith(":"):
        raise EgressRefused("port", "write a port after the colon, or no colon")
    return port or _DEFAULT_PORTS[parts.scheme]


def _normal_host(text: str) -> str:
    """Give the host in the one form in which it is compared, resolved and sent."""
    if ":" in text:
        try:
            return str(ipaddress.IPv6Address(text))
        except ValueError as error:
            raise EgressRefused("host", "this is no IPv6 address") from error
    name = _ascii_name(text).removesuffix(".")
    labels = name.split(".")
    if len(name) > MOST_HOST_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise EgressRefused("host", "this is no host name")
    if _NUMBER.fullmatch(labels[-1]) and _literal(name) is None:
        raise EgressRefused("host", "write an IPv4 address as four decimal numbers")
    return name


def _ascii_name(text: str) -> str:
    if text.isascii():
        return text.lower()
    try:
        encoded = idna.encode(unicodedata.normalize("NFKC", text), uts46=True, std3_rules=True)
    except (idna.IDNAError, UnicodeError) as error:
        raise EgressRefused("host", "this is no host name") from error
    return encoded.decode("ascii").lower()


def _literal(host: str) -> Address | None:
    """Give the address that a normal host is; `ipaddress` takes no odd spelling of IPv4."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def look_up(host: str, port: int) -> list[Address]:
    """Give all addresses of a host, in the order of the system's preference; it may block.

    Raises:
        OSError: the name cannot be resolved.
    """
    literal = _literal(host)
    if literal is not None:
        return [literal]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return [ipaddress.ip_address(text) for text in texts]


def look_up_within(url: str, *, seconds: float) -> tuple[str, list[Address]]:
    """Give the host of a normal address and what it resolves to now: nothing where it does not,
    or not in time."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = _resolvers.submit(look_up, host, _port_of(parts)).result(timeout=seconds)
    except (OSError, UnicodeError, TimeoutError):
        return host, []
    return host, found


def resolver_threads() -> ThreadPoolExecutor:
    """Give the threads that look names up, so that a slow name holds nobody else's."""
    return _resolvers


def check_receiver(url: str) -> str:
    """Give a receiver's address in its normal form; see `EgressPolicy.check_url`.

    Raises:
        EgressRefused: it may not be sent to.
    """
    return egress_policy().check_url(url)


def faults_of(conf: EgressConf) -> list[str]:
    """Name the entries of the settings that mean nothing."""
    faults = [f"{one} in SCHEMES" for one in conf.schemes if one not in _DEFAULT_PORTS]
    faults += [
        f"{one} in PORTS"
        for one in conf.ports
        if not (one.isascii() and one.isdigit() and 0 < int(one) <= MOST_PORT)
    ]
    for entry in conf.allow:
        try:
            _network_or_host(entry)
        except EgressRefused:
            faults.append(f"{entry} in ALLOW")
    return faults


def _network_or_host(entry: str) -> Network | str:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return _normal_host(entry)


def egress_policy() -> EgressPolicy:
    """Give the policy for receivers of the settings in force."""
    return policy_of(webhooks_conf(), str(settings.PUBLIC_URL))


@cache
def policy_of(conf: EgressConf, public_url: str) -> EgressPolicy:
    """Give the policy that settings mean."""
    listed = [_network_or_host(entry) for entry in conf.allow]
    own = urlsplit(public_url).hostname or ""
    return EgressPolicy(
        hosts=frozenset(one for one in listed if isinstance(one, str)),
        networks=tuple(one for one in listed if not isinstance(one, str)),
        schemes=frozenset(conf.schemes),
        ports=frozenset(int(port) for port in conf.ports),
        own_hosts=frozenset({own} - {""}),
    )
