#!/usr/bin/env python3
"""Writes snippets.json from snippets.txt: what the reference Jinja makes of small templates.

Needs jinja2 3.1.6 (pip install jinja2==3.1.6) on Python 3.11; the environment is the one of transformers'
apply_chat_template. Each line of snippets.txt is a template; \\n and \\r in it are newlines of the template, and a
line that does not start with "{%" or "{{" or "|" is an expression to print. A leading | is dropped.
"""

import copy
import datetime
import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = {
    "a": 1, "b": 2.5, "s": "Hello World", "e": "", "l": [3, 1, 2], "n": None, "t": True, "f": False,
    "d": {"x": 1, "y": {"z": "q"}, "items": [1]},
    "u": "\u00dcn\u00efc\u00f6d\u00e9 \u00df \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u01c6 \u0130 \ufb01",
    "users": [{"name": "Bob", "age": 30}, {"name": "alice", "age": 25},
              {"name": "Carl", "age": 30, "tags": ["a", "b"]}],
    "m": "a <b> & 'c' \"d\"", "nested": [[1, [2, [3]]], {"k": 1}], "multi": "line one\n  line two\n\nline four",
    "fl": [1.0, 1e16, 1e15, 1.5e-7, 0.0001, 123456.789, -0.0, 1e22, 3.14, 100.0, 1e100, 5e-324],
    "names": ["x", "Y", "z", "X"], "num": "42",
    "mess": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
}


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(lineno)

    def _render(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = datetime.datetime(2026, 1, 15, 10, 30).strftime
    return env


def main():
    here = pathlib.Path(__file__).parent
    env = environment()
    cases = []
    for line in (here / "snippets.txt").read_text().splitlines():
        if not line:
            continue
        template = line.replace("\\n", "\n").replace("\\r", "\r")
        if line.startswith("|"):
            template = template[1:]
        elif not line.startswith(("{%", "{{")):
            template = "{{ " + line + " }}"
        case = {"template": template}
        try:
            case["expected"] = env.from_string(template).render(**copy.deepcopy(VARIABLES))
        except Exception as error:
            case["error"] = str(error)
            case["raised"] = type(error) is jinja2.exceptions.TemplateError
        cases.append(case)
    text = json.dumps({"variables": VARIABLES, "cases": cases}, ensure_ascii=False, indent=0)
    (here / "snippets.json").write_text(text + "\n")


main()
