"""JSON Schemas, vetted before the engine sees them.

llama.cpp makes a grammar of a schema. What its `common/json-schema.cpp` does not read it passes
over, and what it reads can take all memory or keep everybody waiting. So a schema is refused that
has a keyword which is not enforced (the tables below follow that file's order), or that asks for
more than the bounds.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final, TypeAlias

import msgspec

from entrypoint.common.language import _
from entrypoint.serve.limits import SCHEMA
from entrypoint.serve.patterns import LONGEST, OPEN, UnfitPattern, rewrite

Json: TypeAlias = Any
Node: TypeAlias = dict[str, Any]

DEPTH = 64  # brackets inside each other, of the schema's own text
RULES = 20_000  # of the grammar, about
NAME = 256  # characters of a property's name
LARGEST = 10**15  # of an integer's bounds: the engine counts 16 digits

# What only tells something, or is read where a reference points at it.
NOTES: Final = {
    *("$schema", "$comment", "$defs", "definitions", "title", "description", "default", "examples"),
    *("deprecated", "readOnly", "writeOnly", "discriminator"),
}
NEUTRAL: Final[dict[str, Json]] = {"uniqueItems": False, "minProperties": 0, "nullable": False}
ENFORCED: Final[dict[str, set[str]]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"pattern", "format", "minLength", "maxLength"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": set(),
    "boolean": set(),
    "null": set(),
}
BOUNDS: Final = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
IGNORED: Final[dict[str, set[str]]] = {
    "object": {
        *("minProperties", "maxProperties", "patternProperties", "propertyNames"),
        *("dependentRequired", "dependentSchemas"),
    },
    "array": {"uniqueItems", "contains", "minContains", "maxContains"},
    "integer": BOUNDS,
    "number": BOUNDS,
}
# By keyword: the types that it says something of.
ABOUT: Final[dict[str, set[str]]] = {
    keyword: {kind for kind in ENFORCED if keyword in ENFORCED[kind] | IGNORED.get(kind, set())}
    for table in (ENFORCED, IGNORED)
    for keywords in table.values()
    for keyword in keywords
}
FORMATS: Final = {"date", "time", "date-time", "uuid"}
BREAKING: Final = set('"\\]^\n\r')  # in a name, they would break the rule for all other names


class Unfit(ValueError):
    """A schema that the engine cannot follow; `keyword` is to blame."""

    def __init__(self, keyword: str, place: str, why: str) -> None:
        super().__init__(
            _("The schema's keyword {keyword} at {place}: {why}.").format(
                keyword=keyword, place=place, why=why
            )
        )
        self.keyword = keyword


def _beside(keyword: str, place: str, other: str) -> Unfit:
    return Unfit(keyword, place, _("it is not enforced beside {other}").format(other=other))


def vet(schema: Node) -> Node:
    """Return a schema as the engine reads it right; raise Unfit if it cannot be followed."""
    if _depth(schema) > DEPTH:
        raise Unfit("properties", "#", _("it is nested too deeply"))
    if len(msgspec.json.encode(schema)) > SCHEMA:
        raise ValueError(_("The schema has more than {bytes} bytes").format(bytes=SCHEMA))
    vetted = copy.deepcopy(schema)
    live = _Vetter(vetted).visit(vetted, "#", frozenset())
    if live > OPEN:
        raise Unfit("anyOf", "#", _("it has more than {most} alternatives").format(most=OPEN))
    return vetted


class _Vetter:
    """Goes through a schema as the engine does; counts the rules that it would make."""

    def __init__(self, root: Node) -> None:
        self._root, self._rules = root, 0
        # By node: in how many ways an answer can be inside it at once; None while it is visited.
        self._live: dict[int, float | None] = {}
        # By node: the nodes around it that it leads back to.
        self._loops: dict[int, set[int]] = {}
        self._names: dict[str, str] = {}

    def visit(self, node: Json, place: str, bare: frozenset[int]) -> float:
        """Return how many alternatives are open at once in a node, at `place` of the schema.

        `bare` are the nodes around it without a bracket of the answer in between.
        """
        if not isinstance(node, dict):
            raise Unfit(place.rpartition("/")[2], place, _("it must be an object"))
        key = id(node)
        if key in self._live:
            return self._seen(key, place, bare)
        self._live[key] = None
        self._loops[key] = set()
        live = self._form(node, place, bare | {key})
        self._live[key] = live
        self._loops[key].discard(key)
        self._rules += 1
        if self._rules > RULES:
            raise Unfit("properties", "#", _("its grammar would be too large"))
        return live

    def _seen(self, key: int, place: str, bare: frozenset[int]) -> float:
        live = self._live[key]
        if key in bare:
            raise Unfit("$ref", place, _("it leads back to itself"))
        if live is None:
            self._loops[key].add(key)
            return 1
        return live

    def _reach(self, node: Node, inner: Node) -> None:
        """Note that where `inner` leads back to, `node` does too."""
        self._loops[id(node)] |= self._loops[id(inner)]

    def _inside(self, node: Node, inner: Json, place: str, bare: frozenset[int]) -> float:
        live = self.visit(inner, place, bare)
        self._reach(node, inner)
        return live

    def _form(self, node: Node, place: str, bare: frozenset[int]) -> float:
        """Visit a node by the first of the forms that the engine looks for."""
        if "$ref" in node:
            _require_alone(node, place, "$ref")
            return self._inside(node, self._target(node["$ref"], place), place, bare)
        for keyword in ("oneOf", "anyOf"):
            if keyword in node:
                _require_alone(node, place, keyword)
                return self._alternatives(node, keyword, place, bare)
        if "const" in node or "enum" in node:
            return self._constants(node, place)
        kinds = _kinds(node, place)
        if kinds == ["allOf"]:
            _require_alone(node, place, "allOf", "type")
            return self._all_of(node, place, bare)
        self._require_enforced(node, kinds, place)
        return sum(self._typed(node, kind, place) for kind in kinds)

    def _require_enforced(self, node: Node, kinds: list[str], place: str) -> None:
        for keyword, value in node.items():
            if keyword in NOTES or keyword == "type" or keyword.startswith("x-"):
                continue
            if keyword in NEUTRAL and NEUTRAL[keyword] == value:
                continue
            for kind in kinds:
                concerned = kind == "any" or kind in ABOUT.get(keyword, {kind})
                if concerned and keyword not in ENFORCED.get(kind, ()):
                    raise Unfit(keyword, place, _("it is not enforced here"))

    def _typed(self, node: Node, kind: str, place: str) -> float:
        match kind:
            case "object":
                return self._object(node, place)
            case "array":
                return self._array(node, place)
            case "string":
                return self._string(node, place)
            case "integer":
                _require_bounds(node, place)
        return 8 if kind == "any" else 1

    def _target(self, ref: Json, place: str) -> Json:
        """Return what a reference points at."""
        if not isinstance(ref, str) or ref[:2] != "#/" or set(ref) & set("~%"):
            raise Unfit("$ref", place, _("only a path within the schema is followed"))
        name = "".join(sign if sign.isalnum() or sign == "-" else "-" for sign in ref)
        if self._names.setdefault(name, ref) != ref:
            raise Unfit("$ref", place, _("two names differ in punctuation only"))
        target = self._root
        for step in ref.split("/")[1:]:
            if not isinstance(target, dict) or step not in target:
                raise Unfit("$ref", place, _("it points at nothing"))
            target = target[step]
        return target

    def _alternatives(self, node: Node, keyword: str, place: str, bare: frozenset[int]) -> float:
        branches = node[keyword]
        if not isinstance(branches, list) or not branches:
            raise Unfit(keyword, place, _("it must be a list of schemas"))
        if len(branches) > OPEN:
            raise Unfit(keyword, place, _("it has more than {most} alternatives").format(most=OPEN))
        live = sum(
            self._inside(node, branch, f"{place}/{keyword}/{number}", bare)
            for number, branch in enumerate(branches)
        )
        around = {key for key, known in self._live.items() if known is None}
        for one, other in combinations(branches, 2):
            recursive = (self._loops[id(one)] | self._loops[id(other)]) & around
            if (keyword == "oneOf" or recursive) and not self._apart(one, other, bool(recursive)):
                why = _("its alternatives cannot be told apart by type or a required constant")
                raise Unfit(keyword, place, why)
        return live

    def _apart(self, one: Node, other: Node, first: bool) -> bool:
        """Tell whether no value fits both; with `first`, whether that shows as it begins."""
        one, other = self._resolved(one), self._resolved(other)
        kinds = _value_kinds(one), _value_kinds(other)
        if not kinds[0] & kinds[1]:
            return True
        tags, others = list(_tags(one)), list(_tags(other))
        if first:
            tags, others = tags[:1], others[:1]
        return any(
            name == named and mine and theirs and not mine & theirs
            for name, mine in tags
            for named, theirs in others
        )

    def _resolved(self, node: Node) -> Node:
        while "$ref" in node:
            node = self._target(node["$ref"], "#")
        return node

    def _constants(self, node: Node, place: str) -> float:
        keyword = "const" if "const" in node else "enum"
        _require_alone(node, place, keyword, "type")
        values = [node["const"]] if keyword == "const" else node["enum"]
        if not isinstance(values, list) or not values or len(set(map(_text, values))) < len(values):
            raise Unfit(keyword, place, _("it must be a list of different values"))
        kinds = _type_list(node, place)
        if kinds and not all(_kind(value) & set(kinds) for value in values):
            raise Unfit(keyword, place, _("a value is not of the type"))
        return len(values) * max(1, len(kinds))

    def _all_of(self, node: Node, place: str, bare: frozenset[int]) -> float:
        """The engine takes apart one object or one list of constants, and nothing else, rightly."""
        parts = node["allOf"]
        if not isinstance(parts, list) or len(parts) != 1:
            raise Unfit("allOf", place, _("it is not enforced here"))
        live = self._inside(node, parts[0], f"{place}/allOf/0", bare)
        part = self._resolved(parts[0])
        if "enum" not in part and not ("properties" in part and _kinds(part, place) == ["object"]):
            raise Unfit("allOf", place, _("it is not enforced here"))
        return live

    def _object(self, node: Node, place: str) -> float:
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, dict):
            raise Unfit("properties", place, _("it must be an object"))
        if not isinstance(required, list) or any(name not in list(properties) for name in required):
            raise Unfit("required", place, _("it names what is not among the properties"))
        if any(len(name) > NAME for name in properties):
            raise Unfit(
                "properties", place, _("a name has more than {most} characters").format(most=NAME)
            )
        live = [
            self._inside(node, inner, f"{place}/properties/{name}", frozenset())
            for name, inner in properties.items()
        ]
        more = node.get("additionalProperties", False)
        if more and any(set(name) & BREAKING for name in properties):
            raise Unfit("additionalProperties", place, _("a name beside it has special characters"))
        if not isinstance(more, bool):
            live.append(self._inside(node, more, f"{place}/additionalProperties", frozenset()))
        optional = len(set(properties) - set(required)) + 1
        self._rules += optional * optional // 2 + sum(map(len, properties))
        return max([*live, optional])

    def _array(self, node: Node, place: str) -> float:
        least, most = _span(node, "minItems", "maxItems", place)
        self._rules += most or least
        if "prefixItems" in node:
            items = node["prefixItems"]
            if not isinstance(items, list):
                raise Unfit("prefixItems", place, _("it must be a list of schemas"))
            if "items" in node:
                raise _beside("items", place, "prefixItems")
            if not least <= len(items) <= (len(items) if most is None else most):
                raise Unfit("minItems", place, _("it asks for another number of items"))
            return max(
                [1.0, *(
                    self._inside(node, item, f"{place}/prefixItems/{number}", frozenset())
                    for number, item in enumerate(items)
                )]
            )  # fmt: skip
        if "items" not in node:
            return 8
        return self._inside(node, node["items"], f"{place}/items", frozenset()) + 1

    def _string(self, node: Node, place: str) -> float:
        least, most = _span(node, "minLength", "maxLength", place)
        for strong, weak in (("pattern", "format"), ("pattern", "minLength"),
                             ("pattern", "maxLength"), ("format", "minLength"),
                             ("format", "maxLength")):  # fmt: skip
            if strong in node and weak in node:
                raise _beside(weak, place, strong)
        if "format" in node and node["format"] not in list(FORMATS):
            raise Unfit("format", place, _("it is not enforced here"))
        if "pattern" in node:
            if not isinstance(node["pattern"], str):
                raise Unfit("pattern", place, _("it must be text"))
            try:
                node["pattern"], live = rewrite(node["pattern"])
            except UnfitPattern as error:
                raise Unfit("pattern", place, str(error)) from None
            self._rules += len(node["pattern"]) // 10
            return live
        self._rules += most or least
        return 2


def _depth(value: Json) -> int:
    """Return how many brackets are inside each other."""
    deepest, rest = 0, [(value, 1)]
    while rest:
        inner, depth = rest.pop()
        deepest = max(deepest, depth)
        if isinstance(inner, dict):
            rest += [(each, depth + 1) for each in inner.values()]
        elif isinstance(inner, list):
            rest += [(each, depth + 1) for each in inner]
    return deepest


def _require_alone(node: Node, place: str, *keywords: str) -> None:
    """Raise Unfit for a keyword that the engine does not read beside the first of these."""
    for keyword in node:
        if keyword not in {*NOTES, *keywords} and not keyword.startswith("x-"):
            raise _beside(keyword, place, keywords[0])


def _type_list(node: Node, place: str) -> list[str]:
    """Return the types that a node names, if any."""
    types = node.get("type", [])
    kinds = [types] if isinstance(types, str) else types
    if not isinstance(kinds, list) or any(
        not isinstance(kind, str) or kind not in ENFORCED for kind in kinds
    ):
        raise Unfit("type", place, _("there is no such type"))
    if len(set(kinds)) < len(kinds) or ("type" in node and not kinds):
        raise Unfit("type", place, _("it must name each type once"))
    return kinds


def _kinds(node: Node, place: str) -> list[str]:
    """Return the types of which the engine takes a node to be."""
    if kinds := _type_list(node, place):
        wraps = kinds == ["object"] and not {"properties", "additionalProperties"} & set(node)
        return ["allOf"] if "allOf" in node and wraps else kinds
    if "properties" in node or node.get("additionalProperties", True) is not True:
        return ["object"]
    if "allOf" in node:
        return ["allOf"]
    for kind, telling in (
        ("array", {"items", "prefixItems"}),
        ("string", {"pattern", "minLength", "maxLength", "format"}),
    ):
        if telling & set(node):
            return [kind]
    return ["any"]


def _kind(value: Json) -> set[str]:
    """Return the types that a value has."""
    if isinstance(value, float):
        return {"number", "integer"} if value.is_integer() else {"number"}
    names = {bool: "boolean", str: "string", list: "array", dict: "object", type(None): "null"}
    name = names.get(type(value))
    return {name} if name else {"integer", "number"}


def _value_kinds(node: Node) -> set[str]:
    """Return the types that a value of a node can have."""
    if "const" in node:
        return _kind(node["const"])
    if "enum" in node:
        return set[str]().union(*map(_kind, node["enum"]))
    if {"anyOf", "oneOf", "allOf"} & set(node):
        return set(ENFORCED)
    kinds = set(_kinds(node, "#"))
    if "any" in kinds:
        return set(ENFORCED)
    return kinds | ({"integer"} if "number" in kinds else set())


def _tags(node: Node) -> Iterator[tuple[str, set[str]]]:
    """Yield the required properties in the answer's order, each with its constants, if any."""
    required = node.get("required", ())
    for name, inner in node.get("properties", {}).items():
        if name in required:
            values = [inner["const"]] if "const" in inner else inner.get("enum", [])
            yield name, set(map(_text, values))


def _text(value: Json) -> str:
    """Return what is the same for equal values only."""
    return json.dumps(value, sort_keys=True)


def _count(node: Node, keyword: str, place: str) -> int | None:
    value = node.get(keyword)
    if value is None and keyword not in node:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unfit(keyword, place, _("it must be a whole number, not below 0"))
    if value > LONGEST:
        raise Unfit(keyword, place, _("it is more than {most}").format(most=LONGEST))
    return value


def _span(node: Node, low: str, high: str, place: str) -> tuple[int, int | None]:
    """Return the least and the most of something; raise Unfit if there is nothing in between."""
    least, most = _count(node, low, place) or 0, _count(node, high, place)
    if most is not None and least > most:
        raise Unfit(low, place, _("it is more than {other}").format(other=high))
    return least, most


def _require_bounds(node: Node, place: str) -> None:
    """Check an integer's bounds, of which the engine reads one at each end."""
    for keyword in set(node) & ENFORCED["integer"]:
        value = node[keyword]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit(keyword, place, _("it must be a number"))
        if abs(value) > LARGEST:
            raise Unfit(keyword, place, _("it is more than {most}").format(most=LARGEST))
    for weak, strong in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if weak in node and strong in node:
            raise _beside(weak, place, strong)
    least = math.ceil(node.get("minimum", math.floor(node.get("exclusiveMinimum", -LARGEST)) + 1))
    most = math.floor(node.get("maximum", math.ceil(node.get("exclusiveMaximum", LARGEST)) - 1))
    if least > most:
        raise Unfit("minimum", place, _("it is more than {other}").format(other="maximum"))
    if most < 0 and not {"minimum", "exclusiveMinimum"} & set(node):
        raise Unfit("maximum", place, _("below 0, it needs a minimum"))
