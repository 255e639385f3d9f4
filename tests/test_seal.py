from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import FileError
from slmbench.seal import SEAL, check_seal, sealed

KEYS = st.integers(0, 20) | st.text(max_size=3)
RECORDS = st.dictionaries(
    KEYS,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_size=4,
)


@given(RECORDS)
def test_what_was_written_is_known_again_whatever_its_keys_and_values_are(record: dict[Any, Any]) -> None:
    check_seal(json.loads(json.dumps(sealed(record))), "record.json")


@pytest.mark.parametrize(
    "change", [{"a": False}, {"a": 0.0}, {"a": "0"}, {"b": 1}, {"c": [2, 1]}, {"new": None}, {SEAL: "0" * 64}]
)
def test_a_change_of_any_field_is_seen_and_named(change: dict[str, Any]) -> None:
    record = sealed({"a": 0, "b": None, "c": [1, 2], "status": "ok"})
    check_seal(record | {"status": "invalidated"}, "record.json")
    check_seal({key: value for key, value in (record | change).items() if key != SEAL}, "record.json")
    with pytest.raises(FileError, match=r"record\.json: field record_sha256 is .* the digest of the other fields"):
        check_seal(record | change, "record.json")
