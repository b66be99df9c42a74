"""What Python expects of Millrace: streams to loop over, coroutines, an exception for each kind of error.

PyGObject loads this file with `from gi.repository import Millrace`. Coroutines work with asyncio: GLib's main context runs
in a thread of its own, and its answers are handed to the event loop. Cancelling a task cancels what it waits for.
"""
import asyncio
import atexit
import threading
import weakref

from gi.overrides import override
from gi.module import get_introspection_module
from gi.repository import Gio, GLib

Millrace = get_introspection_module("Millrace")
__all__ = []


def _export(thing):
    globals()[thing.__name__] = thing
    __all__.append(thing.__name__)
    return thing


# --- errors -------------------------------------------------------------------------------------


@_export
class GenerationError(GLib.Error):
    """Something that Millrace could not do; `code` is one of Millrace.Error."""


_ERRORS = {}
for _name in ("LOAD", "INVALID_REQUEST", "CONTEXT_LENGTH", "INVALID_UTF8", "INTERNAL", "NO_MODEL", "CLOSED", "QUEUE_FULL"):
    _title = "".join(part.title() for part in _name.split("_")) + "Error"
    _ERRORS[int(getattr(Millrace.Error, _name))] = _export(type(_title, (GenerationError,), {"__module__": __name__}))


def _typed(error):
    if error.domain != "millrace-error-quark":
        return error
    return _ERRORS.get(error.code, GenerationError)(error.message, error.domain, error.code)


def _call(function, *arguments):
    try:
        return function(*arguments)
    except GLib.Error as error:
        raise _typed(error) from None


# --- asyncio ------------------------------------------------------------------------------------


class _Context:
    """A main context and the thread that runs it, for as long as the interpreter lives."""

    _lock = threading.Lock()
    _context = _loop = _thread = None

    @classmethod
    def invoke(cls, function):
        with cls._lock:
            if not cls._context:
                cls._context = GLib.MainContext.new()
                cls._loop = GLib.MainLoop.new(cls._context, False)
                cls._thread = threading.Thread(target=cls._run, args=(cls._context, cls._loop), name="millrace", daemon=True)
                cls._thread.start()
            context = cls._context
        source = GLib.idle_source_new()
        source.set_priority(GLib.PRIORITY_DEFAULT)
        source.set_callback(lambda _data: function() and False)
        source.attach(context)

    @staticmethod
    def _run(context, loop):
        context.push_thread_default()
        loop.run()

    @classmethod
    def end(cls):
        if not cls._context:
            return
        cls.invoke(cls._loop.quit)
        cls._thread.join()
        cls._context = None


_generators = weakref.WeakSet()


@atexit.register
def _end():
    """While Python ends, threads that let go of a Python object are killed where they are, and that may be anywhere."""
    _Context.end()
    for generator in list(_generators):
        generator.close()


async def _wait(start, finish, *arguments):
    """Calls start (*arguments, cancellable, callback) in the context's thread; what finish (result) returns or raises."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    cancellable = Gio.Cancellable()

    def settle(value, error):
        if future.done():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(value)

    def answered(_source, result):
        value = problem = None
        try:
            value = finish(result)
        except GLib.Error as error:
            problem = _typed(error)
        try:
            loop.call_soon_threadsafe(settle, value, problem)
        except RuntimeError:
            pass  # the event loop was closed

    _Context.invoke(lambda: start(*arguments, cancellable, answered))
    try:
        await asyncio.wait({future})  # unlike "await future" it leaves the future to the answer
    except asyncio.CancelledError:
        cancellable.cancel()
        await asyncio.wait({future})  # until then a stream would be busy
        future.exception()  # has been seen
        raise
    return future.result()


# --- objects ------------------------------------------------------------------------------------


class Model(Millrace.Model):
    @staticmethod
    def open(path, weights=Millrace.Weights.AUTO, threads=0):
        return _call(Millrace.Model.open, path, weights, threads)

    @staticmethod
    async def load(path, weights=Millrace.Weights.AUTO, threads=0):
        """Opens a model in another thread."""
        return await _wait(Millrace.Model.load_async, Millrace.Model.load_finish, path, weights, threads)

    def tokenize(self, text, add_special=False, parse_special=True):
        return _call(super().tokenize, text, add_special, parse_special)

    def detokenize(self, tokens):
        return _call(super().detokenize, tokens)


Model = override(Model)
__all__.append("Model")


class Request(Millrace.Request):
    def __init__(self, prompt=None, *, messages=None, tokens=None, **parameters):
        """Of prompt, messages (dictionaries with role and content) and tokens, one; parameters are checked at once."""
        super().__init__()
        if prompt is not None:
            self.set_prompt(prompt)
        if tokens is not None:
            self.set_tokens(tokens)
        for message in messages or ():
            self.add_message(message["role"], message["content"])
        for name, value in parameters.items():
            if isinstance(value, (list, tuple)):  # a GValue cannot be made of it without knowing the type
                setattr(self.props, name, value)
            else:
                self.set_parameter(name, value)

    def set_parameter(self, name, value):
        return _call(super().set_parameter, name, value)

    def validate(self):
        return _call(super().validate)

    def parse_json(self, json):
        return _call(super().parse_json, json, -1)


Request = override(Request)
__all__.append("Request")


class Stream(Millrace.Stream):
    def next(self, cancellable=None):
        return _call(super().next, cancellable)

    def __iter__(self):
        return self

    def __next__(self):
        text = self.next()
        if text is None:
            raise StopIteration
        return text

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            text = await _wait(self.next_async, self.next_finish)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if text is None:
            raise StopAsyncIteration
        return text


Stream = override(Stream)
__all__.append("Stream")


class Generator(Millrace.Generator):
    def __init__(self, **properties):
        super().__init__(**properties)
        _generators.add(self)

    def add_model(self, model, cancellable=None):
        return _call(super().add_model, model, cancellable)

    def stream(self, request, cancellable=None):
        return _call(super().stream, request, cancellable)

    def generate(self, request, cancellable=None):
        return _call(super().generate, request, cancellable)

    def embed(self, request, pooling=Millrace.Pooling.LAST, dimensions=0, cancellable=None):
        return _call(super().embed, request, pooling, dimensions, cancellable)

    async def add(self, model):
        """Starts a pipeline for a model."""
        return await _wait(self.add_model_async, self.add_model_finish, model)

    async def remove(self, name=None):
        """Stops the pipeline of a model."""
        return await _wait(self.remove_model_async, self.remove_model_finish, name)

    async def shut_down(self):
        """Removes all models, for good."""
        return await _wait(self.close_async, self.close_finish)

    async def complete(self, request):
        """The whole text."""
        return await _wait(self.generate_async, self.generate_finish, request)

    async def embedding(self, request, pooling=Millrace.Pooling.LAST, dimensions=0):
        """The embedding of the request's prompt, normalized to length 1."""
        return await _wait(self.embed_async, self.embed_finish, request, pooling, dimensions)


Generator = override(Generator)
__all__.append("Generator")
