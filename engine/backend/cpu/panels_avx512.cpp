// Products of panels for AVX-512 with VNNI: two panels in 512 bits, and a last odd one in 256. See panels_vnni.hpp.
//
// Registers for T = 8: 8 accumulators of a sub-block and 8 of a super-block, 8 sums that may be in memory, two vectors of
// weights, masks: of 32. A vector of weights is two loads of 32 bytes, as panels are apart. Of many tokens they are
// unpacked once: unpacked_panels_avx512.hpp.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) &&       \
    defined(__AVX512VNNI__)

#include "engine/backend/cpu/unpacked_panels_avx512.hpp"

namespace millrace::cpu
{

namespace
{

/// From so many tokens on. With fewer, memory is the bound, and one stream of it is read up to twice as fast as two.
constexpr int kTwoPanelTokens = 6;
/// From so many on, weights are unpacked once for all of them. With fewer, waiting for those that come from memory costs more.
constexpr int kUnpackTokens = 48;

struct Avx512Dot {
  static __m256i bytes (__m256i sum, __m256i weights, __m256i x)
  {
    return _mm256_dpbusd_epi32 (sum, weights, x);
  }
  static __m256i words (__m256i sum, __m256i a, __m256i b) { return _mm256_dpwssd_epi32 (sum, a, b); }
};

template <template <typename> typename Format, typename Unpacked, typename IntelUnpacked = Unpacked>
void
linear (const LinearArgs &args)
{
  int row = 0;
  if (args.tokens >= kUnpackTokens)
    row = args.is_intel ? run_unpacked<IntelUnpacked> (args) : run_unpacked<Unpacked> (args);
  else if (args.tokens >= kTwoPanelTokens)
    row = run_panels<TwoPanels, Format> (args, 0);
  else if (args.is_intel)
    return static_cast<void> (run_panels<OnePanel<Avx512Dot, kTwoPanelTokens - 1, true>, Format> (args, row));
  run_panels<OnePanel<Avx512Dot, kTileTokens>, Format> (args, row);
}

} // namespace

const PanelProducts kAvx512Panels = {
    {nullptr, nullptr, nullptr, linear<Q8, UnpackedGroups<ByteCodes, false>, UnpackedGroups<ByteCodes, true>>,
     linear<Q4, UnpackedGroups<NibbleCodes, false>, UnpackedGroups<NibbleCodes, true>>,
     linear<Q4K, UnpackedQ4K<false>, UnpackedQ4K<true>>, linear<Q6K, UnpackedQ6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kAvx512Panels = {};

} // namespace millrace::cpu

#endif
