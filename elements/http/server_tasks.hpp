// How other threads hand work to the server's thread.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace millrace
{

/// Something with work for the server's thread.
class ServerTask
{
public:
  virtual ~ServerTask () = default;
  virtual void run_in_server () = 0;
};

/// The way into the server's thread. Outlives the server for whoever holds it. Any thread.
class ServerTasks
{
public:
  ~ServerTasks ();
  /// Runs `task` soon; nothing once the server has stopped. Do not call it with a lock that the task takes: the
  /// server's thread often runs at once, and in the place of the caller's.
  void add (std::shared_ptr<ServerTask> task);

private:
  friend class HttpServer;
  void open (); ///< throws LoadError
  void close ();
  std::vector<std::shared_ptr<ServerTask>> take ();

  std::mutex mutex_;
  std::vector<std::shared_ptr<ServerTask>> tasks_;
  bool open_ = false;
  // Not a GSource's ready time: setting that wakes the main loop with its lock held.
  int event_ = -1;
};

} // namespace millrace
