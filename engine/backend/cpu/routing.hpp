// Which experts a token goes to: see RouteOp.
#pragma once

#include "engine/backend/program.hpp"

namespace millrace::cpu
{

/// One token's logits → its weights. `correction` and `expert_scale`: of each expert, or null. `scratch`: 3 · op.experts floats.
/// Logits that are not numbers give weights that are not, of `chosen` experts as ever. Pure function; any thread.
void route (const RouteOp &op, const float *logits, const float *correction, const float *expert_scale,
            float *scratch, float *out);

} // namespace millrace::cpu
