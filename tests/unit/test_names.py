"""A class name means one thing in the whole project."""

import ast
from collections import defaultdict

from builder.settings import ROOT


def test_no_class_name_is_defined_twice() -> None:
    places = defaultdict(list)
    for folder in ("bench", "builder", "entrypoint"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 200
    assert {name: defined for name, defined in places.items() if len(defined) > 1} == {}
