#!/usr/bin/python3
# labels: library
# timeout: 200
"""What Python makes of libmillrace: iterators, coroutines, cancellation, exceptions by type. Debian's Python, for PyGObject."""
import asyncio
import os
import subprocess
import sys
import unittest

if os.environ.get("MILLRACE_SANITIZE"):
    print("SKIP: introspection is not built with sanitizers")
    sys.exit(77)
BUILD = os.environ["MILLRACE_BUILD"]
if "GI_TYPELIB_PATH" not in os.environ:  # the loader reads it when the process starts
    os.environ.update(GI_TYPELIB_PATH=f"{BUILD}/library", LD_LIBRARY_PATH=f"{BUILD}/lib", PYTHONPATH=f"{BUILD}/library/python")
    os.execv(sys.executable, [sys.executable, *sys.argv])

import gi  # noqa: E402

gi.require_version("Millrace", "1.0")
from gi.repository import Gio, GLib, Millrace  # noqa: E402


class Synchronous(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.generator = Millrace.Generator()
        cls.model = Millrace.Model.open("demo-draft", threads=1)
        cls.generator.add_model(cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.generator.close()

    def test_streams_are_iterators(self):
        request = Millrace.Request("def fibonacci(n):", max_tokens=24)
        whole = self.generator.generate(request)
        self.assertGreater(len(whole), 10)
        stream = self.generator.stream(request)
        self.assertEqual("".join(stream), whole)
        self.assertEqual(stream.get_finish_reason(), Millrace.FinishReason.LENGTH)
        self.assertEqual(stream.get_statistics().unpack()["completion-tokens"], 24)
        self.assertEqual([model.get_name() for model in self.generator], ["demo-draft"])

    def test_errors_have_types(self):
        for parameters, name in (({"temperature": 3000}, "temperature"), ({"top_k": 1.5}, "top_k"), ({"nonsense": 1}, "nonsense")):
            with self.assertRaisesRegex(Millrace.InvalidRequestError, name) as caught:
                Millrace.Request("x", **parameters)
            self.assertIsInstance(caught.exception, Millrace.GenerationError)
            self.assertIsInstance(caught.exception, GLib.Error)
            self.assertTrue(caught.exception.matches(Millrace.Error.quark(), Millrace.Error.INVALID_REQUEST))
        with self.assertRaises(Millrace.LoadError):
            Millrace.Model.open("no-such-model")
        with self.assertRaises(Millrace.NoModelError):
            self.generator.stream(Millrace.Request("x", model="no-such-model"))
        with self.assertRaises(Millrace.ContextLengthError):
            self.generator.generate(Millrace.Request("a " * 200_000))

    def test_a_cancelled_generation_raises(self):
        stream = self.generator.stream(Millrace.Request("import os", max_tokens=0, ignore_eos=True, buffer_size=64))
        self.assertTrue(next(stream))
        stream.cancel()
        with self.assertRaises(GLib.Error) as caught:
            list(stream)
        self.assertTrue(caught.exception.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED))

    def test_messages_tokens_and_embeddings(self):
        chat = Millrace.Request(messages=[{"role": "user", "content": "Who are you?"}], max_tokens=4)
        self.assertIsInstance(self.generator.generate(chat), str)
        ids = self.model.tokenize("import os")
        self.assertEqual(self.model.detokenize(ids), "import os")
        by_ids = self.generator.generate(Millrace.Request(tokens=ids, max_tokens=8, stop=["\n\n"]))
        self.assertEqual(by_ids, self.generator.generate(Millrace.Request("import os", max_tokens=8, stop=["\n\n"])))
        values = self.generator.embed(Millrace.Request("import os"), Millrace.Pooling.MEAN, 8)
        self.assertEqual(len(values), 8)
        self.assertAlmostEqual(sum(value * value for value in values), 1, places=5)


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.generator = Millrace.Generator()
        await self.generator.add(await Millrace.Model.load("demo-draft", threads=1))

    async def asyncTearDown(self):
        await self.generator.shut_down()

    async def read(self, request):
        return "".join([text async for text in self.generator.stream(request)])

    async def test_many_streams_run_together(self):
        requests = [Millrace.Request(f"import os  # {i}\n", max_tokens=8, temperature=0.8, seed=i) for i in range(40)]
        texts = await asyncio.gather(*map(self.read, requests))
        self.assertEqual(texts, [self.generator.generate(request) for request in requests])
        self.assertEqual(texts[0], await self.generator.complete(requests[0]))

    async def test_cancelling_a_task_ends_its_generation(self):
        stream = self.generator.stream(Millrace.Request("import os", max_tokens=0, ignore_eos=True, buffer_size=64))

        async def read():
            async for _text in stream:
                task.cancel()  # takes effect where it waits next: for text

        task = asyncio.create_task(read())
        with self.assertRaises(asyncio.CancelledError):
            await task
        with self.assertRaises(GLib.Error) as caught:  # the generation itself was cancelled, not just the wait
            while await stream.__anext__():
                pass
        self.assertTrue(caught.exception.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED))

    async def test_errors_have_types_in_coroutines_too(self):
        with self.assertRaises(Millrace.LoadError):
            await Millrace.Model.load("no-such-model")
        with self.assertRaises(Millrace.NoModelError):
            await self.generator.complete(Millrace.Request("x", model="no-such-model"))
        with self.assertRaises(Millrace.InvalidRequestError):
            await self.generator.embedding(Millrace.Request("x"), dimensions=1 << 20)
        with self.assertRaises(Millrace.NoModelError):
            await self.generator.remove("no-such-model")
        stream = self.generator.stream(Millrace.Request("import os", max_tokens=0, ignore_eos=True, buffer_size=16))
        await self.generator.remove()
        with self.assertRaises(Millrace.ClosedError):
            async for _text in stream:
                pass


ENDS = """
import asyncio, sys
import gi
gi.require_version("Millrace", "1.0")
from gi.repository import Millrace

async def main(shuts_down):
    generator = Millrace.Generator()
    await generator.add(await Millrace.Model.load("demo-draft"))
    endless = Millrace.Request("import os", max_tokens=0, ignore_eos=True)
    streams = [generator.stream(endless) for _ in range(4)]
    async for _text in streams[0]:
        break
    if shuts_down:
        await generator.shut_down()

asyncio.run(main(sys.argv[1] == "shut-down"))
"""


class Ends(unittest.TestCase):
    def test_python_may_end_at_any_moment(self):
        """Several at once: a busy machine shows best what comes too late."""
        for how in ("shut-down", "in mid-stream"):
            running = [subprocess.Popen([sys.executable, "-c", ENDS, how]) for _ in range(8)]
            self.assertEqual([process.wait(120) for process in running], [0] * len(running), how)


unittest.main()
