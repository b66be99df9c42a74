// Products of float matrices for AVX2, FMA and F16C.
//
// Register plan: a tile of R rows of a panel × T tokens has R·T accumulators of 8 lanes (8×1, 4×2, 3×3 or 2×4: 8
// or 9 of the 16 registers, enough to hide the latency of a multiply-add), R converted weight vectors, an
// activation vector and a mask. One token is bound by memory, which a panel's order lets stream. Four tokens make 8
// multiply-adds of 6 loads and 2 conversions, so that multiply-adds are the bound: 16 per cycle, of which 2×4 reaches about
// 90% (3×4 would need 17 registers). The order of a dot product is the same in every tile (kernels.hpp).
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/panel_tiles_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kMaxTile = 9; // accumulators

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

void
store_tile (const LinearArgs &args, const float *sums, int row, int rows, int token, int tokens)
{
  const int last = rows < args.rows - row ? rows : args.rows - row; // a panel may have rows of padding
  for (int t = 0; t < tokens; ++t) {
    float *y = args.y[token + t] + args.y_offset + row;
    for (int r = 0; r < last; ++r) {
      float value = sums[r * tokens + t];
      if (args.bias)
        value += args.bias[row + r];
      y[r] = args.accumulate ? y[r] + value : value;
    }
  }
}

template <int kCount>
void
reduce (const __m256 (&lanes)[kCount], float *sums)
{
  int i = 0;
  for (; i + 4 <= kCount; i += 4)
    _mm_storeu_ps (sums + i, sum_lanes_4 (lanes[i], lanes[i + 1], lanes[i + 2], lanes[i + 3]));
  for (; i < kCount; ++i)
    sums[i] = sum_lanes (lanes[i]);
}

// Rows [row, row + R) of one panel.
template <typename W, int R, int T>
void
tile (const LinearArgs &args, int row, int token)
{
  constexpr size_t kRowBytes = kRun * W::kBytes, kRunBytes = kPanelRows * kRowBytes;
  const char *w = static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes +
                  row % kPanelRows * kRowBytes;
  const char *x = static_cast<const char *> (args.x) + token * args.x_row_bytes;
  const size_t x_row = args.x_row_bytes;
  const bool first = token == 0 && row % kPanelRows == 0;

  __m256 lanes[R * T];
#pragma GCC unroll 9
  for (int i = 0; i < R * T; ++i)
    lanes[i] = _mm256_setzero_ps ();

  for (int k = 0; k < args.columns; k += kRun, w += kRunBytes) {
    if (first)
      prefetch<kRunBytes> (w);
    __m256 weights[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      weights[r] = W::low (w + r * kRowBytes);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256 activations = load_once (reinterpret_cast<const float *> (x + t * x_row) + k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        lanes[r * T + t] = _mm256_fmadd_ps (weights[r], activations, lanes[r * T + t]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      weights[r] = W::high (w + r * kRowBytes);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256 activations = load_once (reinterpret_cast<const float *> (x + t * x_row) + k + 8);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        lanes[r * T + t] = _mm256_fmadd_ps (weights[r], activations, lanes[r * T + t]);
    }
  }

  float sums[kMaxTile];
  reduce (lanes, sums);
  store_tile (args, sums, row, R, token, T);
}

// All rows of the panel that begins at row `panel`.
template <typename W, int R, int T>
void
panel_rows (const LinearArgs &args, int panel, int token)
{
  constexpr int kLast = kPanelRows % R; // rows that are no whole tile
  int row = panel;
  for (; row + R <= panel + kPanelRows; row += R)
    tile<W, R, T> (args, row, token);
  if constexpr (kLast > 0)
    tile<W, kLast, T> (args, row, token);
}

template <typename W>
void
linear (const LinearArgs &args)
{
  for (int panel = 0; panel < args.rows; panel += kPanelRows) {
    int token = 0;
    for (; token + 4 <= args.tokens; token += 4)
      panel_rows<W, 2, 4> (args, panel, token);
    switch (args.tokens - token) {
    case 3:
      panel_rows<W, 3, 3> (args, panel, token);
      break;
    case 2:
      panel_rows<W, 4, 2> (args, panel, token);
      break;
    case 1:
      panel_rows<W, 8, 1> (args, panel, token);
      break;
    default:
      break;
    }
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
