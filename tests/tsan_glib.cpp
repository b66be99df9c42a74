// Tells ThreadSanitizer of GLib's synchronization.
//
// GMutex, GCond and GAsyncQueue are futexes and locks inside libraries that are not instrumented, so every hand-over
// through them would look like a race. These functions stand in front of GLib's: they call the real ones and say
// what was acquired and released. Linked into the tests of the tsan preset only.

#include <glib.h>
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
}
