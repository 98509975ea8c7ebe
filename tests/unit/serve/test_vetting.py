"""Which JSON Schemas reach the engine, and what is said of those that don't."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as some

from entrypoint.serve.limits import SCHEMA
from entrypoint.serve.patterns import UnfitPattern, rewrite
from entrypoint.serve.vetting import ENFORCED, IGNORED, OPEN, Unfit, vet
from tests.served import Served

TREE = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}
LIST = {"type": "array", "items": {"$ref": "#/$defs/t"}}


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def tagged(*names: str) -> list[dict[str, Any]]:
    """Return objects that a required constant tells apart."""
    return [
        {
            "type": "object",
            "properties": {"kind": {"const": name}, "next": {"$ref": "#/$defs/t"}},
            "required": ["kind"],
        }
        for name in names
    ]


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        (text(pattern="^(a?){200}$"), "pattern"),
        (text(minLength=3, maxLength=1), "minLength"),
        (text(pattern="^a{3,1}$"), "pattern"),
        (text(pattern="^(?=z)z$"), "pattern"),
        (text(pattern=r"^\bz\b$"), "pattern"),
        (text(pattern=r"^(a)\1$"), "pattern"),
        (text(pattern="^" + "(" * 300 + "a" + ")" * 300 + "$"), "pattern"),
        (text(pattern="^(a{1,40}){1,40}$"), "pattern"),
        (text(pattern="^((a|b|ab){1,20}){1,20}$"), "pattern"),
        (text(pattern="a?" * 64), "pattern"),
        (text(pattern="^(a"), "pattern"),
        (text(pattern="^a)$"), "pattern"),
        (text(pattern="^[b-a]$"), "pattern"),
        (text(pattern="^a{9999999}$"), "pattern"),
        (text(pattern="^a$", minLength=1), "minLength"),
        (text(format="email"), "format"),
        (text(format="date", maxLength=3), "maxLength"),
        (text(maxLength=100_000), "maxLength"),
        (text(minLength=-1), "minLength"),
        (text(minLength=1.5), "minLength"),
        ({"type": "number", "minimum": 50}, "minimum"),
        ({"type": ["null", "number"], "maximum": 50}, "maximum"),
        ({"minimum": 50}, "minimum"),
        ({"type": "integer", "multipleOf": 7}, "multipleOf"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "minimum"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "minimum"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": 5}, "exclusiveMinimum"),
        ({"type": "integer", "minimum": 10**30}, "minimum"),
        ({"type": "integer", "maximum": -1}, "maximum"),
        ({"type": "integer", "maximum": "9"}, "maximum"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"const": 1}}, "contains"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "array", "prefixItems": [{}], "items": {}}, "items"),
        ({"type": "array", "prefixItems": [{}], "minItems": 2}, "minItems"),
        ({"items": [{}]}, "items"),
        ({"properties": {"a": {}}, "allOf": [{"required": ["a"]}]}, "allOf"),
        ({"allOf": [text(minLength=2)]}, "allOf"),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, "allOf"),
        ({"type": "object", "if": {}, "then": {"required": ["a"]}}, "if"),
        ({"type": "object", "not": {"required": ["a"]}}, "not"),
        ({"type": "object", "minProperties": 1, "patternProperties": {"^a": {}}}, "minProperties"),
        ({"type": "object", "propertyNames": {"maxLength": 1}}, "propertyNames"),
        ({"required": ["a"]}, "required"),
        ({"type": "object", "required": ["a"]}, "required"),
        ({"type": "object", "properties": {"a": True}}, "a"),
        ({"properties": {"a]": {}}, "additionalProperties": True}, "additionalProperties"),
        ({"properties": {"a" * 1000: {}}}, "properties"),
        ({"type": "string", "enum": ["a", 1]}, "enum"),
        ({"enum": ["a", "a"]}, "enum"),
        ({"enum": []}, "enum"),
        ({"const": "abc", "minLength": 5}, "minLength"),
        ({"enum": list(range(OPEN + 1))}, "anyOf"),
        ({"anyOf": [{"const": 1}] * (OPEN + 1)}, "anyOf"),
        ({"type": "object", "anyOf": [text(), {}]}, "type"),
        ({"oneOf": [text(), text(maxLength=3)]}, "oneOf"),
        ({"type": "cat"}, "type"),
        ({"type": ["object", "object"]}, "type"),
        ({"type": "object", "frobnicate": 1}, "frobnicate"),
        ({"$ref": "#/$defs/none"}, "$ref"),
        ({"$ref": "http://evil.example/schema"}, "$ref"),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"$ref": "#/$defs/t"}}}, "$ref"),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [{"$ref": "#/$defs/t"}, {}]}}}, "$ref"),
        ({"$ref": "#/$defs/t", "minLength": 1, "$defs": {"t": text()}}, "minLength"),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [LIST, LIST]}}}, "anyOf"),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [TREE, {"type": "object"}]}}}, "anyOf"),
        ({"properties": {"a b": {"$ref": "#/$defs/x_"}, "c": {"$ref": "#/$defs/x."}},
          "$defs": {"x_": {}, "x.": text()}}, "$ref"),
    ],
)  # fmt: skip
def test_what_would_not_be_kept_is_refused_by_its_keyword(
    schema: dict[str, Any], keyword: str
) -> None:
    with pytest.raises(Unfit) as refusal:
        vet(schema)
    assert refusal.value.keyword == keyword
    assert keyword in str(refusal.value)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "object", "minLength": 3},
        text(minLength=1, maxLength=2000, title="x", description="y", default="z"),
        text(format="date-time"),
        {"type": ["string", "null"], "maxLength": 3},
        {"type": "integer", "minimum": -5, "exclusiveMaximum": 5},
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "uniqueItems": False},
        {"type": "array", "prefixItems": [text(), {"type": "integer"}], "maxItems": 2},
        {"type": "object", "properties": {"a": text()}, "required": ["a"], "x-order": 1},
        {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        {"type": "string", "enum": ["red", "green"]},
        {"anyOf": [text(), {"type": "null"}], "description": "maybe"},
        {"oneOf": tagged("a", "b"), "discriminator": {"propertyName": "kind"},
         "$defs": {"t": text()}},
        {"$ref": "#/$defs/t", "$defs": {"t": TREE}},
        {"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [*tagged("a", "b", "c"), text()]}}},
        {"allOf": [{"$ref": "#/$defs/t"}], "title": "x", "$defs": {"t": {"enum": ["a", "b"]}}},
    ],
)  # fmt: skip
def test_what_the_engine_keeps_goes_to_it_unchanged(schema: dict[str, Any]) -> None:
    assert vet(schema) == schema


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"a": 1}
    for _level in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("depth", [100, 100_000])
def test_a_deep_schema_is_refused(depth: int) -> None:
    with pytest.raises(Unfit, match="nested"):
        vet(nested(depth))


def test_a_large_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=str(SCHEMA)):
        vet(text(description="x" * SCHEMA))


def test_alternatives_in_alternatives_are_counted_together() -> None:
    few: dict[str, Any] = {"anyOf": [{"type": "boolean"}] * 16}
    assert vet({"anyOf": [few] * 15})
    with pytest.raises(Unfit, match="256"):
        vet({"anyOf": [json.loads(json.dumps(few)) for _time in range(17)]})


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        (r"^\d{3}-\d{4}$", ["555-1234"], ["5551234"]),
        ("^a.c$", ["abc", "a中c"], ['a"c', "a\\c", "a\nc"]),
        ("b", ["abc", "b"], ["ac"]),
        ("^yes$|^no$", ["yes", "no"], ["yesno"]),
        (r"^a\.+$", ["a.."], ["a.a."]),
        ("^é+$", ["éé"], ["é中"]),
        ("^[^a-z]*?$", ["", "A1"], ["a"]),
        (r"^[\w.-]+@[\w-]+(\.\w{2,})+$", ["a.b@c.example"], ["a@b"]),
        (r"^\u4e2d\x41\t?$", ["中A"], ["中B"]),
        ("^(?:a|b|)$", ["a", ""], ["ab"]),
    ],
)
def test_a_pattern_is_written_anew_and_means_the_same(
    pattern: str, fits: list[str], others: list[str]
) -> None:
    rewritten = vet(text(pattern=pattern))["pattern"]
    for string in fits:
        assert re.search(pattern, string), "the test is wrong"
        assert re.search(rewritten, json.dumps(string, ensure_ascii=False)[1:-1])
    for string in others:
        assert not re.search(rewritten, string)


SIGNS = some.sampled_from(["a", "b-", ".", "é", r"\.", r"\d", r"\D", '"', r"\\", r"\n", "[a-c]",
                           "[^x]", r"[\s\]-]", "x|y", "^", "$", "{2"])  # fmt: skip
COUNTS = some.sampled_from(["", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "{3,1}", "*?", "{0}"])
PATTERNS = some.recursive(
    some.lists(some.tuples(SIGNS, COUNTS), max_size=4),
    lambda inner: some.lists(
        # No + around a +: Python's own matching may take for ever with it.
        some.tuples(
            inner.map(lambda pairs: f"({joined(pairs)})"), some.sampled_from(["", "?", "{2}"])
        ),
        max_size=3,
    ),
    max_leaves=6,
).map(lambda pairs: f"^{joined(pairs)}$")


def joined(pairs: list[tuple[str, str]]) -> str:
    return "".join(sign + count for sign, count in pairs)


def narrowed(rewritten: str) -> str:
    """Cut long ranges of characters, which hypothesis would go through one by one."""

    def cut(span: re.Match[str]) -> str:
        first, last = int(span[1], 16), int(span[2], 16)
        return f"\\U{first:08X}-\\U{min(last, first + 40):08X}"

    return re.sub(r"\\U(\w{8})-\\U(\w{8})", cut, rewritten)


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(pattern=PATTERNS, data=some.data())
def test_whatever_a_rewritten_pattern_matches_is_json_and_matches_the_pattern(
    pattern: str, data: some.DataObject
) -> None:
    try:
        rewritten, _live = rewrite(pattern)
    except UnfitPattern:
        reject()
    content = data.draw(some.from_regex(narrowed(rewritten), fullmatch=True))
    assert re.search(pattern, json.loads(f'"{content}"'))


KEYWORDS = sorted({
    *("$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "$defs"),
    *(keyword for table in (ENFORCED, IGNORED) for words in table.values() for keyword in words),
})  # fmt: skip
VALUES = some.recursive(
    some.none() | some.booleans() | some.floats(allow_nan=False) | some.integers()
    | some.sampled_from([*ENFORCED, "#/$defs/a", "#/properties/a", "^a{1,9}$", "a"]),
    lambda inner: some.lists(inner, max_size=3)
    | some.dictionaries(some.sampled_from([*KEYWORDS, "a"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(schema=some.dictionaries(some.sampled_from(KEYWORDS), VALUES, max_size=4))
def test_any_json_is_either_vetted_or_refused_in_our_words(schema: dict[str, Any]) -> None:
    try:
        once = vet(schema)
    except Unfit:
        return
    assert vet(json.loads(json.dumps(once))) is not None


def test_a_refusal_has_openais_shape(served: Served) -> None:
    shape = {"name": "a", "schema": {"type": "array", "uniqueItems": True}}
    form = {"type": "json_schema", "json_schema": shape}
    status, _headers, answer = served.chat("hi", response_format=form)
    error = answer["error"]
    assert (status, error["code"]) == (400, "invalid_json_schema")
    assert error["param"] == "response_format.json_schema"
    assert "uniqueItems" in error["message"]
