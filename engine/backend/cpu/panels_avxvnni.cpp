// Products of panels for AVX-VNNI: 256 bits, with the 16 registers of AVX2. See panels_vnni.hpp.
//
// Registers for T = 6: 6 accumulators of a sub-block and 6 of a super-block, two vectors of weights, a broadcast, a mask.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__AVXVNNI__)

#include "engine/backend/cpu/panels_vnni.hpp"

namespace millrace::cpu
{

namespace
{

struct AvxVnniDot {
  static __m256i bytes (__m256i sum, __m256i weights, __m256i x)
  {
    return _mm256_dpbusd_avx_epi32 (sum, weights, x);
  }
  static __m256i words (__m256i sum, __m256i a, __m256i b) { return _mm256_dpwssd_avx_epi32 (sum, a, b); }
};

using Vectors = OnePanel<AvxVnniDot, 6>;

template <template <typename> typename Format>
void
linear (const LinearArgs &args)
{
  run_panels<Vectors, Format> (args, 0);
}

} // namespace

const PanelProducts kAvxVnniPanels = {
    {nullptr, nullptr, nullptr, linear<Q8>, linear<Q4>, linear<Q4K>, linear<Q6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kAvxVnniPanels = {};

} // namespace millrace::cpu

#endif
