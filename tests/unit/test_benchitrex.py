from __future__ import annotations

from builder.bench import itrex


def broken(first: float, memory: float) -> list[str]:
    found = {
        "saved": {"first": [first], "memory": [memory]},
        "quantizing": {"first": [10.0], "memory": [1000.0]},
    }
    return [each.title for each in itrex.promises(found) if not each.held]


def test_a_saved_folder_that_gains_too_little_is_told() -> None:
    assert broken(8, 600) == []
    (start,) = broken(8.1, 600)
    assert start.startswith("start")
    (memory,) = broken(8, 601)
    assert memory.startswith("memory")


def test_the_table_has_a_dash_for_what_the_tutorials_code_does_not_measure() -> None:
    whole = {"first": 3.3, "decode": 14.0, "prefill": 100.0, "memory": 2000.0, "image": 1900.0}
    some = {"first": 22.0, "memory": 4600.0}
    told = itrex.table({"itrex": whole, "llamacpp": whole, "saved": some, "quantizing": some})
    head, _rule, first, decode, _prefill, memory, size = told.splitlines()
    assert head.count("|") == first.count("|") == 6
    assert first.endswith("| 3.3 | 3.3 | 22.0 | 22.0 |")
    assert decode.endswith("| 14.0 | 14.0 | - | - |")
    assert memory.endswith("| 2000 | 2000 | 4600 | 4600 |")
    assert size.endswith("| 1900 | 1900 | - | - |")
