#!/usr/bin/python3
"""Generates text from Python, without a main loop: generate.py [PROMPT [MODEL]]."""
import sys

import gi

gi.require_version("Millrace", "1.0")
from gi.repository import Millrace  # noqa: E402

prompt, model = (sys.argv[1:] + ["import os", "demo"][len(sys.argv) - 1:])[:2]

generator = Millrace.Generator()
generator.add_model(Millrace.Model.open(model, Millrace.Weights.AUTO, 0))
for text in generator.stream(Millrace.Request(prompt, max_tokens=24)):
    print(text, end="", flush=True)
print()

try:
    Millrace.Request(prompt, temperature=3000)
except Millrace.InvalidRequestError as error:
    print(error.message, file=sys.stderr)
