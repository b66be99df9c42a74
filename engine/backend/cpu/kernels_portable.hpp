// What the portable kernels' files share. See kernels.hpp for contracts.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu::portable
{

void attention_f32 (const AttentionArgs &);
void attention_f16 (const AttentionArgs &);
void attention_bf16 (const AttentionArgs &);
void attention_q8 (const AttentionArgs &);
void attention_k8v4 (const AttentionArgs &);

} // namespace millrace::cpu::portable
