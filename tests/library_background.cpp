// labels: library
// timeout: 300
// Work in other threads: how many there are, what happens where none can be had, and that neither a cancelled task nor the end of
// the process waits for it.

#include "tests/library_harness.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

using namespace millrace::testing;
using millrace::Ref;

namespace
{

constexpr const char *kName = "millrace-load"; ///< of the threads
constexpr int kMostThreads = 8;

/// What the library's threads have to pass when they begin.
class Gate
{
public:
  static Gate &instance ()
  {
    static Gate gate;
    return gate;
  }
  /// From now on threads wait here.
  void close () { set (closed_, true); }
  void open () { set (closed_, false); }
  /// There are none to be had.
  void refuse (bool all) { set (refuses_, all); }
  bool refuses () const
  {
    const std::lock_guard lock (mutex_);
    return refuses_;
  }

  void pass ()
  {
    std::unique_lock lock (mutex_);
    arrived_++;
    changed_.notify_all ();
    changed_.wait (lock, [this] { return !closed_; });
  }
  /// One more thread is on its way here, or one less runs.
  void count (int more)
  {
    const std::lock_guard lock (mutex_);
    running_ += more;
    changed_.notify_all ();
  }
  /// A thread that has answered its last job still looks for another one, and would get to it.
  void wait_for_none ()
  {
    std::unique_lock lock (mutex_);
    changed_.wait (lock, [this] { return running_ == 0; });
  }
  void wait_for (int arrived)
  {
    std::unique_lock lock (mutex_);
    changed_.wait (lock, [&] { return arrived_ >= arrived; });
  }
  int running () const
  {
    const std::lock_guard lock (mutex_);
    return running_;
  }
  int arrived () const
  {
    const std::lock_guard lock (mutex_);
    return arrived_;
  }
  void forget ()
  {
    const std::lock_guard lock (mutex_);
    arrived_ = 0;
  }

private:
  void set (bool &what, bool to)
  {
    const std::lock_guard lock (mutex_);
    what = to;
    changed_.notify_all ();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false, refuses_ = false;
  int arrived_ = 0; ///< threads, in all
  int running_ = 0; ///< of them, and those on their way
};

struct Begin {
  GThreadFunc function;
  gpointer data;
};

gpointer
begin_at_gate (gpointer data)
{
  const std::unique_ptr<Begin> begin (static_cast<Begin *> (data));
  Gate::instance ().pass ();
  const gpointer result = begin->function (begin->data);
  Gate::instance ().count (-1);
  return result;
}

/// That run; without those that have been joined, which the kernel lists for a moment longer.
int
threads_named (const std::string &name)
{
  constexpr unsigned kExiting = 4; // PF_EXITING, proc(5)
  int count = 0;
  for (const auto &thread : std::filesystem::directory_iterator ("/proc/self/task")) {
    std::string line; // TID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS …
    std::getline (std::ifstream (thread.path () / "stat"), line);
    const size_t begin = line.find ('('), end = line.rfind (')');
    if (end == line.npos || line.substr (begin + 1, end - begin - 1) != name)
      continue;
    std::istringstream fields (line.substr (end + 1));
    std::string skipped;
    for (int i = 0; i < 6; i++)
      fields >> skipped;
    unsigned flags = 0;
    fields >> flags;
    count += !(flags & kExiting);
  }
  return count;
}

void
load (Answer &answer, GCancellable *cancellable = nullptr)
{
  millrace_model_load_async ("demo-draft", MILLRACE_WEIGHTS_AUTO, 1, cancellable, Answer::callback (),
                             &answer);
}

/// Whether it has been loaded; else `problem` says why not.
bool
loaded (Answer &answer, Problem &problem)
{
  return Ref<MillraceModel>::adopt (millrace_model_load_finish (answer.result (), problem.out ())).get () !=
         nullptr;
}

class LibraryBackground : public testing::Test
{
protected:
  LibraryBackground () { gate.forget (); }
  ~LibraryBackground () override
  {
    gate.refuse (false);
    gate.open ();
    gate.wait_for_none ();
  }

  Gate &gate = Gate::instance ();
  Problem problem;
};

} // namespace

/// In front of GLib's, which the library would call.
extern "C" GThread *
g_thread_try_new (const char *name, GThreadFunc function, gpointer data, GError **error)
{
  static const auto next =
      reinterpret_cast<decltype (&g_thread_try_new)> (dlsym (RTLD_NEXT, "g_thread_try_new"));
  if (g_strcmp0 (name, kName) != 0)
    return next (name, function, data, error);
  if (Gate::instance ().refuses ()) {
    g_set_error_literal (error, G_THREAD_ERROR, G_THREAD_ERROR_AGAIN, "out of threads");
    return nullptr;
  }
  Gate::instance ().count (1);
  auto begin = std::make_unique<Begin> (Begin{function, data});
  GThread *thread = next (name, begin_at_gate, begin.get (), error);
  if (thread)
    begin.release ();
  else
    Gate::instance ().count (-1);
  return thread;
}

TEST_F (LibraryBackground, many_jobs_take_turns_of_eight_threads)
{
  gate.close ();
  std::array<Answer, 30> answers;
  for (Answer &answer : answers)
    load (answer);
  gate.wait_for (kMostThreads);
  EXPECT_EQ (threads_named (kName), kMostThreads);
  gate.open ();
  for (Answer &answer : answers)
    EXPECT_TRUE (loaded (answer, problem)) << problem.message ();
  EXPECT_EQ (gate.arrived (), kMostThreads);
}

TEST_F (LibraryBackground, a_job_that_is_cancelled_while_it_waits_is_answered_at_once)
{
  gate.close ();
  std::array<Answer, kMostThreads> first;
  for (Answer &answer : first)
    load (answer);
  gate.wait_for (kMostThreads);
  const auto cancellable = Ref<GCancellable>::adopt (g_cancellable_new ());
  Answer cancelled, late, last;
  load (cancelled, cancellable.get ());
  load (last);
  g_cancellable_cancel (cancellable.get ());
  load (late, cancellable.get ());
  for (Answer *answer : {&cancelled, &late}) { // while all threads are held
    EXPECT_FALSE (loaded (*answer, problem));
    EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
  }
  EXPECT_FALSE (last.there ());
  gate.open ();
  for (Answer &answer : first)
    EXPECT_TRUE (loaded (answer, problem)) << problem.message ();
  EXPECT_TRUE (loaded (last, problem)) << problem.message ();
}

// Of three one is left alone, one cancelled by another thread as it is started, and one when it is about to begin or has begun.
TEST_F (LibraryBackground, jobs_may_be_cancelled_at_any_moment)
{
  constexpr size_t kJobs = 90;
  std::vector<Ref<GCancellable>> cancellables;
  for (size_t i = 0; i < kJobs; i++)
    cancellables.push_back (Ref<GCancellable>::adopt (g_cancellable_new ()));
  std::array<Answer, kJobs> answers;
  std::thread canceller ([&] {
    for (size_t i = 0; i < kJobs; i += 3)
      g_cancellable_cancel (cancellables[i].get ());
  });
  for (size_t i = 0; i < kJobs; i++)
    load (answers[i], cancellables[i].get ());
  for (size_t i = 0; i < kJobs; i++) {
    const bool there = loaded (answers[i], problem);
    EXPECT_TRUE (there || (i % 3 < 2 && problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)))
        << i << ": " << problem.message ();
    const size_t other = i + kMostThreads + i % 5;
    if (other < kJobs && other % 3 == 1)
      g_cancellable_cancel (cancellables[other].get ());
  }
  canceller.join ();
}

TEST_F (LibraryBackground, without_a_thread_a_load_fails_by_itself)
{
  gate.refuse (true);
  const auto cancellable = Ref<GCancellable>::adopt (g_cancellable_new ());
  Answer refused, text;
  load (refused, cancellable.get ());
  EXPECT_FALSE (refused.there ()) << "called back before the call returned";
  EXPECT_FALSE (loaded (refused, problem));
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL));
  EXPECT_NE (problem.message ().find ("out of threads"), std::string::npos) << problem.message ();
  const auto model = open_small_model ();
  millrace_model_tokenize_async (model.get (), "text", FALSE, FALSE, nullptr, Answer::callback (), &text);
  gsize count = 0;
  EXPECT_EQ (millrace_model_tokenize_finish (model.get (), text.result (), &count, problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL)) << problem.message ();
  g_cancellable_cancel (cancellable.get ());

  gate.refuse (false);
  gate.close ();
  Answer first, second;
  load (first);
  gate.wait_for (1);
  gate.refuse (true);
  load (second); // the thread that is there gets to it
  gate.open ();
  EXPECT_TRUE (loaded (first, problem)) << problem.message ();
  EXPECT_TRUE (loaded (second, problem)) << problem.message ();
  EXPECT_EQ (gate.arrived (), 1);
}

TEST_F (LibraryBackground, a_process_that_ends_waits_for_no_model_and_leaves_no_thread)
{
  constexpr int kLoads = 100;
  static auto &answered = *new std::vector<GTask *>; // never freed: models must not go so late
  const auto load_and_end = [] (bool cancel) {
    std::atexit ([] { // comes after what was made later
      if (threads_named (kName) > 0)
        _exit (3);
      while (g_main_context_iteration (nullptr, FALSE)) {
      }
      if (answered.size () != kLoads)
        _exit (4);
      // Not only those that had begun were stopped.
      if (std::ranges::count_if (answered, [] (GTask *task) { return g_task_had_error (task); }) <=
          kMostThreads)
        _exit (5);
    });
    const auto keep = [] (GObject *, GAsyncResult *result, gpointer) {
      answered.push_back (G_TASK (g_object_ref (result)));
    };
    for (int i = 0; i < kLoads; i++) {
      const auto cancellable = Ref<GCancellable>::adopt (g_cancellable_new ());
      millrace_model_load_async ("demo", MILLRACE_WEIGHTS_INT4, 1, cancellable.get (), keep, nullptr);
      if (cancel)
        g_cancellable_cancel (cancellable.get ());
    }
    std::exit (cancel || Gate::instance ().running () > 0 ? 0
                                                          : 6); // those that were cancelled may have stopped
  };
  GTEST_FLAG_SET (death_test_style, "threadsafe");
  EXPECT_EXIT (load_and_end (false), testing::ExitedWithCode (0), "");
  EXPECT_EXIT (load_and_end (true), testing::ExitedWithCode (0), "");
}
