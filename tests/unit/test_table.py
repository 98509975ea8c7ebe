from entrypoint.common import table


def test_chinese_takes_two_cells() -> None:
    rows = [("name", "licence"), ("智谱", "MIT"), ("a", "Apache-2.0")]
    assert table.columns(rows).splitlines() == ["name  licence", "智谱  MIT", "a     Apache-2.0"]


def test_lines_have_no_blanks_at_their_end() -> None:
    assert table.columns([("a", ""), ("b", "long")]).splitlines() == ["a", "b  long"]
