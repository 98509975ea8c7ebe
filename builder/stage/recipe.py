"""Recipes: what of a stage's program decides the bytes that it makes.

A receipt that hashed whole files would call weights stale because of a comment, and one that
listed flags by hand would forget some. So a stage names the modules that make its bytes; of them
counts all that can change a byte, and nothing else. What only estimates, measures or prints lies
in modules that no recipe names.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from builder.settings import ROOT
from builder.stage import receipt

PLACE: Final = ROOT / "builder"


def code(*modules: str) -> dict[str, str]:
    """Return a digest of what each module does; they are named by their paths from builder/."""
    return {
        name: receipt.digest(meaning((PLACE / name).read_text(encoding="utf-8")))
        for name in modules
    }


def meaning(source: str) -> str:
    """Return a module's statements without comments, imports, types, docstrings and messages."""
    return ast.unparse(_Meaning().visit(ast.parse(source)))


def lines(path: Path) -> str:
    """Return a digest of a file whose comments are lines that begin with #."""
    text = path.read_text(encoding="utf-8").splitlines()
    return receipt.digest([line for line in text if line and not line.startswith("#")])


class _Meaning(ast.NodeTransformer):
    """Takes out of a module what changes no byte of what it makes."""

    def visit_Import(self, _node: ast.Import) -> None:
        """Take it out: a module that moves to another room does the same."""

    def visit_ImportFrom(self, _node: ast.ImportFrom) -> None:
        """Take it out."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Take out docstrings and progress messages."""
        saying = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "report.say"
        if saying or isinstance(node.value, ast.Constant):
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Take the words out of a message, which an error or a heading has."""
        if isinstance(node.func, ast.Name) and node.func.id == "_":
            return ast.copy_location(ast.Constant(""), node)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Take out its type."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Take out its type; without a value, all of it."""
        if node.value is None:
            return None
        return self.generic_visit(
            ast.copy_location(ast.Assign([node.target], node.value, lineno=node.lineno), node)
        )

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Take out the type of what it returns."""
        node.returns = None
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Keep a body valid where everything in it was taken out."""
        super().generic_visit(node)
        if getattr(node, "body", True) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node
