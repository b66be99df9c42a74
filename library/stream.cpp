// MillraceStream: one generation as an object that text comes out of.
//
// It belongs to the main context that was the thread's default when it was made: signals are emitted there. Dropping the
// last reference cancels the generation.

#include "library/stream.hpp"

#include "library/error.hpp"

#include <memory>
#include <mutex>
#include <utility>

namespace
{
class StreamNews;
}

/**
 * MillraceStream:
 *
 * One generation, as an object that text comes out of.
 *
 * Read it with millrace_stream_next_async() until %NULL comes, or connect to #MillraceStream::text. Text that is not read
 * waits; when there is more than #MillraceRequest:buffer-size of it, this generation pauses and no other does. Dropping the
 * last reference cancels it.
 */
struct _MillraceStream {
  GObject parent;
  std::shared_ptr<millrace::ModelPipeline> pipeline; // keeps it running
  std::shared_ptr<millrace::StreamCore> core;
  millrace::Ref<MillraceRequest> request;
  std::shared_ptr<StreamNews> news;
  GMainContext *context;
  GCancellable *cancellable;
  gulong cancel_handler;
  bool finished; // the signal has been emitted
};

G_DEFINE_FINAL_TYPE (MillraceStream, millrace_stream, G_TYPE_OBJECT)

enum { PROP_0, PROP_REQUEST, PROP_FINISH_REASON, PROP_PAUSED };
enum { SIGNAL_TEXT, SIGNAL_FINISHED, SIGNAL_LAST };
static guint signals[SIGNAL_LAST];

GType
millrace_finish_reason_get_type (void)
{
  static const GEnumValue values[] = {
      {MILLRACE_FINISH_REASON_NONE, "MILLRACE_FINISH_REASON_NONE", "none"},
      {MILLRACE_FINISH_REASON_STOP, "MILLRACE_FINISH_REASON_STOP", "stop"},
      {MILLRACE_FINISH_REASON_LENGTH, "MILLRACE_FINISH_REASON_LENGTH", "length"},
      {MILLRACE_FINISH_REASON_CANCELLED, "MILLRACE_FINISH_REASON_CANCELLED", "cancelled"},
      {MILLRACE_FINISH_REASON_TIMEOUT, "MILLRACE_FINISH_REASON_TIMEOUT", "timeout"},
      {MILLRACE_FINISH_REASON_ERROR, "MILLRACE_FINISH_REASON_ERROR", "error"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("MillraceFinishReason", values);
  return type;
}

// --- signals ------------------------------------------------------------------------------------

// In the stream's context. Text goes to handlers of `text` if there are any; else it waits for next.
static void
dispatch (MillraceStream *self)
{
  g_object_ref (self);
  do {
    if (g_signal_has_handler_pending (self, signals[SIGNAL_TEXT], 0, FALSE)) {
      const std::string text = self->core->take ();
      if (!text.empty ())
        g_signal_emit (self, signals[SIGNAL_TEXT], 0, text.c_str ());
    }
  } while (self->core->rearm ());
  if (self->core->ended () && !std::exchange (self->finished, true)) {
    g_object_notify (G_OBJECT (self), "finish-reason");
    g_signal_emit (self, signals[SIGNAL_FINISHED], 0, millrace_stream_get_finish_reason (self));
  }
  g_object_unref (self);
}

namespace
{

/// The stream as the pipeline's threads see it: it may be gone when its context gets to it. At most one source of it waits
/// in the context, and none once the stream is gone: nobody may ever run that context.
class StreamNews : public std::enable_shared_from_this<StreamNews>
{
public:
  explicit StreamNews (MillraceStream *stream)
      : context_ (g_main_context_ref (stream->context))
  {
    g_weak_ref_init (&stream_, stream);
  }
  ~StreamNews ()
  {
    g_weak_ref_clear (&stream_);
    g_main_context_unref (context_);
  }
  StreamNews (const StreamNews &) = delete;
  StreamNews &operator= (const StreamNews &) = delete;

  /// Any thread.
  void schedule ()
  {
    GSource *source = g_idle_source_new ();
    g_source_set_priority (source, G_PRIORITY_DEFAULT);
    g_source_set_callback (
        source, [] (gpointer data) { return (*static_cast<std::shared_ptr<StreamNews> *> (data))->run (); },
        new std::shared_ptr<StreamNews> (shared_from_this ()),
        [] (gpointer data) { delete static_cast<std::shared_ptr<StreamNews> *> (data); });
    {
      std::lock_guard lock (mutex_);
      if (!closed_) {
        waiting_ = g_source_ref (source);
        g_source_attach (source, context_);
      }
    }
    g_source_unref (source);
  }

  /// The stream goes.
  void close ()
  {
    GSource *source = nullptr;
    {
      std::lock_guard lock (mutex_);
      closed_ = true;
      source = std::exchange (waiting_, nullptr);
    }
    if (source) {
      g_source_destroy (source);
      g_source_unref (source);
    }
  }

private:
  gboolean run ()
  {
    GSource *source = nullptr;
    {
      std::lock_guard lock (mutex_);
      source = std::exchange (waiting_, nullptr);
    }
    if (source)
      g_source_unref (source);
    if (auto *stream = static_cast<MillraceStream *> (g_weak_ref_get (&stream_))) {
      dispatch (stream);
      g_object_unref (stream);
    }
    return G_SOURCE_REMOVE;
  }

  GWeakRef stream_;
  GMainContext *context_;
  std::mutex mutex_;
  GSource *waiting_ = nullptr;
  bool closed_ = false;
};

} // namespace

namespace millrace
{

MillraceStream *
new_stream (std::shared_ptr<ModelPipeline> pipeline, MillraceRequest *request, std::string json,
            size_t buffer_bytes, GCancellable *cancellable)
{
  auto *self = static_cast<MillraceStream *> (g_object_new (MILLRACE_TYPE_STREAM, nullptr));
  self->request = Ref<MillraceRequest>::share (request);
  self->core = std::make_shared<StreamCore> (pipeline, buffer_bytes);
  self->pipeline = std::move (pipeline);
  self->news = std::make_shared<StreamNews> (self);
  self->core->on_news ([news = self->news] { news->schedule (); });
  self->core->start (std::move (json));
  if (cancellable) {
    self->cancellable = G_CANCELLABLE (g_object_ref (cancellable));
    self->cancel_handler =
        g_cancellable_connect (cancellable, G_CALLBACK (+[] (GCancellable *, gpointer data) {
                                 (*static_cast<std::shared_ptr<StreamCore> *> (data))->cancel ();
                               }),
                               new std::shared_ptr<StreamCore> (self->core), [] (gpointer data) {
                                 delete static_cast<std::shared_ptr<StreamCore> *> (data);
                               });
  }
  return self;
}

} // namespace millrace

static void
millrace_stream_dispose (GObject *object)
{
  MillraceStream *self = MILLRACE_STREAM (object);
  if (self->core) {
    self->core->on_news ({});
    self->news->close ();
    self->core->cancel ();
  }
  if (GCancellable *cancellable = std::exchange (self->cancellable, nullptr)) {
    if (self->cancel_handler) // 0: it had been cancelled before
      g_signal_handler_disconnect (cancellable, self->cancel_handler);
    g_object_unref (cancellable);
  }
  G_OBJECT_CLASS (millrace_stream_parent_class)->dispose (object);
}

static void
millrace_stream_finalize (GObject *object)
{
  MillraceStream *self = MILLRACE_STREAM (object);
  std::destroy_at (&self->core);
  std::destroy_at (&self->pipeline);
  std::destroy_at (&self->request);
  std::destroy_at (&self->news);
  g_main_context_unref (self->context);
  G_OBJECT_CLASS (millrace_stream_parent_class)->finalize (object);
}

static void
millrace_stream_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  MillraceStream *self = MILLRACE_STREAM (object);
  switch (id) {
  case PROP_REQUEST:
    g_value_set_object (value, self->request.get ());
    break;
  case PROP_FINISH_REASON:
    g_value_set_enum (value, millrace_stream_get_finish_reason (self));
    break;
  case PROP_PAUSED:
    g_value_set_boolean (value, millrace_stream_is_paused (self));
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
}

static void
millrace_stream_init (MillraceStream *self)
{
  std::construct_at (&self->core);
  std::construct_at (&self->pipeline);
  std::construct_at (&self->request);
  std::construct_at (&self->news);
  self->context = g_main_context_ref_thread_default ();
}

static void
millrace_stream_class_init (MillraceStreamClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->get_property = millrace_stream_get_property;
  object_class->dispose = millrace_stream_dispose;
  object_class->finalize = millrace_stream_finalize;
  const auto flags = static_cast<GParamFlags> (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
  g_object_class_install_property (
      object_class, PROP_REQUEST,
      g_param_spec_object ("request", "Request", "What was asked for", MILLRACE_TYPE_REQUEST, flags));
  g_object_class_install_property (
      object_class, PROP_FINISH_REASON,
      g_param_spec_enum ("finish-reason", "Finish reason", "Why it has ended; none: it has not",
                         MILLRACE_TYPE_FINISH_REASON, MILLRACE_FINISH_REASON_NONE, flags));
  g_object_class_install_property (
      object_class, PROP_PAUSED,
      g_param_spec_boolean ("paused", "Paused", "Whether the generation waits because its text is not read",
                            FALSE, flags));

  /**
   * MillraceStream::text:
   * @self: the stream
   * @text: what has come since the last time
   *
   * Text has come. Handlers take it: millrace_stream_next_async() gets only what comes when there are none. Connect
   * before returning to the main loop. Emitted in the main context in which the stream was made.
   */
  signals[SIGNAL_TEXT] = g_signal_new ("text", MILLRACE_TYPE_STREAM, G_SIGNAL_RUN_LAST, 0, nullptr, nullptr,
                                       nullptr, G_TYPE_NONE, 1, G_TYPE_STRING);
  /**
   * MillraceStream::finished:
   * @self: the stream
   * @reason: why
   *
   * The generation has ended; text may still wait to be read. With %MILLRACE_FINISH_REASON_ERROR,
   * millrace_stream_get_error() says what is wrong.
   */
  signals[SIGNAL_FINISHED] = g_signal_new ("finished", MILLRACE_TYPE_STREAM, G_SIGNAL_RUN_LAST, 0, nullptr,
                                           nullptr, nullptr, G_TYPE_NONE, 1, MILLRACE_TYPE_FINISH_REASON);
}

// --- reading ------------------------------------------------------------------------------------

/**
 * millrace_stream_next_async:
 * @cancellable: (nullable): cancels this wait, not the generation
 * @callback: (scope async): called when there is text, or the end
 * @user_data: for @callback
 *
 * Waits for text. What has come since the last time comes at once, as one batch. One wait at a time.
 */
void
millrace_stream_next_async (MillraceStream *self, GCancellable *cancellable, GAsyncReadyCallback callback,
                            gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_STREAM (self));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_stream_next_async));
  g_task_set_check_cancellable (task, FALSE); // text that has been taken is not lost
  if (self->core->wait_async (millrace::StreamCore::Until::kNews, task))
    return;
  g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_PENDING, "somebody waits for this stream already");
  g_object_unref (task);
}

/**
 * millrace_stream_next_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: (transfer full) (nullable): text, or %NULL at the end and on error. A generation that was cancelled ends with
 *   %G_IO_ERROR_CANCELLED, one that failed with its error of %MILLRACE_ERROR; then @error is set.
 */
char *
millrace_stream_next_finish (MillraceStream *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), nullptr);
  g_return_val_if_fail (g_task_is_valid (result, self), nullptr);
  return static_cast<char *> (g_task_propagate_pointer (G_TASK (result), error));
}

/**
 * millrace_stream_next:
 * @cancellable: (nullable): cancels this wait, not the generation
 * @error: return location for a #GError
 *
 * Waits for text and blocks meanwhile; needs no main loop.
 *
 * Returns: (transfer full) (nullable): as millrace_stream_next_finish()
 */
char *
millrace_stream_next (MillraceStream *self, GCancellable *cancellable, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), nullptr);
  return self->core->wait (millrace::StreamCore::Until::kNews, cancellable, error);
}

/**
 * millrace_stream_cancel:
 *
 * Ends the generation before the next step, also while it is paused. Any thread; harmless when it has ended.
 */
void
millrace_stream_cancel (MillraceStream *self)
{
  g_return_if_fail (MILLRACE_IS_STREAM (self));
  self->core->cancel ();
}

/**
 * millrace_stream_get_request:
 *
 * Returns: (transfer none): what was asked for
 */
MillraceRequest *
millrace_stream_get_request (MillraceStream *self)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), nullptr);
  return self->request.get ();
}

/**
 * millrace_stream_get_finish_reason:
 *
 * Returns: why it has ended; %MILLRACE_FINISH_REASON_NONE: it has not
 */
MillraceFinishReason
millrace_stream_get_finish_reason (MillraceStream *self)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), MILLRACE_FINISH_REASON_NONE);
  return static_cast<MillraceFinishReason> (self->core->finish ());
}

/**
 * millrace_stream_get_error:
 * @error: return location for what went wrong
 *
 * Returns: whether it has not failed; %FALSE with @error: it has, or was cancelled
 */
gboolean
millrace_stream_get_error (MillraceStream *self, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), FALSE);
  return !self->core->failed (error);
}

/**
 * millrace_stream_is_paused:
 *
 * Returns: whether the generation waits because more than #MillraceRequest:buffer-size of its text is not read
 */
gboolean
millrace_stream_is_paused (MillraceStream *self)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), FALSE);
  return self->core->paused ();
}

/**
 * millrace_stream_get_statistics:
 *
 * What it cost: `prompt-tokens`, `completion-tokens`, `cached-tokens` (of the prompt), `accepted-drafts`,
 * `rejected-drafts` (integers, once it has ended); `queue-ms`, `first-text-ms` and `total-ms` (milliseconds from its
 * sending; the latter two as soon as they are known).
 *
 * Returns: (transfer full): a dictionary, `a{sv}`
 */
GVariant *
millrace_stream_get_statistics (MillraceStream *self)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), nullptr);
  return self->core->statistics ();
}

/**
 * millrace_stream_get_logprobs:
 *
 * The tokens so far with their log-probabilities, when the request asked for them.
 *
 * Returns: (transfer full): an array `a(isda(isd))`: id, text and log-probability of each token, and the same of the best
 *   at its place
 */
GVariant *
millrace_stream_get_logprobs (MillraceStream *self)
{
  g_return_val_if_fail (MILLRACE_IS_STREAM (self), nullptr);
  return self->core->logprobs ();
}
