// Attention of one instruction set beside those of its lesser ones: data, so that choosing needs no code compiled for it.
// Where the compiler or the architecture lacks the set, entries are null. Contracts in kernels.hpp.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu
{

struct AttentionKernels {
  void (*attention[kKvFormats]) (const AttentionArgs &) = {};
};

extern const AttentionKernels kAvx512Attention; ///< needs what kAvx512Panels needs

} // namespace millrace::cpu
