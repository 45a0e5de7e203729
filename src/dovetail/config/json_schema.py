"""The JSON schema of run files, with the components of one installation: for completion and checks in editors.

It accepts every file that Dovetail accepts. It also accepts some that Dovetail refuses: a schema cannot express rules
across settings, or check a file together with the files it extends. ``dovetail config check`` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import attrs

from dovetail.config.annotations import (
    ARRAYS,
    MAPPINGS,
    accepts,
    choices,
    field_types,
    is_choice,
    is_scalar,
    is_union,
    part_kind,
)
from dovetail.config.convert import default_value
from dovetail.config.fields import OfKind
from dovetail.config.notation import NONE, UNSET
from dovetail.config.parts import reserved_type
from dovetail.config.plain import is_plain, plain
from dovetail.config.schema import sections
from dovetail.kernel.component import PluginError
from dovetail.kernel.kind import Limit
from dovetail.kernel.plugins import Registered
from dovetail.kernel.signature import MISSING, Parameter, read_signature
from dovetail.spec import AtLeast, Between, MoreThan
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WORDS: Final[Mapping[str, Schema]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "float": {"type": "number"},
    "string": {"type": "string"},
    "date and time": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "none": {"const": NONE},
}
_SECRET: Final[Schema] = {
    "type": "object",
    "description": "A secret: the name of the environment variable that holds it.",
    "properties": {"env": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
    "required": ["env"],
    "additionalProperties": False,
}


def json_schema(plugins: Plugins) -> Schema:
    """Return the schema of a run file, with one branch per registered ``type``.

    This imports every component to read its signature. The schema allows a component that cannot be imported, with any
    options.
    """
    # A file that extends nothing must be complete; a file that extends others is a layer, and so is a profile.
    whole, layer = _Writer(plugins, layer=False), _Writer(plugins, layer=True)
    whole_run, layer_run = whole.run(), layer.run()
    return {
        "$schema": _DIALECT,
        "title": "Dovetail run file",
        "type": "object",
        "properties": {
            "extends": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Files that this one is laid over, weakest first; paths are from this file's folder.",
            },
            "profile": {
                "type": "object",
                "additionalProperties": layer_run,
                "description": "Layers to choose from with --profile NAME.",
            },
            **layer_run["properties"],
        },
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        "else": {"properties": whole_run["properties"], "required": whole_run["required"]},
        "$defs": {"secret": _SECRET, **whole.definitions, **layer.definitions},
    }


class _Writer:
    """Writes the schema of types: of complete tables, or of layers, in which any key may be missing."""

    def __init__(self, plugins: Plugins, *, layer: bool) -> None:
        self.plugins, self.layer = plugins, layer
        self.definitions: dict[str, Schema] = {}

    def run(self) -> Schema:
        """Return the schema of all sections."""
        properties, required = {}, []
        for section in sections():
            properties[section.name] = {**self.of(section.type), "description": section.metadata["help"]}
            wanted = part_kind(section.type)
            if wanted and wanted.default_type is None and not self.layer:
                required.append(section.name)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def of(self, annotation: Any, *, secrets: bool = False) -> Schema:
        """Return the schema of a type."""
        schema = self._of(annotation, secrets=secrets)
        return {"anyOf": [schema, {"const": UNSET}]} if self.layer else schema

    def _of(self, annotation: Any, *, secrets: bool) -> Schema:
        wanted, origin = part_kind(annotation), get_origin(annotation)
        if wanted:
            return self._part(wanted)
        if origin is Annotated:
            inner, *marks = get_args(annotation)
            return _limited(self._of(inner, secrets=secrets), [mark for mark in marks if isinstance(mark, Limit)])
        if is_union(annotation):
            members = [self._of(member, secrets=secrets) for member in get_args(annotation) if accepts(member)]
            return {"anyOf": members}
        if is_choice(annotation):
            return {"enum": choices(annotation)}
        if (origin or annotation) in ARRAYS:
            return self._array(annotation, secrets=secrets)
        if (origin or annotation) in MAPPINGS:
            return self._mapping(annotation, secrets=secrets)
        return self._section(annotation, secrets=secrets) if attrs.has(annotation) else _scalar(annotation, secrets)

    def _array(self, annotation: Any, *, secrets: bool) -> Schema:
        elements = get_args(annotation)
        if get_origin(annotation) is tuple and ... not in elements:
            items = [self._of(element, secrets=secrets) for element in elements]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
        return {"type": "array", **({"items": self._of(elements[0], secrets=secrets)} if elements else {})}

    def _mapping(self, annotation: Any, *, secrets: bool) -> Schema:
        key, value = get_args(annotation) or (str, Any)
        names: Schema = {"enum": choices(key)} if is_choice(key) else {}
        return {"type": "object", "propertyNames": names, "additionalProperties": self.of(value, secrets=secrets)}

    def _section(self, cls: Any, *, secrets: bool) -> Schema:
        """Refer to the schema of an attrs class, which may be recursive."""
        name = f"{self._prefix}{cls.__module__}.{cls.__qualname__}"
        if name not in self.definitions:
            self.definitions[name] = {}
            types = field_types(cls)
            fields = [field for field in attrs.fields(cls) if field.name in types]
            properties = {
                field.alias or field.name: self._field(field, types[field.name], secrets=secrets) for field in fields
            }
            self.definitions[name] |= {
                "type": "object",
                "properties": properties,
                "required": [
                    field.alias or field.name for field in fields if field.default is attrs.NOTHING and not self.layer
                ],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}

    def _field(self, field: attrs.Attribute[Any], annotation: Any, *, secrets: bool) -> Schema:
        schema = self._of(annotation, secrets=secrets)
        if pattern := field.metadata.get("pattern"):
            none = f"|{NONE}" if "none" in accepts(annotation) else ""
            schema = {**schema, "pattern": f"^(?:{pattern}{none})$"}
        schema = _limited(schema, field.metadata.get("limits", ()))
        schema = {"anyOf": [schema, {"const": UNSET}]} if self.layer else dict(schema)
        return _described(schema, field.metadata.get("help", ""), field.default)

    # --- parts ---

    @property
    def _prefix(self) -> str:
        return "layer." if self.layer else ""

    def _part(self, wanted: OfKind) -> Schema:
        """Refer to the schema of a kind; a missing ``type`` means the default, or in a layer the inherited one."""
        name = f"{self._prefix}{wanted.name}"
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] |= self._kind(wanted.name)
        reference = {"$ref": f"#/$defs/{name}"}
        if self.layer or wanted.default_type is None:
            return reference
        default = self.plugins.find(wanted.name, wanted.default_type)
        return {
            "type": "object",
            "if": {"required": ["type"]},
            "then": reference,
            "else": {"$ref": f"#/$defs/{self._branch_name(default)}"},
        }

    def _kind(self, kind: str) -> Schema:
        offered = self.plugins.components(kind)
        all_names = [registered.name for registered in offered]
        unique = [name for name in all_names if all_names.count(name) == 1]
        branches = []
        for registered in offered:
            names = [*([registered.name] if registered.name in unique else []), registered.qualified]
            branch = self._branch_name(registered)
            self.definitions[branch] = self._branch(registered)
            chosen = {"properties": {"type": {"enum": names}}, "required": ["type"]}
            branches.append({"if": chosen, "then": {"$ref": f"#/$defs/{branch}"}})
        return {
            "type": "object",
            "properties": {"type": {"anyOf": [{"enum": unique}, {"type": "string", "pattern": ":"}]}},
            "required": [] if self.layer else ["type"],
            **({"allOf": branches} if branches else {}),
        }

    def _branch_name(self, registered: Registered) -> str:
        return f"{self._prefix}{registered.kind}.{registered.qualified}"

    def _branch(self, registered: Registered) -> Schema:
        """Return the schema of one component's table."""
        schema: Schema = {"type": "object", "description": registered.component.summary}
        try:
            parameters = read_signature(registered).parameters.values()
        except PluginError:
            return schema
        settable = [parameter for parameter in parameters if parameter.settable]
        properties: dict[str, Schema] = {"type": {"type": "string"}}
        for name, key in KINDS[registered.kind].reserved.items():
            properties[name] = _described(self.of(reserved_type(key), secrets=True), key.help, key.default)
        properties |= {parameter.name: self._option(parameter) for parameter in settable}
        required = [parameter.name for parameter in settable if parameter.required and not self.layer]
        return {**schema, "properties": properties, "required": required, "additionalProperties": False}

    def _option(self, parameter: Parameter) -> Schema:
        schema = _limited(self.of(parameter.annotation, secrets=True), parameter.limits)
        return _described(schema, "", parameter.default)


def _scalar(annotation: Any, secrets: bool) -> Schema:  # noqa: FBT001 (passed through)
    if not is_scalar(annotation):
        return {}
    words = accepts(annotation)
    if "table" in words:  # any value
        return {}
    word = "float" if "float" in words else next(iter(words))
    schema = dict(_WORDS[word])
    return {"anyOf": [schema, {"$ref": "#/$defs/secret"}]} if secrets and word == "string" else schema


def _limited(schema: Schema, limits: Any) -> Schema:
    """Add limits, which apply to a number and to each number in an array; JSON Schema ignores other values."""
    words: Schema = {}
    for limit in limits:
        match limit:
            case Between():
                words |= {"minimum": limit.low, "maximum": limit.high}
            case AtLeast():
                words["minimum"] = limit.low
            case MoreThan():
                words["exclusiveMinimum"] = limit.low
    return {"allOf": [schema, {**words, "items": words}]} if words else schema


def _described(schema: Schema, text: str, default: Any) -> Schema:
    described = {**schema, **({"description": text} if text else {})}
    default = default_value(default)
    if default is None or default is MISSING:
        return described
    try:
        json.dumps(written := plain(default), allow_nan=False)
    except (TypeError, ValueError):  # JSON has neither dates nor infinities
        return described
    return {**described, "default": written} if is_plain(written) else described
