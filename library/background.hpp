// Work in a thread of its own that outlasts neither its GTask's interest nor the process.
//
// g_task_run_in_thread () lets a cancelled task's thread run on, and exit () does not wait for it: it then meets static
// objects that are gone. Here a thread is asked to stop when the task is cancelled or the process ends, and exit () waits
// until it has.
#pragma once

#include <gio/gio.h>

#include <functional>
#include <stop_token>

namespace millrace
{

/// Runs `work` in another thread; it returns the task, soon after the token asks it to stop, and must not depend on any other
/// thread's progress: exit () waits for it. Takes a reference to the task, which goes when `work` has returned. Any thread.
void run_in_background (GTask *task, std::function<void (GTask *, const std::stop_token &)> work);

} // namespace millrace
