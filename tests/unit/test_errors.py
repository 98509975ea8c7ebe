from entrypoint.common.errors import EXIT_CODES, Failure, HashMismatch


def test_each_kind_of_failure_has_its_own_code() -> None:
    kinds: list[type[Failure]] = [Failure, *Failure.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert set(EXIT_CODES) == {0, 130, 143, *(kind.code for kind in kinds)}


def test_a_failure_reads_what_why_next() -> None:
    failure = HashMismatch("The file differs.", "Locked: a; found: b.", "Fetch it again.")
    assert str(failure) == "The file differs.\n  Locked: a; found: b.\n  Fetch it again."


def test_a_failure_without_why_has_no_gap() -> None:
    assert str(HashMismatch("The file differs.", next="Fetch it again.")) == (
        "The file differs.\n  Fetch it again."
    )
