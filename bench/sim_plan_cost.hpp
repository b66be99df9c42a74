// Real time of Scheduler::plan () with many live requests.
#pragma once

namespace millrace::sim
{

constexpr double kPlanBoundUs = 200; ///< for 1,000 live requests

/// Prints a table. `only`: the case with that number (from 1), for a profiler; 0: all.
void measure_plan_cost (int requests, int steps, int only);

} // namespace millrace::sim
