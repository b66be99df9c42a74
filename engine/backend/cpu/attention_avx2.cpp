// Attention for AVX2 and FMA: attention_x86.hpp with pairs of vectors. Contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"

#include "engine/backend/cpu/attention_lanes_avx2.hpp"
#include "engine/backend/cpu/attention_x86.hpp"

namespace millrace::cpu::avx2
{

void
attention_f32 (const AttentionArgs &args)
{
  Attention<Plain<Avx2Lanes, F32Rows>> (args).run ();
}

void
attention_f16 (const AttentionArgs &args)
{
  Attention<Plain<Avx2Lanes, F16Rows>> (args).run ();
}

void
attention_bf16 (const AttentionArgs &args)
{
  Attention<Plain<Avx2Lanes, BF16Rows>> (args).run ();
}

void
attention_q8 (const AttentionArgs &args)
{
  Attention<Q8<Avx2Lanes>> (args).run ();
}

void
attention_k8v4 (const AttentionArgs &args)
{
  Attention<K8V4<Avx2Lanes>> (args).run ();
}

} // namespace millrace::cpu::avx2

#endif
