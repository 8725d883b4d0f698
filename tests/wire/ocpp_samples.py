"""Payload samples from the JSON schemas of the development package `ocpp`, and the jsonschema verdict on a payload."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import jsonschema

from gridtide.wire.ocpp.actions import TABLES, Version
from gridtide.wire.ocpp.codec import Direction

FOLDERS: dict[Version, str] = {"2.0.1": "v201", "2.1": "v21"}
Extent = Literal["minimal", "maximal"]
Message = tuple[Version, str, Direction]


def all_messages() -> list[Message]:
    """Every (version, action, direction)."""
    found: list[Message] = []
    for version, table in TABLES.items():
        for action, (_, response) in table.items():
            found.append((version, action, "request"))
            if response is not None:
                found.append((version, action, "response"))
    return found


@cache
def schema(message: Message) -> dict[str, Any]:
    """The published schema of a message."""
    version, action, direction = message
    spec = find_spec("ocpp")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / FOLDERS[version] / "schemas"
    path = folder / f"{action}{direction.capitalize()}.json"
    if not path.exists():
        path = folder / f"{action}.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
    return loaded


@cache
def validator(message: Message) -> Any:
    """Draft-06 validator with format check."""
    return jsonschema.Draft6Validator(schema(message), format_checker=jsonschema.Draft6Validator.FORMAT_CHECKER)


def sample(message: Message, extent: Extent) -> Any:
    """A valid payload with only the required, or with all properties."""
    root = schema(message)
    return _value(root, root.get("definitions", {}), extent)


def _value(node: dict[str, Any], definitions: dict[str, Any], extent: Extent) -> Any:
    if "$ref" in node:
        return _value(definitions[node["$ref"].rsplit("/", 1)[1]], definitions, extent)
    if "enum" in node:
        return node["enum"][0 if extent == "minimal" else -1]
    kind = node.get("type")
    if kind == "object":
        return _object(node, definitions, extent)
    if kind == "array":
        count = node.get("minItems", 0) if extent == "minimal" else min(node.get("maxItems", 2), 2)
        return [_value(node["items"], definitions, extent) for _ in range(max(count, 1))]
    if kind == "string":
        return _text(node, extent)
    if kind in ("integer", "number"):
        edge = node.get("minimum", node.get("maximum", 0)) if extent == "minimal" else node.get("maximum", 7)
        return int(edge)
    if kind == "boolean":
        return extent == "maximal"
    return {"free": [1, "text"]}


def _text(node: dict[str, Any], extent: Extent) -> str:
    if node.get("format") == "date-time":
        return "2026-01-01T12:00:00Z" if extent == "minimal" else "2026-07-01T23:59:59.250+02:00"
    return "" if extent == "minimal" else "é" * min(node.get("maxLength", 30), 3000)


def _object(node: dict[str, Any], definitions: dict[str, Any], extent: Extent) -> dict[str, Any]:
    names = node.get("required", []) if extent == "minimal" else list(node.get("properties", {}))
    made = {name: _value(node["properties"][name], definitions, extent) for name in names}
    if node.get("additionalProperties") is not False and "vendorId" in made and extent == "maximal":
        made["ownKey"] = {"deep": [True, None, 1.5]}
    return made


def property_names(value: Any) -> Iterator[str]:
    """All property names inside a JSON value."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from property_names(member)
    elif isinstance(value, list):
        for item in value:
            yield from property_names(item)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all values inside a JSON value except those in open objects."""
    yield path
    if isinstance(value, dict):
        for name, member in value.items():
            if name not in ("ownKey", "free"):
                yield from places(member, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def with_value(payload: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of `payload` with the value at `path` (not the root) replaced."""
    changed = copy.deepcopy(payload)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return changed


def without(payload: Any, path: tuple[str | int, ...]) -> Any:
    """A copy of `payload` without the value at `path` (not the root)."""
    changed = copy.deepcopy(payload)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return changed
