from dataclasses import dataclass
from pathlib import Path

import pytest

from entrypoint.common import tomlfile
from entrypoint.common.errors import ConfigFailure, NotUtf8


@dataclass(frozen=True)
class Recipe:
    name: str
    parts: tuple[str, ...] = ()
    size: int = 0
    ratio: float = 0.5
    ready: bool = False


def test_a_table_becomes_a_record() -> None:
    table = {"name": "a", "parts": ["x", "y"], "size": 3, "ratio": 1, "ready": True}
    assert tomlfile.record(Recipe, table, "test") == Recipe("a", ("x", "y"), 3, 1, ready=True)


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigFailure) as caught:
        tomlfile.record(Recipe, {"nmae": "a"}, "models.toml, [models.a]")
    assert "'nmae'" in caught.value.what
    assert "models.toml, [models.a]" in caught.value.what
    assert "name" in caught.value.next


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigFailure, match="'name' is missing"):
        tomlfile.record(Recipe, {"size": 1}, "test")


@pytest.mark.parametrize(
    "table",
    [
        {"name": 1},
        {"name": "a", "parts": "xy"},
        {"name": "a", "parts": ["x", 1]},
        {"name": "a", "size": True},
        {"name": "a", "size": 1.5},
        {"name": "a", "ready": 1},
    ],
)
def test_a_value_of_the_wrong_type_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigFailure, match="must be"):
        tomlfile.record(Recipe, table, "test")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text("name = \n")
    with pytest.raises(ConfigFailure, match=r"models\.toml is not valid TOML"):
        tomlfile.read(path)


@pytest.mark.parametrize("value", ["[" * 100_000, "{a=" * 100_000, "9" * 5000])
def test_a_value_without_an_end_is_no_toml(tmp_path: Path, value: str) -> None:
    path = tmp_path / "file.toml"
    path.write_text(f"a = {value}")
    with pytest.raises(ConfigFailure, match="is not valid TOML"):
        tomlfile.read(path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.toml"
    path.write_bytes('text = "你好"\n'.encode("gbk"))
    with pytest.raises(NotUtf8, match=r"questions\.toml is not UTF-8"):
        tomlfile.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFailure, match="does not exist"):
        tomlfile.read(tmp_path / "absent.toml")
