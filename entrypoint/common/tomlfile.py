"""TOML files that people write, read strictly: an unknown key is an error with a suggestion.

JSON that the program wrote itself is read by the same `record`.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean

Record = TypeVar("Record")


def read(path: Path) -> dict[str, Any]:
    """Parse `path`; raise ConfigFailure if unreadable or malformed, NotUtf8 if it is not UTF-8."""
    try:
        return tomllib.loads(files.text(path))
    except (ValueError, RecursionError) as error:  # also of numbers and brackets without an end
        raise ConfigFailure(
            _("{path} is not valid TOML: {error}").format(path=path, error=error)
        ) from None


def record(
    kind: type[Record], table: dict[str, Any], where: str, *, apart: Collection[str] = ()
) -> Record:
    """Make a dataclass of `table`; raise ConfigFailure on unknown, missing or mistyped keys.

    `where` names the table in messages, for example "models.toml, [models.smollm2-135m]". Keys
    in `apart` are known too, and left to the caller, who has `convert`. Values are checked against
    the annotations: str, int, float, bool, dict, Literal, another dataclass, one of these or None,
    and tuples of them.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known = (*fields, *apart)
    for key in table:
        if key not in known:
            raise ConfigFailure(
                _("Unknown key {key} in {where}.").format(key=repr(key), where=where),
                _("Known keys: {keys}.").format(keys=", ".join(known)),
                did_you_mean(known, key),
            )
    kinds = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = convert(table[name], kinds[name], name, where)
        elif field.default is dataclasses.MISSING:
            raise ConfigFailure(
                _("The key {key} is missing in {where}.").format(key=repr(name), where=where)
            )
    return kind(**values)


def convert(value: Any, kind: Any, name: str, where: str) -> Any:
    """Return `value` as `kind`; raise ConfigFailure if it is something else."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        (plain,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
        return None if value is None else convert(value, plain, name, where)
    if origin is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        # Before each is read, so that the message is about the list.
        if dataclasses.is_dataclass(item) and all(isinstance(each, dict) for each in value):
            return tuple(
                convert(each, item, f"{name} {number}", where)
                for number, each in enumerate(value, 1)
            )
        if all(_fits(each, item) for each in value):
            return tuple(value)
    elif dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return record(kind, value, f"{where}, [{name}]")  # type: ignore[arg-type]
    elif _fits(value, kind):
        return value
    raise ConfigFailure(
        _("{key} in {where} must be {type}, not {value}.").format(
            key=repr(name), where=where, type=_name(kind), value=repr(value)
        )
    )


def _name(kind: Any) -> str:
    """Name a type as a person who writes TOML would."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _("a list of {kind}").format(kind=_name(typing.get_args(kind)[0]))
    if origin is typing.Literal:
        return _("one of {names}").format(names=", ".join(typing.get_args(kind)))
    plain = {
        str: _("text"),
        bool: _("true or false"),
        int: _("a whole number"),
        float: _("a number"),
    }
    return plain.get(kind, _("a table"))


def _fits(value: object, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(value, bool):  # Python counts it as an int, people do not
        return kind is bool
    return isinstance(value, (int, float) if kind is float else origin or kind)
