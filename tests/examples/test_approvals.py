"""The recording helper that users copy."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e9, 1e9).map(lambda x: round(x, 2))
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(), JSON, max_size=5)


def load() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "support_agent" / "approvals.py"
    spec = importlib.util.spec_from_file_location("support_agent_approvals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


arguments_hash = load().arguments_hash


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ({"amount": 60.0}, {"amount": 60}),
        ({"b": 1, "a": [{"d": 2.0, "c": "ü"}]}, {"a": [{"c": "ü", "d": 2}], "b": 1}),
        ({"a": -0.0}, {"a": 0}),
    ],
)
def test_the_hash_is_that_of_rfc_8785(arguments: dict[str, object], same: dict[str, object]) -> None:
    assert arguments_hash(arguments) == arguments_hash(same)


def test_a_known_hash() -> None:
    """SHA-256 of `{"amount":59.9,"order_id":"ORD-1001"}`."""
    known = "8443313c77a5df939fbbee60587d208b09b47e14d9c7e70dd03d7cc22a818ff9"
    assert arguments_hash({"order_id": "ORD-1001", "amount": 59.9}) == known


@given(ARGUMENTS)
def test_order_and_a_trip_over_the_wire_change_nothing(arguments: dict[str, object]) -> None:
    reordered = dict(reversed(json.loads(json.dumps(arguments)).items()))
    assert arguments_hash(reordered) == arguments_hash(arguments)


@given(ARGUMENTS, st.text(), st.integers())
def test_other_arguments_have_another_hash(arguments: dict[str, object], key: str, value: int) -> None:
    assert arguments_hash({**arguments, key: [value]}) != arguments_hash({**arguments, key: [value + 1]})


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        arguments_hash({"amount": float("nan")})
