// Tells ThreadSanitizer of GLib's synchronization.
//
// GMutex, GCond, GAsyncQueue, GTask, GSource and references are futexes, locks and atomics inside libraries that are not
// instrumented, so every hand-over through them would look like a race. These functions stand in front of GLib's
// and GStreamer's: they call the real ones and say what was acquired and released. Linked into the tests of the
// tsan preset only.

#include <gio/gio.h>
#include <gst/gst.h>
#include <sanitizer/tsan_interface.h>

#include <dlfcn.h>

namespace
{

template <typename F>
F
real (const char *name)
{
  return reinterpret_cast<F> (dlsym (RTLD_NEXT, name));
}

GQuark
task_function ()
{
  static const GQuark quark = g_quark_from_static_string ("tsan-task-function");
  return quark;
}

/// What a source calls, and the moment at which it was told so.
struct SourceCallback {
  GSourceFunc function;
  gpointer data;
  GDestroyNotify notify;
};

gboolean
call_back (gpointer data)
{
  auto *callback = static_cast<SourceCallback *> (data);
  __tsan_acquire (callback);
  __tsan_acquire (g_main_current_source ());
  return callback->function (callback->data);
}

void
free_callback (gpointer data)
{
  auto *callback = static_cast<SourceCallback *> (data);
  __tsan_acquire (callback);
  if (callback->notify)
    callback->notify (callback->data);
  delete callback;
}

} // namespace

extern "C" {

void
g_mutex_lock (GMutex *mutex)
{
  static const auto next = real<void (*) (GMutex *)> ("g_mutex_lock");
  next (mutex);
  __tsan_acquire (mutex);
}

gboolean
g_mutex_trylock (GMutex *mutex)
{
  static const auto next = real<gboolean (*) (GMutex *)> ("g_mutex_trylock");
  const gboolean locked = next (mutex);
  if (locked)
    __tsan_acquire (mutex);
  return locked;
}

void
g_mutex_unlock (GMutex *mutex)
{
  static const auto next = real<void (*) (GMutex *)> ("g_mutex_unlock");
  __tsan_release (mutex);
  next (mutex);
}

void
g_cond_wait (GCond *cond, GMutex *mutex)
{
  static const auto next = real<void (*) (GCond *, GMutex *)> ("g_cond_wait");
  __tsan_release (mutex);
  next (cond, mutex);
  __tsan_acquire (mutex);
}

gboolean
g_cond_wait_until (GCond *cond, GMutex *mutex, gint64 end_time)
{
  static const auto next = real<gboolean (*) (GCond *, GMutex *, gint64)> ("g_cond_wait_until");
  __tsan_release (mutex);
  const gboolean signalled = next (cond, mutex, end_time);
  __tsan_acquire (mutex);
  return signalled;
}

void
g_async_queue_push (GAsyncQueue *queue, gpointer data)
{
  static const auto next = real<void (*) (GAsyncQueue *, gpointer)> ("g_async_queue_push");
  __tsan_release (queue);
  next (queue, data);
}

gpointer
g_async_queue_pop (GAsyncQueue *queue)
{
  static const auto next = real<gpointer (*) (GAsyncQueue *)> ("g_async_queue_pop");
  gpointer data = next (queue);
  __tsan_acquire (queue);
  return data;
}

gpointer
g_async_queue_try_pop (GAsyncQueue *queue)
{
  static const auto next = real<gpointer (*) (GAsyncQueue *)> ("g_async_queue_try_pop");
  gpointer data = next (queue);
  __tsan_acquire (queue);
  return data;
}

gpointer
g_async_queue_timeout_pop (GAsyncQueue *queue, guint64 timeout)
{
  static const auto next = real<gpointer (*) (GAsyncQueue *, guint64)> ("g_async_queue_timeout_pop");
  gpointer data = next (queue, timeout);
  __tsan_acquire (queue);
  return data;
}

void
g_task_run_in_thread (GTask *task, GTaskThreadFunc function)
{
  static const auto next = real<void (*) (GTask *, GTaskThreadFunc)> ("g_task_run_in_thread");
  g_object_set_qdata (G_OBJECT (task), task_function (), reinterpret_cast<gpointer> (function));
  __tsan_release (task);
  next (task, [] (GTask *self, gpointer source, gpointer data, GCancellable *cancellable) {
    __tsan_acquire (self);
    reinterpret_cast<GTaskThreadFunc> (g_object_get_qdata (G_OBJECT (self), task_function ())) (
        self, source, data, cancellable);
  });
}

void
g_task_return_pointer (GTask *task, gpointer result, GDestroyNotify destroy)
{
  static const auto next = real<void (*) (GTask *, gpointer, GDestroyNotify)> ("g_task_return_pointer");
  __tsan_release (task);
  next (task, result, destroy);
}

void
g_task_return_boolean (GTask *task, gboolean result)
{
  static const auto next = real<void (*) (GTask *, gboolean)> ("g_task_return_boolean");
  __tsan_release (task);
  next (task, result);
}

gpointer
g_task_propagate_pointer (GTask *task, GError **error)
{
  static const auto next = real<gpointer (*) (GTask *, GError **)> ("g_task_propagate_pointer");
  gpointer result = next (task, error);
  __tsan_acquire (task);
  return result;
}

gboolean
g_task_propagate_boolean (GTask *task, GError **error)
{
  static const auto next = real<gboolean (*) (GTask *, GError **)> ("g_task_propagate_boolean");
  const gboolean result = next (task, error);
  __tsan_acquire (task);
  return result;
}

void
g_source_set_callback (GSource *source, GSourceFunc function, gpointer data, GDestroyNotify notify)
{
  using Set = void (*) (GSource *, GSourceFunc, gpointer, GDestroyNotify);
  static const auto next = real<Set> ("g_source_set_callback");
  // Other kinds of sources call functions with other parameters.
  if (source->source_funcs != &g_idle_funcs && source->source_funcs != &g_timeout_funcs) {
    next (source, function, data, notify);
    return;
  }
  auto *callback = new SourceCallback{function, data, notify};
  __tsan_release (callback);
  next (source, call_back, callback, free_callback);
}

guint
g_source_attach (GSource *source, GMainContext *context)
{
  static const auto next = real<guint (*) (GSource *, GMainContext *)> ("g_source_attach");
  __tsan_release (source);
  return next (source, context);
}

// References are atomics in there too: whoever drops the last one frees a meta that others read before they dropped
// theirs. Each drop is a release, and the meta's own free function, which libgstreamer calls, acquires.
void
gst_mini_object_unref (GstMiniObject *object)
{
  static const auto next = real<void (*) (GstMiniObject *)> ("gst_mini_object_unref");
  __tsan_release (object);
  next (object);
}

const GstMetaInfo *
gst_meta_register (GType api, const gchar *impl, gsize size, GstMetaInitFunction init,
                   GstMetaFreeFunction free, GstMetaTransformFunction transform)
{
  using Register = const GstMetaInfo *(*)(GType, const gchar *, gsize, GstMetaInitFunction,
                                          GstMetaFreeFunction, GstMetaTransformFunction);
  static const auto next = real<Register> ("gst_meta_register");
  static GQuark original = g_quark_from_static_string ("tsan-meta-free");
  g_type_set_qdata (api, original, reinterpret_cast<gpointer> (free));
  const auto acquire = [] (GstMeta *meta, GstBuffer *buffer) {
    __tsan_acquire (buffer);
    if (const auto its_own =
            reinterpret_cast<GstMetaFreeFunction> (g_type_get_qdata (meta->info->api, original)))
      its_own (meta, buffer);
  };
  return next (api, impl, size, init, acquire, transform);
}
}
