// Work in a few other threads that outlasts neither its GTask's interest nor the process.
//
// g_task_run_in_thread () lets a cancelled task's thread run on, and exit () does not wait for it: it then meets static
// objects that are gone. Here work is asked to stop when the task is cancelled or the process ends, and exit () waits
// until it has. Up to eight threads take turns with it, first come, first served; what is cancelled before its turn is not done.
#pragma once

#include <gio/gio.h>

#include <functional>
#include <stop_token>

namespace millrace
{

/// Runs `work` in another thread; it returns the task, soon after the token asks it to stop, and must not depend on any other
/// thread's progress: exit () and other work wait for it. Where no thread can be had, and none runs that would get to it, the task
/// fails. Takes a reference to the task, which goes when `work` has returned. Any thread.
void run_in_background (GTask *task, std::function<void (GTask *, const std::stop_token &)> work);

} // namespace millrace
