"""schemathesis against our own description: whatever fits it, and whatever does not."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.served import Served


def no_mistake_of_ours(context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """Take 500 for a mistake, unless it tells that the parrot did not follow a schema."""
    if response.status_code == 500 and response.json()["error"].get("code") == "schema_broken":
        return None
    return not_a_server_error(context, response, case)


CHECKS = [
    no_mistake_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_one_that_the_description_tells_of(
    served: Served, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    tried = dict.fromkeys((operation.label for operation in operations), 0)
    for operation in operations:

        @settings(
            max_examples=50,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)
            tried[case.operation.label] += 1

        if mode is GenerationMode.POSITIVE or operation.body:
            check()
    assert len(operations) == 11
    assert tried["POST /v1/chat/completions"] >= 50
