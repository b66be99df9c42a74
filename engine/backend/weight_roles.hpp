// What weights are for, as far as it decides how they may be rounded. Pure; any thread.
#pragma once

#include "engine/backend/program.hpp"

#include <set>

namespace millrace
{

/// Embedding and head, whose errors no later layer evens out, and the matrices that make values: of all others in 4 bits
/// these cost the most (docs/performance.md).
std::set<WeightId> sensitive_weights (const Program &program);

/// What chooses experts: a rounded score may choose another one.
std::set<WeightId> router_weights (const Program &program);

} // namespace millrace
