"""JSON Schema as far as docs/json uses it; a keyword that is not known here is an error, so that none is ignored."""

import json
import pathlib

from harness.process import Failure

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent.parent / "docs" / "json"
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "null": type(None)}
IGNORED = {"$schema", "$defs", "title", "description"}


def has_type(value, name):
    return isinstance(value, TYPES[name]) and not (name == "number" and isinstance(value, bool))


def faults(schema, value, root, where="$"):
    """What is wrong with a value, as a list of texts."""
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return faults(target, value, root, where)
    wrong = []
    for keyword, rule in schema.items():
        if keyword == "type":
            names = rule if isinstance(rule, list) else [rule]
            if not any(has_type(value, name) for name in names):
                wrong.append(f"{where}: {value!r} is not {' or '.join(names)}")
        elif keyword == "enum":
            if value not in rule:
                wrong.append(f"{where}: {value!r} is none of {rule}")
        elif keyword == "required":
            if isinstance(value, dict):
                wrong += [f"{where}: {name} is missing" for name in rule if name not in value]
        elif keyword == "properties":
            if isinstance(value, dict):
                for name, part in rule.items():
                    if name in value:
                        wrong += faults(part, value[name], root, f"{where}.{name}")
        elif keyword == "additionalProperties":
            if rule is False and isinstance(value, dict):
                wrong += [f"{where}: {name} is not in the schema" for name in value
                          if name not in schema.get("properties", {})]
        elif keyword == "items":
            if isinstance(value, list):
                for number, item in enumerate(value):
                    wrong += faults(rule, item, root, f"{where}[{number}]")
        elif keyword not in IGNORED:
            raise Failure(f"schema keyword {keyword} is not known to the tests")
    return wrong


def validate(name, value):
    """Fail unless a value fits docs/json/NAME.schema.json."""
    root = json.loads((FOLDER / f"{name}.schema.json").read_text())
    wrong = faults(root, value, root)
    if wrong:
        raise Failure(f"not as docs/json/{name}.schema.json says:\n" + "\n".join(wrong[:20]))
