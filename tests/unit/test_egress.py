"""Where nothing is ever sent: every spelling of every address that is not public."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.egress import EgressPolicy, EgressRefused, faults_of, is_public, policy_of
from notifications.webhooks.conf import WebhooksConf

POLICY = policy_of(WebhooksConf(schemes=("https", "http")), "https://tasks.example.com")

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1", "169.254.169.254",
    "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::a9fe:a9fe", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1",
    "2001:20::1", "2001:db8::1", "2002:a9fe:a9fe::", "2002:7f00:1::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fd12:3456::1", "fe80::1", "fec0::1", "febf::1", "ff00::1",
    "ff02::1", "2620:4f:8000::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255",
    "100.128.0.1", "192.167.255.255", "11.0.0.1", "223.255.255.254", "2606:4700:4700::1111",
    "2a00:1450:4001::1", "2001:4860:4860::8888",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_special_address_is_not_public_however_it_is_reached(address: str) -> None:
    found = ipaddress.ip_address(address)
    assert not is_public(found)
    with pytest.raises(EgressRefused):
        POLICY.check_url(f"https://[{address}]/" if ":" in address else f"https://{address}/")
    with pytest.raises(EgressRefused, match="not public"):
        POLICY.check_addresses("name.example.com", [ipaddress.ip_address("8.8.8.8"), found])


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    assert POLICY.check_url(url) == url


@given(st.integers(0, 2**32 - 1))
def test_no_ipv4_address_is_public_that_the_standard_library_calls_private(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    is_special = address.is_private or address.is_multicast or address.is_reserved
    assert not (is_special and is_public(address))
    for carrier in (0xFFFF << 32, 0x64FF9B << 96, 0):
        assert not is_public(ipaddress.IPv6Address(carrier | number))


REFUSED = {
    "scheme": [
        "gopher://example.com/", "file:///etc/passwd", "ftp://example.com/", "dict://example.com/",
        "unix:/run/x.sock", "jar:https://example.com!/", "data:text/plain,x", "//example.com/",
        "/relative", "", "javascript:alert(1)", "https:///path", "https://", "https:example.com",
        "https://?x", "ws://example.com",
    ],
    "userinfo": [
        "http://a@127.0.0.1/", "https://evil@example.com/", "https://user:pass@example.com/",
        "https://@example.com/", "https://example.com:443@10.0.0.1/", "https://a:b@[::1]/",
    ],
    "malformed": [
        "http://good.example.com\\@evil.example.com/", "https://example.com/\t", "\thttps://e.com/",
        "https://exa\tmple.com/", "https://example.com/\r\nHost: evil", "https://example.com/\n",
        " https://example.com/", "https://example.com/a b", "https://example.com/\x00",
        "https://example.com/" + "a" * 2050, "https://[::1/", "https://[]/", "https://[v1.x]/",
        "https://[::1]x/", "https://ex\x7fample.com/",
    ],
    "host": [
        "http://good.example.com%00.evil.example.com/", "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/", "https://%31%32%37.0.0.1/", "http://127.1/", "http://127.0.1/",
        "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://017700000001/",
        "http://0x7f.0.0.1/", "http://0x7f.1/", "http://127.0.0.01/", "http://1.2.3.4.5/",
        "http://999.1.1.1/", "http://256.256.256.256/", "http://127.0.0.1.1/", "http://0/",
        "http://0x/", "http://4294967296/", "https://example..com/", "https://.example.com/",
        "https://example.com../", "https://-example.com/", "https://exa_mple-.com/",
        "https://exa$mple.com/", "https://" + "a" * 64 + ".com/", "https://xn--\u2488.com/",
        "https://a.com,b.com/", "https://*.example.com/",
        "https://" + ".".join(["a" * 60] * 5) + "/",
    ],
    "port": [
        "http://example.com:25/", "http://example.com:22/", "http://example.com:6379/",
        "http://example.com:5672/", "http://example.com:5432/", "http://example.com:15672/",
        "https://example.com:0/", "https://example.com:65536/", "https://example.com:-1/",
        "https://example.com:/", "https://example.com:4 43/".replace(" ", "x"),
        "https://example.com:99999999999/", "http://8.8.8.8:11211/",
    ],
    "internal_name": [
        "http://localhost/", "http://localhost./", "https://LOCALHOST/", "https://a.localhost/",
        "http://metadata.google.internal/", "http://METADATA.google.internal./",
        "http://rabbitmq/", "http://redis/", "http://postgres/", "http://instance-data/",
        "http://printer.local/", "http://nas.lan/", "http://x.localdomain/",
        "http://router.home.arpa/", "http://wiki.intranet/", "http://ⓛocalhost/",
        "http://ｌｏｃａｌｈｏｓｔ/",
    ],
    "address": [
        "http://127.0.0.1./", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.0.0.1/",
        "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[::]/",
        "http://[0000::1]/", "http://[::ffff:127.0.0.1]:80/", "HTTP://169.254.169.254/latest/",
        "http://10.0.0.1:443/",
    ],
    "own_host": ["https://tasks.example.com/api/v1/tasks", "https://TASKS.example.com./"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "url"), [(reason, url) for reason, urls in REFUSED.items() for url in urls]
)
def test_an_odd_spelling_is_refused_for_its_reason(reason: str, url: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        POLICY.check_url(url)
    assert caught.value.reason == reason
    assert caught.value.detail


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM./a?b=c#d", "https://example.com/a?b=c"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("https://bücher.example/ü?ü=ü", "https://xn--bcher-kva.example/%C3%BC?%C3%BC=%C3%BC"),
        ("https://example.com/%7Ea%2Fb", "https://example.com/%7Ea%2Fb"),
        ("https://a_b.example.com/", "https://a_b.example.com/"),
        ("https://[2606:4700:4700:0:0:0:0:1111]/", "https://[2606:4700:4700::1111]/"),
        ("https://evil.example.com#@good.example.com/", "https://evil.example.com/"),
        ("https://127.0.0.1.nip.io/", "https://127.0.0.1.nip.io/"),
    ],
)
def test_an_address_is_sent_to_in_its_normal_form(url: str, normal: str) -> None:
    assert POLICY.check_url(url) == normal
    assert POLICY.check_url(normal) == normal


@given(st.text(max_size=60))
def test_any_text_is_normal_or_refused(text: str) -> None:
    for url in (text, f"https://{text}/", f"https://example.com/{text}"):
        try:
            normal = POLICY.check_url(url)
        except EgressRefused:
            continue
        assert normal.isascii()
        assert POLICY.check_url(normal) == normal


def allowing(*entries: str) -> EgressPolicy:
    return policy_of(WebhooksConf(allow=entries), "https://tasks.example.com")


def test_http_and_ports_are_closed_unless_they_are_opened() -> None:
    for url in ("http://example.com/", "https://example.com:80/", "https://example.com:9000/"):
        with pytest.raises(EgressRefused):
            allowing().check_url(url)


def test_a_listed_network_opens_its_addresses_alone() -> None:
    policy = allowing("10.1.0.0/16")
    assert policy.check_url("http://10.1.2.3:9000/x") == "http://10.1.2.3:9000/x"
    policy.check_addresses("hooks.example.com", [ipaddress.ip_address("10.1.2.3")])
    for url in ("http://10.2.0.1/", "http://[::ffff:10.1.2.3]/", "http://hooks.example.com:9000/"):
        with pytest.raises(EgressRefused):
            policy.check_url(url)
    with pytest.raises(EgressRefused):
        policy.check_addresses("a.example.com", [ipaddress.ip_address("127.0.0.1")])


def test_a_listed_host_opens_that_name_alone_whatever_its_address() -> None:
    policy = allowing("hooks.internal", "localhost")
    assert policy.check_url("http://HOOKS.internal.:8080/") == "http://hooks.internal:8080/"
    policy.check_addresses("localhost", [ipaddress.ip_address("127.0.0.1")])
    for url in ("http://a.hooks.internal/", "http://127.0.0.1/", "http://b.internal/"):
        with pytest.raises(EgressRefused):
            policy.check_url(url)


def test_settings_that_mean_nothing_are_named() -> None:
    conf = WebhooksConf(allow=("10.0.0.0/8", "a b"), schemes=("https", "ftp"), ports=("443", "x"))
    assert faults_of(conf) == ["ftp in SCHEMES", "x in PORTS", "a b in ALLOW"]
    assert faults_of(replace(conf, allow=(), schemes=("https",), ports=("1",))) == []
