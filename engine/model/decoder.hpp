// ArchitectureSpec → Program: the one decoder of all families.
//
// A residual stream, to which the mixers of the layers add, one after the other. What varies (norms before and after,
// biases, RoPE, windows, caps, the kind of mixer) comes from the spec and decides which operations are written. Each kind of
// mixer is a file decoder_*.cpp.
#pragma once

#include "engine/backend/program.hpp"
#include "engine/model/architecture_spec.hpp"

namespace millrace
{

class WeightFiles;

Program build_program (const ArchitectureSpec &spec);

/// Tensors named as `files` have them, where the spec knows several ways (ArchitectureSpec::tensor_prefixes).
Program build_program (const ArchitectureSpec &spec, const WeightFiles &files);

} // namespace millrace
