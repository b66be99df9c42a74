// Products of panels for AMX: of many tokens, 32 at a time with 16 rows; of fewer those of AVX-512.
//
// A stretch of columns of 48 rows is unpacked once for all tokens, whose outputs wait in memory for the next one: 32 tokens'
// activations stay in the first-level cache while all these rows meet them, which come from the second one in order. While tiles are
// multiplied, what came before is scaled and added, a quarter of the tokens for each quarter of the tiles. All that is some 120 KiB of the
// stack.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__AMX_INT8__) && defined(__AMX_TILE__) && defined(__AVX512F__) && defined(__AVX512BW__) &&       \
    defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include "engine/backend/cpu/unpacked_panels_amx.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kStretch = 512;     ///< columns; a multiple of kSuperBlock
constexpr int kMostGroups = 3;    ///< of kRows rows that meet activations in the first-level cache
constexpr int kBlockTokens = 256; ///< whose outputs wait between stretches

/// Tokens as pairs of tiles, of sizes as equal as can be: those of the larger size first.
struct Pairs {
  int count, size, larger;

  explicit Pairs (int tokens)
      : count ((tokens + kPairTokens - 1) / kPairTokens)
      , size (tokens / count)
      , larger (tokens % count)
  {
  }
};

/// Of pairs of `tokens` tokens, and weights of kDepth columns.
TileConfig
config_of (int tokens, int depth)
{
  const int second = tokens / 2, first = tokens - second;
  TileConfig config;
  for (int sums = 0; sums < 4; ++sums)
    config.set (sums, sums % 2 == 0 ? first : second, kLine);
  config.set (4, first, depth);
  config.set (5, second, depth);
  config.set (6, depth / 4, kLine);
  config.set (7, depth / 4, kLine);
  return config;
}

/// `groups` times kRows rows from `row` on, of `tokens` tokens from `first` on.
template <typename Type>
class RowProducts
{
public:
  RowProducts (const LinearArgs &args, int row, int groups, int first, int tokens)
      : args_ (args)
      , row_ (row)
      , groups_ (groups)
      , first_ (first)
      , tokens_ (tokens)
  {
  }

  void run ()
  {
    for (int i = 0; i < groups_ * tokens_; ++i)
      _mm512_store_ps (outputs_ + i * kRows, _mm512_setzero_ps ());
    for (int column = 0; column < args_.columns; column += kStretch) {
      const int left = args_.columns - column, count = left < kStretch ? left : kStretch;
      // The last step's factors are still needed.
      factors_ = all_factors_[column / kStretch % 2];
      for (int group = 0; group < groups_; ++group) {
        const char *panel = static_cast<const char *> (args_.weights) +
                            (row_ + group * kRows) / kPanelRows * args_.panel_bytes;
        const Packed packed = {panel, args_.panel_bytes, args_.columns};
        for (int i = 0; i < count; i += Type::kColumns)
          Type::unpack (packed, column + i, {factors_of (group, i), tiles_of (group, i)});
      }
      run_stretch (column, count);
    }
    finish_last ();
    for (int i = 0; i < tokens_; ++i)
      for (int group = 0; group < groups_; ++group)
        TwoPanels::store (args_, _mm512_load_ps (outputs_of (group, i)), row_ + group * kRows, first_ + i);
  }

private:
  // Of a column of the stretch.
  char *factors_of (int group, int column)
  {
    return factors_ + (group * kSteps + column / Type::kColumns) * Type::kFactors;
  }
  char *tiles_of (int group, int column)
  {
    return tiles_ + (group * kSteps + column / Type::kColumns) * Type::kTiles;
  }
  float *outputs_of (int group, int token) { return outputs_ + (group * tokens_ + token) * kRows; }

  void run_stretch (int column, int count)
  {
    const Pairs pairs (tokens_);
    const bool is_last = column + count == args_.columns;
    for (int i = 0, token = 0; i < pairs.count; ++i) {
      const int size = pairs.size + (i < pairs.larger ? 1 : 0);
      if (i == 0 || i == pairs.larger)
        configure_tiles (config_of (size, Type::kDepth));
      for (int group = 0; group < groups_; ++group) {
        for (int output = token; is_last && output < token + size; ++output)
          prefetch_output (args_, row_ + group * kRows, first_ + output);
        run_pair (group, column, count, token, size);
      }
      token += size;
    }
  }

  /// `tokens` tokens from `token` on.
  void run_pair (int group, int column, int count, int token, int tokens)
  {
    const char *x =
        static_cast<const char *> (args_.x) + static_cast<size_t> (first_ + token) * args_.x_row_bytes;
    const int first_rows = tokens - tokens / 2;
    for (int i = 0; i < count; i += Type::kColumns) {
      run_step<0> (tiles_of (group, i), x + column + i, static_cast<size_t> (first_rows) * args_.x_row_bytes);
      char *sums = sums_[turn_];
      turn_ = 1 - turn_;
      store_tile<0> (sums, kLine);
      store_tile<1> (sums + first_rows * kLine, kLine);
      store_tile<2> (sums + kPairTokens * kLine, kLine);
      store_tile<3> (sums + (kPairTokens + first_rows) * kLine, kLine);
      last_ = {factors_of (group, i), sums, x, outputs_of (group, token), column + i, tokens};
    }
  }

  template <int kQuarter>
  void run_step (const char *tiles, const char *x, size_t second)
  {
    if constexpr (kQuarter < 4) {
      Type::template multiply<kQuarter> (tiles, x, args_.x_row_bytes, second);
      Type::finish (last_, args_.columns, args_.x_row_bytes, last_.tokens * kQuarter / 4,
                    last_.tokens * (kQuarter + 1) / 4);
      run_step<kQuarter + 1> (tiles, x, second);
    }
  }

  void finish_last ()
  {
    if (last_.tokens > 0)
      Type::finish (last_, args_.columns, args_.x_row_bytes, 0, last_.tokens);
    last_.tokens = 0;
  }

  static constexpr int kSteps = kStretch / Type::kColumns;

  alignas (kLine) char all_factors_[2][kMostGroups * kSteps * Type::kFactors];
  alignas (kLine) char tiles_[kMostGroups * kSteps * Type::kTiles];
  alignas (kLine) char sums_[2][kSumsBytes];
  alignas (kLine) float outputs_[kMostGroups * kBlockTokens * kRows];
  const LinearArgs &args_;
  const int row_, groups_, first_, tokens_;
  int turn_ = 0;
  char *factors_ = all_factors_[0];
  StepSums last_ = {.factors = factors_};
};

/// The pairs of panels; returns the row behind them.
template <typename Type>
int
run_pairs (const LinearArgs &args)
{
  const int groups = (args.rows + kPanelRows - 1) / kRows; // a last panel may be alone
  for (int group = 0; group < groups; group += kMostGroups) {
    const int count = groups - group < kMostGroups ? groups - group : kMostGroups;
    // Of sizes as equal as can be: none is too small for a pair of tiles.
    const int blocks = (args.tokens + kBlockTokens - 1) / kBlockTokens;
    for (int i = 0, first = 0; i < blocks; ++i) {
      const int size = args.tokens / blocks + (i < args.tokens % blocks ? 1 : 0);
      RowProducts<Type> (args, group * kRows, count, first, size).run ();
      first += size;
    }
  }
  release_tiles ();
  return groups * kRows;
}

template <typename Type, Format kFormat>
void
linear (const LinearArgs &args)
{
  int row = 0;
  if (args.tokens >= Type::kLeastTokens && args.columns % Type::kColumns == 0)
    row = run_pairs<Type> (args);
  if (row >= args.rows)
    return;
  LinearArgs rest = args;
  rest.weights = static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes;
  rest.rows -= row;
  rest.y_offset += static_cast<size_t> (row);
  if (args.bias)
    rest.bias += row;
  kAvx512Panels.linear[static_cast<size_t> (kFormat)](rest);
}

} // namespace

const PanelProducts kAmxPanels = {{nullptr, nullptr, nullptr, linear<AmxGroups<SignedBytes>, Format::kQ8>,
                                   linear<AmxGroups<SignedNibbles>, Format::kQ4>,
                                   linear<AmxQ4K, Format::kQ4K>, linear<AmxQ6K, Format::kQ6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kAmxPanels = {};

} // namespace millrace::cpu

#endif
