from __future__ import annotations

from builder import benchitrex


def test_a_start_that_the_saved_folder_does_not_halve_is_told() -> None:
    def broken(saved: float) -> list[str]:
        starts = {"saved": saved, "quantizing": 20.0}
        found = {name: {"first": [start]} for name, start in starts.items()}
        return [each.title for each in benchitrex.promises(found) if not each.held]

    assert broken(10) == []
    assert "saved folder" in broken(10.1)[0]


def test_the_table_has_a_dash_for_what_the_tutorials_code_does_not_measure() -> None:
    whole = {"first": 3.3, "decode": 14.0, "prefill": 100.0, "memory": 2000.0, "image": 1900.0}
    some = {"first": 22.0, "memory": 4600.0}
    told = benchitrex.table({"itrex": whole, "llamacpp": whole, "saved": some, "quantizing": some})
    head, _rule, first, decode, _prefill, memory, size = told.splitlines()
    assert head.count("|") == first.count("|") == 6
    assert first.endswith("| 3.3 | 3.3 | 22.0 | 22.0 |")
    assert decode.endswith("| 14.0 | 14.0 | - | - |")
    assert memory.endswith("| 2000 | 2000 | 4600 | 4600 |")
    assert size.endswith("| 1900 | 1900 | - | - |")
