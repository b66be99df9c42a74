#include "elements/http/server_tasks.hpp"

#include "engine/error.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace millrace
{

ServerTasks::~ServerTasks ()
{
  if (event_ >= 0)
    ::close (event_);
}

void
ServerTasks::open ()
{
  std::lock_guard lock (mutex_);
  if (event_ < 0)
    event_ = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event_ < 0)
    throw LoadError ("llmhttpsrc", "",
                     std::string ("no descriptor for the server's thread: ") + std::strerror (errno));
  open_ = true;
}

void
ServerTasks::close ()
{
  std::vector<std::shared_ptr<ServerTask>> dropped; // after the lock
  std::lock_guard lock (mutex_);
  dropped.swap (tasks_);
  open_ = false;
}

void
ServerTasks::add (std::shared_ptr<ServerTask> task)
{
  {
    std::lock_guard lock (mutex_);
    if (!open_)
      return;
    tasks_.push_back (std::move (task));
    if (tasks_.size () > 1)
      return;
  }
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = write (event_, &one, sizeof one); // fails only when it is set already
}

std::vector<std::shared_ptr<ServerTask>>
ServerTasks::take ()
{
  uint64_t count = 0;
  [[maybe_unused]] const auto size = read (event_, &count, sizeof count);
  std::lock_guard lock (mutex_);
  return std::exchange (tasks_, {});
}

} // namespace millrace
