// Products of float matrices for AVX-512: two rows of a panel in 512 bits, so that a row has the eight lanes that it has
// everywhere (kernels.hpp). One token is bound by memory and stays with AVX2.
//
// Register plan: a tile of all rows × T tokens has 4·T accumulators of two rows (T up to 6: 24 of the 32 registers), 4 vectors of
// weights, one of activations, which a load gives to both rows, and a mask. For 48 multiply-adds there are 16 loads and 8
// conversions.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__)

#include "engine/backend/cpu/float_stretches_x86.hpp"
#include "engine/backend/cpu/kernels_avx2.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kPairs = kPanelRows / 2;

__m512
both (__m256 first, __m256 second)
{
  return _mm512_insertf32x8 (_mm512_castps256_ps512 (first), second, 1);
}

// A weight format: 8 columns of two rows, whose runs are neighbours; see linear_avx2.cpp.
struct F32 {
  static constexpr size_t kBytes = 4;
  static __m256 load (const char *run) { return _mm256_load_ps (reinterpret_cast<const float *> (run)); }
  static __m512 low (const char *runs) { return both (load (runs), load (runs + kRun * kBytes)); }
  static __m512 high (const char *runs) { return low (runs + 32); }
};

struct F16 {
  static constexpr size_t kBytes = 2;
  static __m128i load (const char *run) { return _mm_load_si128 (reinterpret_cast<const __m128i *> (run)); }
  static __m512 low (const char *runs)
  {
    return _mm512_cvtph_ps (
        _mm256_inserti128_si256 (_mm256_castsi128_si256 (load (runs)), load (runs + kRun * kBytes), 1));
  }
  static __m512 high (const char *runs) { return low (runs + 16); }
};

struct BF16 {
  static constexpr size_t kBytes = 2;
  static __m512i load (const char *runs) { return _mm512_load_si512 (runs); }
  static __m512 low (const char *runs) { return _mm512_castsi512_ps (_mm512_slli_epi32 (load (runs), 16)); }
  static __m512 high (const char *runs)
  {
    const __m512i mask = _mm512_set1_epi32 (static_cast<int> (0xffff0000u));
    return _mm512_castsi512_ps (_mm512_and_si512 (load (runs), mask));
  }
};

// The compiler would rather load again for each multiply-add than keep a register.
__m512
load_once (const char *x)
{
  __m512 value = _mm512_broadcast_f32x8 (_mm256_loadu_ps (reinterpret_cast<const float *> (x)));
  __asm__("" : "+v"(value));
  return value;
}

/// All rows × T tokens; `lanes` [kPairs][kFloatTokens].
template <typename W, int T>
void
tile (const char *w, const char *ahead, const char *x, size_t x_row, int count, __m512 *lanes)
{
  constexpr size_t kPairBytes = 2 * kRun * W::kBytes, kRunBytes = kPairs * kPairBytes;
  __m512 sums[kPairs * T];
#pragma GCC unroll 24
  for (int i = 0; i < kPairs * T; ++i)
    sums[i] = lanes[i / T * kFloatTokens + i % T];

  for (int k = 0; k < count; k += kRun, w += kRunBytes, x += kRun * sizeof (float)) {
    if (ahead) {
#pragma GCC unroll 8
      for (size_t at = 0; at < kRunBytes; at += 64)
        _mm_prefetch (ahead + at, _MM_HINT_T0);
      ahead += kRunBytes;
    }
    __m512 weights[kPairs];
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p)
      weights[p] = W::low (w + static_cast<size_t> (p) * kPairBytes);
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      const __m512 activations = load_once (x + static_cast<size_t> (t) * x_row);
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p)
        sums[p * T + t] = _mm512_fmadd_ps (weights[p], activations, sums[p * T + t]);
    }
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p)
      weights[p] = W::high (w + static_cast<size_t> (p) * kPairBytes);
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      const __m512 activations = load_once (x + static_cast<size_t> (t) * x_row + 8 * sizeof (float));
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p)
        sums[p * T + t] = _mm512_fmadd_ps (weights[p], activations, sums[p * T + t]);
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < kPairs * T; ++i)
    lanes[i / T * kFloatTokens + i % T] = sums[i];
}

template <typename W>
struct Tiles {
  static constexpr int kMaxTile = 6;
  static constexpr size_t kBytes = W::kBytes;
  static int index (int row, int token) { return 2 * (row / 2 * kFloatTokens + token) + row % 2; }
  static void run (int tokens, const char *w, const char *ahead, const char *x, size_t x_row, int count,
                   __m256 *lanes)
  {
    static constexpr decltype (&tile<W, 1>) kTiles[kMaxTile] = {tile<W, 1>, tile<W, 2>, tile<W, 3>,
                                                                tile<W, 4>, tile<W, 5>, tile<W, 6>};
    kTiles[tokens - 1](w, ahead, x, x_row, count, reinterpret_cast<__m512 *> (lanes));
  }
};

template <typename W, LinearKernel kOneToken>
void
linear (const LinearArgs &args)
{
  if (args.tokens == 1)
    return kOneToken (args);
  for (int panel = 0; panel < args.rows; panel += kPanelRows) {
    for (int token = 0; token < args.tokens; token += kFloatTokens)
      few_tokens<Tiles<W>> (args, panel, token,
                            args.tokens - token < kFloatTokens ? args.tokens - token : kFloatTokens);
  }
}

} // namespace

const PanelProducts kAvx512Floats = {
    {linear<F32, avx2::linear_f32>, linear<F16, avx2::linear_f16>, linear<BF16, avx2::linear_bf16>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kAvx512Floats = {};

} // namespace millrace::cpu

#endif
