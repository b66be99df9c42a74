#include "library/background.hpp"

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

struct Job {
  GTask *task;
  std::function<void (GTask *, const std::stop_token &)> work;
  std::stop_source stop{};
  gulong cancelled = 0;
};

/// What runs. Never freed: it is needed until the very end.
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
    const std::stop_source stop = job->stop;
    std::list<Running> ended;
    {
      std::lock_guard lock (mutex_);
      running_.push_back ({stop, g_thread_new ("millrace-load", run, job.release ())});
      ended.swap (ended_);
    }
    join (ended);
  }

  /// The process ends.
  void finish ()
  {
    std::unique_lock lock (mutex_);
    std::list<std::stop_source> stops;
    for (const Running &job : running_)
      stops.push_back (job.stop);
    lock.unlock ();
    for (std::stop_source &stop : stops)
      stop.request_stop ();
    lock.lock ();
    idle_.wait (lock, [this] { return running_.empty (); });
    std::list<Running> ended;
    ended.swap (ended_);
    lock.unlock ();
    join (ended);
  }

private:
  struct Running {
    std::stop_source stop;
    GThread *thread;
  };

  static gpointer run (gpointer data)
  {
    const std::unique_ptr<Job> job (static_cast<Job *> (data));
    job->work (job->task, job->stop.get_token ());
    job->work = nullptr;
    if (job->cancelled != 0)
      g_cancellable_disconnect (g_task_get_cancellable (job->task), job->cancelled);
    g_object_unref (job->task);
    instance ().end (job->stop);
    return nullptr;
  }

  void end (const std::stop_source &stop)
  {
    std::lock_guard lock (mutex_);
    const auto job = std::ranges::find (running_, stop, &Running::stop);
    ended_.splice (ended_.end (), running_, job);
    if (running_.empty ())
      idle_.notify_all ();
  }

  static void join (const std::list<Running> &ended)
  {
    for (const Running &job : ended)
      g_thread_join (job.thread);
  }

  std::mutex mutex_;
  std::condition_variable idle_;
  std::list<Running> running_, ended_; ///< ended: to be joined, which takes no time
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
  auto job = std::make_unique<Job> (static_cast<GTask *> (g_object_ref (task)), std::move (work));
  if (GCancellable *cancellable = g_task_get_cancellable (task)) {
    const auto on_cancelled = [] (GCancellable *, gpointer stop) {
      static_cast<std::stop_source *> (stop)->request_stop ();
    };
    const auto free_stop = [] (gpointer stop) { delete static_cast<std::stop_source *> (stop); };
    job->cancelled = g_cancellable_connect (cancellable, G_CALLBACK (+on_cancelled),
                                            new std::stop_source (job->stop), free_stop);
  }
  Background::instance ().start (std::move (job));
}

} // namespace millrace
