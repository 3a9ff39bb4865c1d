"""Records of the hub protocol, and origins, as plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.origins import is_allowed_origin, origin_of
from notifications.signalr.protocol import MOST_BYTES, ProtocolFault, RecordReader


@given(st.lists(st.binary(max_size=20).filter(lambda one: b"\x1e" not in one)), st.data())
def test_records_do_not_depend_on_where_messages_begin(
    records: list[bytes], data: st.DataObject
) -> None:
    text = b"".join(one + b"\x1e" for one in records)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    reader = RecordReader()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += reader.feed(text[begin:end])
    assert found == records


def test_a_record_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    reader = RecordReader()
    assert reader.feed(b"a" * MOST_BYTES) == []
    assert reader.feed(b"\x1e") == [b"a" * MOST_BYTES]
    reader.feed(b"a" * MOST_BYTES)
    with pytest.raises(ProtocolFault):
        reader.feed(b"a")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Tasks.Example.org/", "https://tasks.example.org"),
        ("https://tasks.example.org:443/x", "https://tasks.example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_is_as_browsers_write_it(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_programs_without_an_origin_may_connect_and_odd_origins_may_not() -> None:
    assert is_allowed_origin(None)
    assert not any(map(is_allowed_origin, ("", "null", "*", "http://", "http://127.0.0.1.evil")))
