// ArchitectureSpec → Program: the one decoder of all families.
//
// Pre-norm transformer with grouped-query attention and a gated MLP; what varies (biases, norms of q and k,
// RoPE, activation, tied head) comes from the spec and decides which operations are written.
#pragma once

#include "engine/backend/program.hpp"
#include "engine/model/architecture_spec.hpp"

namespace millrace
{

Program build_program (const ArchitectureSpec &spec);

} // namespace millrace
