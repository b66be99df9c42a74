// Matrix products for AVX2, FMA and F16C.
//
// Register plan: a tile of R weight rows × T tokens has R·T accumulators of 8 lanes (8×1, 4×2, 3×3 or 2×4: 8
// or 9 of the 16 registers, enough to hide the latency of a multiply-add), R converted weight vectors, an
// activation vector and a mask. One token streams each weight once and is bound by memory: 8 rows keep 8
// lines in flight and the next 8 rows are prefetched. Four tokens make 8 multiply-adds of 6 loads and 2
// conversions, so that multiply-adds are the bound: 16 per cycle, of which 2×4 reaches about 90% (3×4 would
// need 17 registers). The order of a dot product is the same in every tile (kernels.hpp).
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kMaxTile = 9;   // accumulators
constexpr int kRowsAhead = 8; // of prefetches

// A weight format: two vectors of 8 floats of each 16 stored elements.
struct F32 {
  static constexpr int kBytes = 4;
  static __m256 low (const char *row, int i)
  {
    return _mm256_loadu_ps (reinterpret_cast<const float *> (row) + i);
  }
  static __m256 high (const char *row, int i) { return low (row, i + 8); }
};

struct F16 {
  static constexpr int kBytes = 2;
  static __m256 low (const char *row, int i)
  {
    return _mm256_cvtph_ps (_mm_loadu_si128 (reinterpret_cast<const __m128i *> (row + 2 * i)));
  }
  static __m256 high (const char *row, int i) { return low (row, i + 8); }
};

struct BF16 {
  static constexpr int kBytes = 2;
  static __m256i load (const char *row, int i)
  {
    return _mm256_loadu_si256 (reinterpret_cast<const __m256i *> (row + 2 * i));
  }
  static __m256 low (const char *row, int i)
  {
    return _mm256_castsi256_ps (_mm256_slli_epi32 (load (row, i), 16));
  }
  static __m256 high (const char *row, int i)
  {
    const __m256i mask = _mm256_set1_epi32 (static_cast<int> (0xffff0000u));
    return _mm256_castsi256_ps (_mm256_and_si256 (load (row, i), mask));
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
  for (int t = 0; t < tokens; ++t) {
    float *y = args.y[token + t] + args.y_offset + row;
    for (int r = 0; r < rows; ++r) {
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

// The first tokens meet weights that come from memory. Rows are too short for the hardware to catch on.
template <int R>
void
prefetch_rows (const char *w, size_t w_row)
{
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    _mm_prefetch (w + (kRowsAhead + r) * w_row, _MM_HINT_T0);
}

template <typename W, int R, int T>
void
tile (const LinearArgs &args, int row, int token)
{
  const char *w = static_cast<const char *> (args.weights) + row * args.row_bytes;
  const char *x = static_cast<const char *> (args.x) + token * args.x_row_bytes;
  const size_t w_row = args.row_bytes, x_row = args.x_row_bytes;
  const bool first = token == 0;

  __m256 lanes[R * T];
#pragma GCC unroll 9
  for (int i = 0; i < R * T; ++i)
    lanes[i] = _mm256_setzero_ps ();

  for (int k = 0; k < args.columns; k += 16) {
    if (first && k * W::kBytes % 64 == 0)
      prefetch_rows<R> (w + k * W::kBytes, w_row);
    __m256 weights[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      weights[r] = W::low (w + r * w_row, k);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256 activations = load_once (reinterpret_cast<const float *> (x + t * x_row) + k);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        lanes[r * T + t] = _mm256_fmadd_ps (weights[r], activations, lanes[r * T + t]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      weights[r] = W::high (w + r * w_row, k);
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

// Integer products of 32 elements in 8 lanes of 4, exact; |x| · (w with the sign of x) because the
// instruction multiplies unsigned by signed: 2 · 127² fits 16 bits.
template <int R, int T>
void
tile_int8 (const LinearArgs &args, int row, int token)
{
  const char *w = static_cast<const char *> (args.weights) + row * args.row_bytes;
  const char *x = static_cast<const char *> (args.x) + token * args.x_row_bytes;
  const size_t w_row = args.row_bytes, x_row = args.x_row_bytes;
  const bool first = token == 0;
  const __m256i ones = _mm256_set1_epi16 (1);

  __m256 lanes[R * T];
#pragma GCC unroll 9
  for (int i = 0; i < R * T; ++i)
    lanes[i] = _mm256_setzero_ps ();

  for (int k = 0, group = 0; k < args.columns; k += kGroup, ++group) {
    if (first && k % 64 == 0)
      prefetch_rows<R> (w + k, w_row);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const char *x_t = x + t * x_row;
      const __m256i values = _mm256_loadu_si256 (reinterpret_cast<const __m256i *> (x_t + k));
      const __m256i magnitudes = _mm256_abs_epi8 (values);
      const float x_scale = reinterpret_cast<const float *> (x_t + args.columns)[group];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const char *w_r = w + r * w_row;
        const __m256i weights = _mm256_loadu_si256 (reinterpret_cast<const __m256i *> (w_r + k));
        const __m256i products = _mm256_maddubs_epi16 (magnitudes, _mm256_sign_epi8 (weights, values));
        const __m256 dots = _mm256_cvtepi32_ps (_mm256_madd_epi16 (products, ones));
        const float scale = x_scale * reinterpret_cast<const float *> (w_r + args.columns)[group];
        lanes[r * T + t] = _mm256_fmadd_ps (dots, _mm256_set1_ps (scale), lanes[r * T + t]);
      }
    }
  }

  float sums[kMaxTile];
  reduce (lanes, sums);
  store_tile (args, sums, row, R, token, T);
}

template <typename W>
struct FloatTiles {
  template <int R, int T>
  static void run (const LinearArgs &args, int row, int token)
  {
    tile<W, R, T> (args, row, token);
  }
};

struct Int8Tiles {
  template <int R, int T>
  static void run (const LinearArgs &args, int row, int token)
  {
    tile_int8<R, T> (args, row, token);
  }
};

template <typename Tiles, int R, int T>
void
all_rows (const LinearArgs &args, int token)
{
  int row = 0;
  for (; row + R <= args.rows; row += R)
    Tiles::template run<R, T> (args, row, token);
  for (; row < args.rows; ++row)
    Tiles::template run<1, T> (args, row, token);
}

template <typename Tiles>
void
linear (const LinearArgs &args)
{
  int token = 0;
  for (; token + 4 <= args.tokens; token += 4)
    all_rows<Tiles, 2, 4> (args, token);
  switch (args.tokens - token) {
  case 3:
    all_rows<Tiles, 3, 3> (args, token);
    break;
  case 2:
    all_rows<Tiles, 4, 2> (args, token);
    break;
  case 1:
    all_rows<Tiles, 8, 1> (args, token);
    break;
  default:
    break;
  }
}

} // namespace

void
linear_f32 (const LinearArgs &args)
{
  linear<FloatTiles<F32>> (args);
}

void
linear_f16 (const LinearArgs &args)
{
  linear<FloatTiles<F16>> (args);
}

void
linear_bf16 (const LinearArgs &args)
{
  linear<FloatTiles<BF16>> (args);
}

void
linear_int8 (const LinearArgs &args)
{
  linear<Int8Tiles> (args);
}

} // namespace millrace::cpu::avx2

#endif
