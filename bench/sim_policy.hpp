// What decides the steps: Millrace's planner, or one of two older ways of doing it, for comparison.
//
//  - fcfs: one request at a time, the first in rank; its prompt in chunks of the step's prefill tokens, then its answer.
//    No batching.
//  - prefill-first: continuous batching as vLLM's first scheduler did it. While a prompt waits, a step computes prompts
//    and nothing else: whole ones, in order of rank, as long as they fit into kWholeTokens together; a longer one goes
//    alone. Otherwise all answers get a token. Who lacks memory for its answer takes it from the newest.
//
// Admission, ranks, prefix cache and the books of memory are the scheduler's with every policy.
#pragma once

#include "engine/scheduling/scheduler.hpp"

#include <string>

namespace millrace::sim
{

constexpr int kWholeTokens = 2048;

/// For SchedulerSettings::plan; empty for "millrace" with `stall` 0. A `stall` other than 0 takes the place of kStall.
/// Throws std::invalid_argument for an unknown name.
std::function<void (std::span<const SequenceView>, const Budgets &, StepPlan &)>
make_policy (const std::string &name, double stall);

} // namespace millrace::sim
