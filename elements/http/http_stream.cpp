#include "elements/http/http_stream.hpp"

struct LlmHttpInput {
  GInputStream parent;
  GPollableInputStream *base; // owned by the LlmHttpStream's base
  millrace::HttpStreamWatcher watcher;
};

struct LlmHttpInputClass {
  GInputStreamClass parent;
};

struct LlmHttpStream {
  GIOStream parent;
  GIOStream *base;
  LlmHttpInput *input;
};

struct LlmHttpStreamClass {
  GIOStreamClass parent;
};

static void llm_http_input_pollable_init (GPollableInputStreamInterface *iface);

G_DEFINE_TYPE_WITH_CODE (LlmHttpInput, llm_http_input, G_TYPE_INPUT_STREAM,
                         G_IMPLEMENT_INTERFACE (G_TYPE_POLLABLE_INPUT_STREAM, llm_http_input_pollable_init))
G_DEFINE_TYPE (LlmHttpStream, llm_http_stream, G_TYPE_IO_STREAM)

static LlmHttpInput *
input_cast (gpointer object)
{
  return static_cast<LlmHttpInput *> (object);
}

static LlmHttpStream *
stream_cast (gpointer object)
{
  return static_cast<LlmHttpStream *> (object);
}

static gssize
llm_http_input_read (GInputStream *stream, void *buffer, gsize count, GCancellable *cancellable,
                     GError **error)
{
  return g_input_stream_read (G_INPUT_STREAM (input_cast (stream)->base), buffer, count, cancellable, error);
}

static gboolean
llm_http_input_close (GInputStream *, GCancellable *, GError **)
{
  return TRUE; // with the whole stream
}

static gboolean
llm_http_input_is_readable (GPollableInputStream *stream)
{
  return g_pollable_input_stream_is_readable (input_cast (stream)->base);
}

static GSource *
llm_http_input_create_source (GPollableInputStream *stream, GCancellable *cancellable)
{
  GSource *child = g_pollable_input_stream_create_source (input_cast (stream)->base, nullptr);
  GSource *source = g_pollable_source_new_full (stream, child, cancellable);
  g_source_unref (child);
  return source;
}

static gssize
llm_http_input_read_nonblocking (GPollableInputStream *stream, void *buffer, gsize count, GError **error)
{
  LlmHttpInput *self = input_cast (stream);
  GError *problem = nullptr;
  const gssize size = g_pollable_input_stream_read_nonblocking (self->base, buffer, count, nullptr, &problem);
  const bool ended =
      size == 0 || (size < 0 && !g_error_matches (problem, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK));
  if (!ended || count == 0 || !self->watcher.is_idle (self->watcher.data)) {
    if (problem)
      g_propagate_error (error, problem);
    return size;
  }
  g_clear_error (&problem);
  self->watcher.on_end (self->watcher.data);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "the connection has ended");
  return -1;
}

static void
llm_http_input_pollable_init (GPollableInputStreamInterface *iface)
{
  iface->is_readable = llm_http_input_is_readable;
  iface->create_source = llm_http_input_create_source;
  iface->read_nonblocking = llm_http_input_read_nonblocking;
}

static void
llm_http_input_init (LlmHttpInput *)
{
}

static void
llm_http_input_class_init (LlmHttpInputClass *klass)
{
  GInputStreamClass *stream_class = G_INPUT_STREAM_CLASS (klass);
  stream_class->read_fn = llm_http_input_read;
  stream_class->close_fn = llm_http_input_close;
}

static GInputStream *
llm_http_stream_get_input (GIOStream *stream)
{
  return G_INPUT_STREAM (stream_cast (stream)->input);
}

static GOutputStream *
llm_http_stream_get_output (GIOStream *stream)
{
  return g_io_stream_get_output_stream (stream_cast (stream)->base);
}

static gboolean
llm_http_stream_close (GIOStream *stream, GCancellable *cancellable, GError **error)
{
  return g_io_stream_close (stream_cast (stream)->base, cancellable, error);
}

static void
llm_http_stream_finalize (GObject *object)
{
  LlmHttpStream *self = stream_cast (object);
  G_OBJECT_CLASS (llm_http_stream_parent_class)->finalize (object); // closes it
  g_object_unref (self->input);
  g_object_unref (self->base);
}

static void
llm_http_stream_init (LlmHttpStream *)
{
}

static void
llm_http_stream_class_init (LlmHttpStreamClass *klass)
{
  GIOStreamClass *stream_class = G_IO_STREAM_CLASS (klass);
  stream_class->get_input_stream = llm_http_stream_get_input;
  stream_class->get_output_stream = llm_http_stream_get_output;
  stream_class->close_fn = llm_http_stream_close;
  G_OBJECT_CLASS (klass)->finalize = llm_http_stream_finalize;
}

namespace millrace
{

GIOStream *
http_stream_new (GIOStream *base, const HttpStreamWatcher &watcher)
{
  auto *self = stream_cast (g_object_new (llm_http_stream_get_type (), nullptr));
  self->base = static_cast<GIOStream *> (g_object_ref (base));
  self->input = input_cast (g_object_new (llm_http_input_get_type (), nullptr));
  self->input->base = G_POLLABLE_INPUT_STREAM (g_io_stream_get_input_stream (base));
  self->input->watcher = watcher;
  return G_IO_STREAM (self);
}

} // namespace millrace
