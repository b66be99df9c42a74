// Worker threads that split a loop over rows of output.
//
// A pool has `size ()` lanes: the calling thread is lane 0, the others are threads of the pool. Work is
// given as a function of (part, lane); which lane runs a part never influences a result, because parts
// write disjoint outputs. Callers from several threads take turns. No allocation per run ().
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace millrace
{

/// Cores this process may really use: the smaller of the affinity mask and the cgroup's CPU quota
/// (v1 and v2, rounded up), at least 1. Source: sched_getaffinity(2), Linux Documentation/cgroup-v2 cpu.max.
int usable_cores ();

/// A reference to a callable; the callable must outlive the call it is passed to.
template <typename Signature>
class FunctionRef;

template <typename Result, typename... Args>
class FunctionRef<Result (Args...)>
{
public:
  template <typename F>
  requires (!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef (F &&function) // NOLINT(google-explicit-constructor): meant to bind lambdas in place
      : object_ (const_cast<void *> (static_cast<const void *> (std::addressof (function))))
      , call_ ([] (void *object, Args... args) -> Result {
        return (*static_cast<std::remove_reference_t<F> *> (object)) (std::forward<Args> (args)...);
      })
  {
  }
  Result operator() (Args... args) const { return call_ (object_, std::forward<Args> (args)...); }

private:
  void *object_;
  Result (*call_) (void *, Args...);
};

class ThreadPool
{
public:
  /// `threads` lanes; 0 means usable_cores ().
  explicit ThreadPool (int threads = 0);
  ~ThreadPool ();
  ThreadPool (const ThreadPool &) = delete;
  ThreadPool &operator= (const ThreadPool &) = delete;

  int size () const;

  /// Calls work (part, lane) once for each part in [0, parts) and returns when all are done.
  /// Must not be called from inside work. `work` must not throw.
  void run (int parts, FunctionRef<void (int part, int lane)> work);

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace millrace
