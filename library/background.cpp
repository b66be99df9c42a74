#include "library/background.hpp"

#include <millrace/millrace-error.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include <unistd.h>

namespace millrace
{

namespace
{

constexpr size_t kMostThreads = 8;

struct Job {
  GTask *task;
  std::function<void (GTask *, const std::stop_token &)> work;
  std::stop_source stop{};
  gulong cancelled = 0;

  Job (GTask *its_task, std::function<void (GTask *, const std::stop_token &)> its_work)
      : task (static_cast<GTask *> (g_object_ref (its_task)))
      , work (std::move (its_work))
  {
  }
  Job (const Job &) = delete;
  Job &operator= (const Job &) = delete;
  /// Not while the cancellable tells of it: that waits for this.
  ~Job ()
  {
    if (cancelled != 0)
      g_cancellable_disconnect (g_task_get_cancellable (task), cancelled);
    g_object_unref (task);
  }

  void do_it ()
  {
    if (stop.stop_requested ())
      return_cancelled ();
    else
      work (task, stop.get_token ());
  }
  void return_cancelled ()
  {
    g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled before it began");
  }
};

/// In the task's context, as a handler of the cancellable can neither call back nor disconnect itself.
void
return_cancelled_later (std::unique_ptr<Job> job)
{
  GMainContext *context = g_task_get_context (job->task);
  GSource *source = g_idle_source_new ();
  g_source_set_priority (source, g_task_get_priority (job->task));
  const auto call_back = [] (gpointer waiting) -> gboolean {
    static_cast<Job *> (waiting)->return_cancelled ();
    return G_SOURCE_REMOVE;
  };
  const auto free_job = [] (gpointer waiting) { delete static_cast<Job *> (waiting); };
  g_source_set_callback (source, call_back, job.release (), free_job);
  g_source_attach (source, context);
  g_source_unref (source);
}

/// What waits and what runs. A thread does one job after the other and ends when none waits. Never freed: it is needed until
/// the very end.
class Background
{
public:
  static Background &instance ()
  {
    static auto *const background = new Background;
    return *background;
  }

  void start (std::unique_ptr<Job> job)
  {
    GError *error = nullptr;
    if (std::unique_lock lock (mutex_); !job->stop.stop_requested ()) {
      waiting_.push_back (std::move (job));
      add_thread (&error);
      if (threads_.empty ()) { // else one that runs gets to it
        job = std::move (waiting_.back ());
        waiting_.pop_back ();
      }
    }
    if (job && error)
      g_task_return_new_error (job->task, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL,
                               "no thread to do it in: %s; the process may be at its limit of threads or of "
                               "memory",
                               error->message);
    else if (job)
      return_cancelled_later (std::move (job));
    g_clear_error (&error);
  }

  void cancel (std::stop_source &stop)
  {
    stop.request_stop ();
    std::unique_ptr<Job> job;
    {
      std::lock_guard lock (mutex_);
      const auto found = std::ranges::find (
          waiting_, stop, [](const auto &waiting) -> auto & { return waiting->stop; });
      if (found == waiting_.end ())
        return;
      job = std::move (*found);
      waiting_.erase (found);
    }
    return_cancelled_later (std::move (job));
  }

  /// The process ends.
  void finish ()
  {
    std::unique_lock lock (mutex_);
    std::list<std::stop_source> stops;
    for (const auto &job : waiting_)
      stops.push_back (job->stop);
    for (const Thread &thread : threads_)
      stops.push_back (thread.stop);
    lock.unlock ();
    for (std::stop_source &stop : stops)
      stop.request_stop ();
    lock.lock ();
    idle_.wait (lock, [this] { return threads_.empty (); });
    join_ended ();
  }

private:
  struct Thread {
    GThread *thread = nullptr;
    std::stop_source stop{std::nostopstate}; ///< of its job
  };

  /// Unless there are enough, or there can be no more. With the lock.
  void add_thread (GError **error)
  {
    join_ended ();
    if (threads_.size () == kMostThreads)
      return;
    Thread &added = threads_.emplace_back ();
    added.thread = g_thread_try_new ("millrace-load", run, &added, error);
    if (!added.thread)
      threads_.pop_back ();
  }

  static gpointer run (gpointer data)
  {
    while (const auto job = instance ().next_for (*static_cast<Thread *> (data)))
      job->do_it ();
    return nullptr;
  }

  /// Null: the thread ends.
  std::unique_ptr<Job> next_for (Thread &thread)
  {
    std::lock_guard lock (mutex_);
    if (waiting_.empty ()) {
      const auto self = std::ranges::find (threads_, &thread, [] (const Thread &each) { return &each; });
      ended_.splice (ended_.end (), threads_, self);
      if (threads_.empty ())
        idle_.notify_all ();
      return nullptr;
    }
    auto job = std::move (waiting_.front ());
    waiting_.pop_front ();
    thread.stop = job->stop;
    return job;
  }

  /// They have let go of the lock for good, so that this takes no time.
  void join_ended ()
  {
    for (const Thread &thread : ended_)
      g_thread_join (thread.thread);
    ended_.clear ();
  }

  std::mutex mutex_;
  std::condition_variable idle_;
  std::list<std::unique_ptr<Job>> waiting_; ///< only while there are threads
  std::list<Thread> threads_, ended_;       ///< at most kMostThreads
};

/// Static objects that a job makes are gone before those that were there when it began, so a handler of exit () would come too
/// late for them; objects of the main thread go before any of these.
struct MainThread {
  ~MainThread () { Background::instance ().finish (); }
};

void
wait_at_exit ()
{
  if (getpid () == gettid ()) {
    static thread_local const MainThread end;
  }
  static const int registered =
      std::atexit ([] { Background::instance ().finish (); }); // another thread may call exit ()
  (void)registered;
}

} // namespace

void
run_in_background (GTask *task, std::function<void (GTask *, const std::stop_token &)> work)
{
  wait_at_exit ();
  auto job = std::make_unique<Job> (task, std::move (work));
  if (GCancellable *cancellable = g_task_get_cancellable (task)) {
    const auto on_cancelled = [] (GCancellable *, gpointer stop) {
      Background::instance ().cancel (*static_cast<std::stop_source *> (stop));
    };
    const auto free_stop = [] (gpointer stop) { delete static_cast<std::stop_source *> (stop); };
    job->cancelled = g_cancellable_connect (cancellable, G_CALLBACK (+on_cancelled),
                                            new std::stop_source (job->stop), free_stop);
  }
  Background::instance ().start (std::move (job));
}

} // namespace millrace
