"""A whole answer is held against its schema, whatever the engine made of that."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from entrypoint.serve import adherence
from entrypoint.serve.problems import Problem
from tests.served import Served

LEAVES = {"type": "object", "properties": {"leaf": {"type": "integer", "maximum": 5}}}


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize(
    ("answer", "blamed"),
    [
        ('{"leaf": 6}', "$.leaf: 6 is greater than the maximum of 5"),
        ('{"leaf": "5"}', "$.leaf"),
        ("[]", "$: "),
        ('{"leaf": 5', "not JSON"),
        ("", "not JSON"),
    ],
)
def test_an_answer_that_breaks_its_schema_does_not_leave(
    served: Served, answer: str, blamed: str
) -> None:
    status, _headers, told = served.chat(answer, response_format=form(LEAVES))
    assert (status, told["error"]["code"]) == (500, "schema_broken")
    assert blamed in told["error"]["message"]


def test_one_that_keeps_it_does(served: Served) -> None:
    status, _headers, told = served.chat('{"leaf": 5}', response_format=form(LEAVES))
    assert (status, told["choices"][0]["message"]["content"]) == (200, '{"leaf": 5}')


def test_a_call_that_has_to_be_made_is_held_against_its_function(served: Served) -> None:
    grow = {"type": "function", "function": {"name": "grow", "parameters": LEAVES}}
    for leaf, right in ((5, 200), (6, 500)):
        call = json.dumps({"name": "grow", "arguments": {"leaf": leaf}})
        status, *_rest = served.chat(call, tools=[grow], tool_choice="required")
        assert status == right


@pytest.mark.parametrize("more", [{"max_tokens": 1}, {"stop": ["zzz"]}])
def test_a_part_of_an_answer_is_not_held_against_it(served: Served, more: Any) -> None:
    status, *_rest = served.chat('{"leaf":', response_format=form(LEAVES), **more)
    assert status == 200


def test_days_are_those_of_the_calendar_and_patterns_are_the_engines() -> None:
    day = {"type": "string", "format": "date"}
    adherence.require('"2024-02-29"', day)
    with pytest.raises(Problem, match="2023-02-29"):
        adherence.require('"2023-02-29"', day)
    adherence.require('"' + "a" * 40 + '"', {"type": "string", "pattern": "^(a|a)*b$"})


def test_no_answer_keeps_the_check_busy_or_makes_it_fail() -> None:
    twice = {"anyOf": [{"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/tree"}]}
    tree = {"type": "object", "properties": {"kid": twice, "leaf": {"const": 1}}}
    schema = {"$ref": "#/$defs/tree", "$defs": {"tree": tree}}
    begun = time.monotonic()
    adherence.require('{"kid":' * 30 + '{"leaf": 2}' + "}" * 30, schema)  # 2^30 ways
    for depth in (300, 100_000):
        adherence.require('{"kid":' * depth + "{}" + "}" * depth, schema)
    assert time.monotonic() - begun < 60
