// What is asked of speculation, held against the suite's rows.
#pragma once

#include "bench/speculation/suite.hpp"

#include <span>
#include <string>
#include <vector>

namespace millrace::bench
{

struct Check {
  std::string id{};   ///< "ceiling", "edit-speed", …
  std::string asks{}; ///< in words
  std::string mode{}; ///< that was looked at
  int rows = 0;       ///< that it is about; 0: nothing was measured that says anything about it
  int missed = 0;     ///< of those
  int clear = 0;      ///< of the missed, where chance alone does not explain it: the whole interval is below
  Paired worst{};     ///< the figure that is asked about, of the worst row
  std::string worst_row{}; ///< "category/prompt t0.7 ×4"

  const char *verdict () const { return rows == 0 ? "not measured" : missed > 0 ? "miss" : "pass"; }
};

/// A row whose answers are too short to time: less than kLeastTokens a stream. No check looks at it.
constexpr int kLeastTokens = 16;
bool is_too_short (const RowResult &row);

std::string row_name (const RowResult &row);

/// Of a mode's whole suite: the shares that a draft model is judged by.
struct ModeTotals {
  const Mode *mode = nullptr;
  int64_t places = 0, agreed = 0; ///< places with a guess, and where its first token is right; one stream
  double speed_up = 0;            ///< geometric mean over rows, random tokens left out
  int rows = 0;
  double agreement () const { return static_cast<double> (agreed) / static_cast<double> (places); }
};
/// The lowest and the highest ratio of "control", which is direct decoding measured against itself, and how many rows that is of.
struct Noise {
  double lowest = 0, highest = 0;
  int rows = 0, below = 0; ///< below: rows in which it is under 0.98
};
Noise noise_of (std::span<const RowResult> rows);

std::vector<ModeTotals> totals_of (std::span<const RowResult> rows);

/// `replayed`: costs are another model's, and what is asked of the demo model's own speed is left out.
std::vector<Check> check_all (std::span<const RowResult> rows, bool replayed);

} // namespace millrace::bench
