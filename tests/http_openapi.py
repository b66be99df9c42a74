#!/usr/bin/env python3
# labels: http docs
# timeout: 120
"""docs/openapi.yaml and the server say the same.

The file is what the server shows; its paths are the server's routes; every property of a request is accepted with its
example and any other is refused; every answer has the shape that the file gives it. Needs python3-yaml.
"""
import json
import re
import sys
from pathlib import Path

import yaml

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_server import SOURCE, Server, equal, run_cases  # noqa: E402

FILE = SOURCE / "docs" / "openapi.yaml"
document = yaml.safe_load(FILE.read_text())
server = None
counts = {"properties": 0, "answers": 0}


def resolve(schema):
    """Without $ref at its top; what stands beside it stays."""
    while "$ref" in schema:
        target = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
    return schema


def properties(schema):
    """Of an object, those of its allOf among them."""
    schema = resolve(schema)
    found = {}
    for part in schema.get("allOf", []):
        found |= properties(part)
    return found | schema.get("properties", {})


def dependents(schema):
    schema = resolve(schema)
    found = {}
    for part in schema.get("allOf", []):
        found |= dependents(part)
    return found | schema.get("dependentRequired", {})


TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
         "null": type(None)}


def is_of(value, name):
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def same(one, other):
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def problem_of(value, schema, path="", closed=True):
    """What is wrong with a value, in the keywords that the file uses; None when nothing is."""
    schema = resolve(schema)
    where = path or "it"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_of(value, kind) for kind in kinds):
        return f"{where} is {json.dumps(value)[:80]}, not of type {kinds}"
    if "const" in schema and not same(value, schema["const"]):
        return f"{where} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and not any(same(value, one) for one in schema["enum"]):
        return f"{where} is {value!r}, none of {schema['enum']}"
    if "anyOf" in schema:
        problems = [problem_of(value, part, path) for part in schema["anyOf"]]
        if None not in problems:
            return f"{where} is none of anyOf: {problems}"
    for part in schema.get("allOf", []):
        if problem := problem_of(value, part, path, closed=False):
            return problem
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"{where} is {value!r}, unlike {schema['pattern']}"
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{where} has {len(value)} characters"
    if is_of(value, "number"):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value) or \
           value <= schema.get("exclusiveMinimum", value - 1):
            return f"{where} is {value}, out of range"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{where} has {len(value)} entries"
        for index, entry in enumerate(value):
            if problem := problem_of(entry, schema.get("items", {}), f"{path}[{index}]"):
                return problem
    if isinstance(value, dict):
        if len(value) > schema.get("maxProperties", len(value)):
            return f"{where} has {len(value)} members"
        if missing := [name for name in schema.get("required", []) if name not in value]:
            return f"{where} lacks {missing}"
        known = properties(schema)
        more = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
        for name, member in value.items():
            if name in known:
                problem = problem_of(member, known[name], f"{path}.{name}".lstrip("."))
            elif isinstance(more, dict):
                problem = problem_of(member, more, f"{path}.{name}".lstrip("."))
            else:
                problem = f"{where} has the unknown member {name}" if closed and more is False else None
            if problem:
                return problem
    return None


def operations():
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def request_schema(operation):
    return resolve(operation["requestBody"]["content"]["application/json"]["schema"])


def url_of(path, operation):
    for parameter in operation.get("parameters", []):
        path = path.replace("{" + parameter["name"] + "}", parameter["example"])
    return path


def minimal(schema):
    return {name: resolve(properties(schema)[name])["example"] for name in schema.get("required", [])}


def check_answer(reply, operation, what):
    """An answer of 200 has the shape that the file gives it, whole or as a stream."""
    content = operation["responses"]["200"]["content"]
    kind = reply.headers["content-type"].split(";")[0]
    if kind not in content:
        raise AssertionError(f"{what}: answered {kind}, which is not in the file")
    schema = content[kind]["schema"]
    if kind == "application/json":
        answers = [reply.json()]
    elif kind == "application/x-ndjson":
        answers = [json.loads(line) for line in reply.text.splitlines()]
    elif kind == "text/event-stream":
        data = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
        answers = [json.loads(text) for text in data if text != "[DONE]"]
    else:
        answers = [reply.text]
    if not answers:
        raise AssertionError(f"{what}: an empty answer")
    for answer in answers:
        counts["answers"] += 1
        if problem := problem_of(answer, schema):
            raise AssertionError(f"{what}: {problem} in {json.dumps(answer)[:500]}")


def the_server_shows_the_file():
    reply = server.get("/openapi.yaml")
    equal(reply.headers["content-type"], "application/yaml")
    if reply.body != FILE.read_bytes():
        raise AssertionError("/openapi.yaml is not docs/openapi.yaml; was it built after the file was changed?")


def the_paths_are_the_routes():
    source = (SOURCE / "elements" / "http" / "http_service.cpp").read_text()
    table = re.search(r"kRoutes\[\] = \{(.*?)\n\};", source, re.S)[1]
    routes = {(method, path) for method, path in re.findall(r'\{"([A-Z]+)", "([^"]+)"', table)}
    if len(routes) < 15:
        raise AssertionError(f"only {len(routes)} routes were found in http_service.cpp")
    equal({(method, path.replace("{id}", "*")) for path, method, _ in operations()}, routes, "paths and routes")


def every_path_answers():
    for path, method, operation in operations():
        body = minimal(request_schema(operation)) if "requestBody" in operation else None
        reply = server.request(method, url_of(path, operation), body)
        if method == "DELETE":  # there is no such request
            equal((reply.status, reply.json()["error"]["code"]), (404, "request_not_found"))
            continue
        equal(reply.status, 200, f"{method} {path}: {reply.text[:300]}")
        check_answer(reply, operation, f"{method} {path}")
        other = "GET" if method != "GET" else "DELETE"
        equal(server.request(other, url_of(path, operation)).status, 405, f"{other} {path}")


def bodies_with(schema, name, nested=None):
    """The smallest body with that property (of that property)."""
    known = properties(schema)
    body = minimal(schema)
    for needed in dependents(schema).get(name, []):
        body[needed] = resolve(known[needed])["example"]
    property_schema = resolve(known[name])
    if "example" not in property_schema:
        raise AssertionError(f"{name} has no example")
    if nested is None:
        body[name] = property_schema["example"]
    else:
        body[name] = {nested: resolve(properties(property_schema)[nested])["example"]}
    return body


def every_property_is_accepted():
    for path, method, operation in operations():
        if "requestBody" not in operation:
            continue
        schema = request_schema(operation)
        cases = []
        for name, value in properties(schema).items():
            cases.append((name, None))
            for nested, inner in properties(value).items():
                if resolve(value).get("type") == "object" and "example" in resolve(inner):
                    cases.append((name, nested))
        for name, nested in cases:
            what = f"{method} {path} with {name}" + (f".{nested}" if nested else "")
            body = bodies_with(schema, name, nested)
            if problem := problem_of(body, schema):
                raise AssertionError(f"{what}: the file's own examples do not fit: {problem}")
            reply = server.request(method, path, body)
            equal(reply.status, 200, f"{what}: {json.dumps(body)[:200]}: {reply.text[:300]}")
            check_answer(reply, operation, what)
            counts["properties"] += 1


def other_properties_are_refused():
    for path, method, operation in operations():
        if "requestBody" not in operation:
            continue
        schema = request_schema(operation)
        bodies = [({**minimal(schema), "no_such_field": 1}, "no_such_field")]
        for name, value in properties(schema).items():
            value = resolve(value)
            if value.get("additionalProperties") is False:
                body = bodies_with(schema, name)
                bodies.append(({**body, name: {**body[name], "no_such_field": 1}}, f"{name}.no_such_field"))
        for body, param in bodies:
            if problem_of(body, schema) is None:
                raise AssertionError(f"{path}: the file allows {param}")
            reply = server.request(method, path, body)
            equal((reply.status, reply.json()["error"]["param"]), (400, param), f"{method} {path} {json.dumps(body)}")
            error = operation["responses"]["default"]
            if problem := problem_of(reply.json(), resolve(error)["content"]["application/json"]["schema"]):
                raise AssertionError(f"{path}: {problem} in {reply.text}")


def streams_have_their_shapes():
    for path, method, operation in operations():
        if "requestBody" not in operation or "stream" not in properties(request_schema(operation)):
            continue
        body = {**minimal(request_schema(operation)), "stream": True}
        reply = server.request(method, path, body)
        equal(reply.status, 200, f"{path}: {reply.text[:300]}")
        if reply.headers["content-type"].split(";")[0] == "application/json":
            raise AssertionError(f"{path} is no stream")
        check_answer(reply, operation, f"{path} as a stream")


def checks_are_checks():
    """The validator above finds mistakes."""
    schema = {"type": "object", "required": ["a"], "additionalProperties": False,
              "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"anyOf": [{"const": "x"}, {"type": "null"}]}}}
    equal(problem_of({"a": 1, "b": None}, schema), None)
    for wrong in ({}, {"a": True}, {"a": 0}, {"a": 1, "c": 1}, {"a": 1, "b": "y"}, []):
        if problem_of(wrong, schema) is None:
            raise AssertionError(f"{wrong} passes")


if __name__ == "__main__":
    with Server("--model", "demo-draft", "--model-names", "demo", "--max-tokens", "3", "--quiet") as server:
        code = run_cases([checks_are_checks, the_server_shows_the_file, the_paths_are_the_routes, every_path_answers,
                          every_property_is_accepted, other_properties_are_refused, streams_have_their_shapes])
    print(f"{counts['properties']} properties were accepted, {counts['answers']} answers compared with their schemas")
    sys.exit(code or counts["properties"] < 100)
