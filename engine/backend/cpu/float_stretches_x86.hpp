// How a product of float matrices goes through a panel, for the tiles of AVX2 and AVX-512. Included by linear_avx2.cpp and
// linear_avx512.cpp only; everything is static, so that nothing compiled for one can be picked by the linker for the other.
//
// Several tokens take a panel in stretches of columns that fit the first cache; accumulators wait in memory meanwhile, eight
// lanes for each row and token. `Tiles` has
//   kMaxTile, the most tokens of a tile, and kBytes of a number;
//   index (row, token), of a row's lanes for one of kFloatTokens tokens;
//   run (tokens, weights, ahead, x, x_row, count, lanes): all rows of the panel × so many tokens of `count` columns, on top of
//   what `lanes` holds. `ahead`: what to ask memory for meanwhile, as many bytes as are read; or null.
#pragma once

#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu
{

constexpr int kFloatTokens = 16;   ///< of a panel, taken together
constexpr int kFloatStretch = 512; ///< columns

/// `sums` of all rows of the panel, [rows][tokens].
static inline void
store_panel (const LinearArgs &args, const float *sums, int panel, int token, int tokens)
{
  const int rows = kPanelRows < args.rows - panel ? kPanelRows : args.rows - panel; // the rest is padding
  for (int t = 0; t < tokens; ++t) {
    float *y = args.y[token + t] + args.y_offset + panel;
    for (int r = 0; r < rows; ++r) {
      float value = sums[r * tokens + t];
      if (args.bias)
        value += args.bias[panel + r];
      y[r] = args.accumulate ? y[r] + value : value;
    }
  }
}

/// Up to kFloatTokens tokens of a panel.
template <typename Tiles>
static inline void
few_tokens (const LinearArgs &args, int panel, int token, int tokens)
{
  const char *w = static_cast<const char *> (args.weights) + panel / kPanelRows * args.panel_bytes;
  const char *x = static_cast<const char *> (args.x) + token * args.x_row_bytes;
  const size_t x_row = args.x_row_bytes;

  alignas (64) __m256 lanes[kPanelRows * kFloatTokens];
  for (int r = 0; r < kPanelRows; ++r)
    for (int t = 0; t < tokens; ++t)
      lanes[Tiles::index (r, t)] = _mm256_setzero_ps ();
  for (int k = 0; k < args.columns; k += kFloatStretch) {
    const int count = args.columns - k < kFloatStretch ? args.columns - k : kFloatStretch;
    const char *columns = w + static_cast<size_t> (k) * kPanelRows * Tiles::kBytes;
    // Memory brings the next stretch while this one is computed.
    const char *ahead =
        token == 0 ? columns + static_cast<size_t> (count) * kPanelRows * Tiles::kBytes : nullptr;
    for (int t = 0, tile_tokens; t < tokens; t += tile_tokens) {
      // As even as they go into tiles of at most kMaxTile.
      const int tiles = (tokens - t + Tiles::kMaxTile - 1) / Tiles::kMaxTile;
      tile_tokens = (tokens - t + tiles - 1) / tiles;
      Tiles::run (tile_tokens, columns, ahead, x + t * x_row + k * sizeof (float), x_row, count,
                  lanes + Tiles::index (0, t));
      ahead = nullptr;
    }
  }

  float sums[kPanelRows * kFloatTokens];
  for (int r = 0; r < kPanelRows; ++r) {
    const auto row = [&] (int t) { return lanes[Tiles::index (r, t)]; };
    float *out = sums + r * tokens;
    int t = 0;
    for (; t + 4 <= tokens; t += 4)
      _mm_storeu_ps (out + t, sum_lanes_4 (row (t), row (t + 1), row (t + 2), row (t + 3)));
    for (; t < tokens; ++t)
      out[t] = sum_lanes (row (t));
  }
  store_panel (args, sums, panel, token, tokens);
}

} // namespace millrace::cpu
