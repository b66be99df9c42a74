#!/usr/bin/python3
"""Generates text with asyncio: several streams at once, one of them cancelled: generate_async.py [PROMPT [MODEL]]."""
import asyncio
import sys

import gi

gi.require_version("Millrace", "1.0")
from gi.repository import Millrace  # noqa: E402


async def read(generator, request):
    text = ""
    async for piece in generator.stream(request):
        text += piece
    return text


async def read_slowly(stream):
    async for _piece in stream:  # what is not read yet makes this generation wait, and no other
        await asyncio.sleep(0.05)


async def main(prompt, name):
    generator = Millrace.Generator()
    await generator.add(await Millrace.Model.load(name))

    request = Millrace.Request("import os", max_tokens=0, ignore_eos=True, buffer_size=64)
    endless = asyncio.create_task(read_slowly(generator.stream(request)))
    texts = await asyncio.gather(*(read(generator, Millrace.Request(prompt, max_tokens=24)) for _ in range(4)))
    assert len(set(texts)) == 1, texts
    print(texts[0])

    endless.cancel()  # ends the generation too
    try:
        await endless
    except asyncio.CancelledError:
        print("cancelled", file=sys.stderr)

    try:
        await generator.complete(Millrace.Request("x", model="no-such-model"))
    except Millrace.NoModelError as error:
        print(error.message, file=sys.stderr)
    await generator.shut_down()


asyncio.run(main(*(sys.argv[1:] + ["import os", "demo"][len(sys.argv) - 1:])[:2]))
