// How a matrix product is cut for the threads: units of some rows × some tokens, those of the same tokens being neighbours.
//
// With few tokens weights come from memory and units are small, so that threads end together; neighbouring units are done as
// one. With many the activations of a unit stay in the second-level cache while the weights of all rows meet them: at most as many
// as the kernels want at once, in parts of equal size. Results do not depend on any of it.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

#include <algorithm>

namespace millrace::cpu
{

constexpr int kFewTokens = 16; ///< whose products take tens of microseconds
constexpr int kLeastUnits = 3, kMostUnits = 64;

/// Units that a thread takes at once of a stretch that has `left`. With few tokens it reads on where it was for long: of two
/// matrices at once some rows of the one, then of the other, and going from one to the other costs a fifth of a microsecond.
inline int
step_of (int left, int tokens)
{
  return tokens <= kFewTokens ? std::clamp (left / 2, kLeastUnits, kMostUnits) : kLeastUnits;
}

/// Some neighbouring units.
struct Tile {
  int row, rows;
  int token, tokens;
  int units;
};

class Units
{
public:
  /// `most_tokens`: KernelTable::tokens_at_once.
  Units (int tokens, int most_tokens)
      : tokens_ (tokens)
      , rows_ (tokens <= kFewTokens ? 2 * kPanelRows : kRowsPerPart)
      , token_parts_ ((tokens + most_tokens - 1) / most_tokens)
      , part_tokens_ ((tokens + token_parts_ - 1) / token_parts_)
  {
  }

  /// Units of a matrix with `outputs` rows.
  int of (int outputs) const { return (outputs + rows_ - 1) / rows_ * token_parts_; }

  /// What units from `unit` on, of [unit, end), are done together.
  Tile tile (int unit, int end, int outputs) const
  {
    const int row_parts = (outputs + rows_ - 1) / rows_;
    const int count = token_parts_ == 1 ? end - unit : 1;
    const int row = unit % row_parts * rows_, token = unit / row_parts * part_tokens_;
    return {row, std::min (count * rows_, outputs - row), token, std::min (part_tokens_, tokens_ - token),
            count};
  }

private:
  int tokens_, rows_, token_parts_, part_tokens_;
};

} // namespace millrace::cpu
