// Attention for AVX-512: attention_x86.hpp with vectors of 16 lanes, and bytes multiplied by VNNI. Contracts in kernels.hpp.
#include "engine/backend/cpu/attention_kernels.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) &&       \
    defined(__AVX512VNNI__)

#include "engine/backend/cpu/attention_lanes_avx512.hpp"
#include "engine/backend/cpu/attention_x86.hpp"

namespace millrace::cpu
{

namespace
{

template <typename Format>
void
attention (const AttentionArgs &args)
{
  Attention<Format> (args).run ();
}

} // namespace

const AttentionKernels kAvx512Attention = {
    {attention<Plain<Avx512Lanes, F32Rows>>, attention<Plain<Avx512Lanes, F16Rows>>,
     attention<Plain<Avx512Lanes, BF16Rows>>, attention<Q8<Avx512Lanes>>, attention<K8V4<Avx512Lanes>>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const AttentionKernels kAvx512Attention = {};

} // namespace millrace::cpu

#endif
