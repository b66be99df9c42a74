// Products of float matrices for AVX2, FMA and F16C.
//
// Register plan: a tile of R rows of a panel × T tokens has R·T accumulators of 8 lanes (8×1, 4×2, 3×3, 2×4, 2×5 or 2×6: 8
// to 12 of the 16 registers, enough to hide the latency of a multiply-add), R converted weight vectors, an activation vector
// and a mask. One token is bound by memory, which a panel's order lets stream. Six tokens make 12 multiply-adds of 8 loads
// and 2 conversions, so that multiply-adds are the bound. Several tokens take a panel in stretches of columns that fit the
// first cache. The order of a dot product is the same in every tile (kernels.hpp).
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/float_stretches_x86.hpp"
#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/panel_tiles_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kMaxTile = 6; ///< tokens of a tile

// A weight format: two vectors of 8 floats of a run.
struct F32 {
  static constexpr int kBytes = 4;
  static __m256 low (const char *run) { return _mm256_load_ps (reinterpret_cast<const float *> (run)); }
  static __m256 high (const char *run) { return low (run + 32); }
};

struct F16 {
  static constexpr int kBytes = 2;
  static __m256 low (const char *run)
  {
    return _mm256_cvtph_ps (_mm_load_si128 (reinterpret_cast<const __m128i *> (run)));
  }
  static __m256 high (const char *run) { return low (run + 16); }
};

struct BF16 {
  static constexpr int kBytes = 2;
  static __m256i load (const char *run)
  {
    return _mm256_load_si256 (reinterpret_cast<const __m256i *> (run));
  }
  static __m256 low (const char *run) { return _mm256_castsi256_ps (_mm256_slli_epi32 (load (run), 16)); }
  static __m256 high (const char *run)
  {
    const __m256i mask = _mm256_set1_epi32 (static_cast<int> (0xffff0000u));
    return _mm256_castsi256_ps (_mm256_and_si256 (load (run), mask));
  }
};

// The compiler would rather load again for each multiply-add than keep a register, and loads would then be
// the bound.
__m256
load_once (const float *x)
{
  __m256 value = _mm256_loadu_ps (x);
  __asm__("" : "+x"(value));
  return value;
}

/// One token: all rows of the panel at once, in the order of memory.
template <typename W>
void
one_token (const LinearArgs &args, int panel, int token)
{
  constexpr size_t kRowBytes = kRun * W::kBytes, kRunBytes = kPanelRows * kRowBytes;
  const char *w = static_cast<const char *> (args.weights) + panel / kPanelRows * args.panel_bytes;
  const auto *x =
      reinterpret_cast<const float *> (static_cast<const char *> (args.x) + token * args.x_row_bytes);

  __m256 lanes[kPanelRows];
  for (__m256 &lane : lanes)
    lane = _mm256_setzero_ps ();
  for (int k = 0; k < args.columns; k += kRun, w += kRunBytes) {
    prefetch<kRunBytes> (w, args.is_intel);
    const __m256 low = load_once (x + k);
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r)
      lanes[r] = _mm256_fmadd_ps (W::low (w + r * kRowBytes), low, lanes[r]);
    const __m256 high = load_once (x + k + 8);
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r)
      lanes[r] = _mm256_fmadd_ps (W::high (w + r * kRowBytes), high, lanes[r]);
  }
  float sums[kPanelRows];
  for (int r = 0; r < kPanelRows; r += 4)
    _mm_storeu_ps (sums + r, sum_lanes_4 (lanes[r], lanes[r + 1], lanes[r + 2], lanes[r + 3]));
  store_panel (args, sums, panel, token, 1);
}

/// R rows × T tokens of `count` columns, on top of what `lanes` holds ([R][kFloatTokens]). `ahead`: what to
/// ask memory for meanwhile, as many bytes as are read; or null.
template <typename W, int R, int T>
void
tile (const char *w, const char *ahead, const char *x, size_t x_row, int count, __m256 *lanes)
{
  constexpr size_t kRowBytes = kRun * W::kBytes, kRunBytes = kPanelRows * kRowBytes;
  __m256 sums[R * T];
#pragma GCC unroll 12
  for (int i = 0; i < R * T; ++i)
    sums[i] = lanes[i / T * kFloatTokens + i % T];

  for (int k = 0; k < count; k += kRun, w += kRunBytes) {
    if (ahead) {
#pragma GCC unroll 8
      for (size_t at = 0; at < R * kRowBytes; at += 64)
        _mm_prefetch (ahead + at, _MM_HINT_T0);
      ahead += R * kRowBytes;
    }
    __m256 weights[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      weights[r] = W::low (w + r * kRowBytes);
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      const __m256 activations = load_once (reinterpret_cast<const float *> (x + t * x_row) + k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        sums[r * T + t] = _mm256_fmadd_ps (weights[r], activations, sums[r * T + t]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      weights[r] = W::high (w + r * kRowBytes);
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      const __m256 activations = load_once (reinterpret_cast<const float *> (x + t * x_row) + k + 8);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        sums[r * T + t] = _mm256_fmadd_ps (weights[r], activations, sums[r * T + t]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < R * T; ++i)
    lanes[i / T * kFloatTokens + i % T] = sums[i];
}

/// T tokens: all rows of the panel, R at a time.
template <typename W, int R, int T>
void
panel_rows (const char *w, const char *ahead, const char *x, size_t x_row, int count, __m256 *lanes)
{
  constexpr size_t kRowBytes = kRun * W::kBytes;
  constexpr int kLast = kPanelRows % R; // rows that are no whole tile
  const auto part = [&] (int row) {
    return ahead ? ahead + static_cast<size_t> (row) * kRowBytes * static_cast<size_t> (count / kRun)
                 : nullptr;
  };
  int row = 0;
  for (; row + R <= kPanelRows; row += R)
    tile<W, R, T> (w + row * kRowBytes, part (row), x, x_row, count, lanes + row * kFloatTokens);
  if constexpr (kLast > 0)
    tile<W, kLast, T> (w + row * kRowBytes, part (row), x, x_row, count, lanes + row * kFloatTokens);
}

/// By the number of tokens.
template <typename W>
constexpr decltype (&panel_rows<W, 2, 4>) kPanels[kMaxTile + 1] = {nullptr,
                                                                   panel_rows<W, 8, 1>,
                                                                   panel_rows<W, 4, 2>,
                                                                   panel_rows<W, 3, 3>,
                                                                   panel_rows<W, 2, 4>,
                                                                   panel_rows<W, 2, 5>,
                                                                   panel_rows<W, 2, 6>};

template <typename W>
struct Tiles {
  static constexpr int kMaxTile = avx2::kMaxTile;
  static constexpr size_t kBytes = W::kBytes;
  static int index (int row, int token) { return row * kFloatTokens + token; }
  static void run (int tokens, const char *w, const char *ahead, const char *x, size_t x_row, int count,
                   __m256 *lanes)
  {
    kPanels<W>[tokens](w, ahead, x, x_row, count, lanes);
  }
};

template <typename W>
void
linear (const LinearArgs &args)
{
  for (int panel = 0; panel < args.rows; panel += kPanelRows) {
    if (args.tokens == 1) {
      one_token<W> (args, panel, 0);
      continue;
    }
    for (int token = 0; token < args.tokens; token += kFloatTokens)
      few_tokens<Tiles<W>> (args, panel, token,
                            args.tokens - token < kFloatTokens ? args.tokens - token : kFloatTokens);
  }
}

} // namespace

void
linear_f32 (const LinearArgs &args)
{
  linear<F32> (args);
}

void
linear_f16 (const LinearArgs &args)
{
  linear<F16> (args);
}

void
linear_bf16 (const LinearArgs &args)
{
  linear<BF16> (args);
}

} // namespace millrace::cpu::avx2

#endif
