#include "bench/speculation/checks.hpp"

#include "engine/drafting/drafter.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string_view>

namespace millrace::bench
{

namespace
{

constexpr double kOfCeiling = 0.8, kEditSpeed = 2, kFreshSpeed = 0.98;
constexpr double kEqual = 0.98; ///< of the other's speed: two runs of the same mode differ by as much

const ModeResult *
find (const RowResult &row, std::string_view mode)
{
  const auto found =
      std::ranges::find (row.modes, mode, [] (const ModeResult &result) { return result.mode->name; });
  return found == row.modes.end () ? nullptr : &*found;
}

constexpr Paired kNotAsked{NAN, NAN, NAN};

/// The figure of a row, or kNotAsked.
using Figure = std::function<Paired (const RowResult &row, const ModeResult &mode)>;

Check
check (std::span<const RowResult> rows, std::string_view mode, std::string id, std::string asks, double least,
       const Figure &figure)
{
  Check check{std::move (id), std::move (asks), std::string (mode)};
  for (const RowResult &row : rows) {
    const ModeResult *result = find (row, mode);
    const Paired value = result && !is_too_short (row) ? figure (row, *result) : kNotAsked;
    if (std::isnan (value.ratio))
      continue;
    if (check.rows++ == 0 || value.ratio < check.worst.ratio) {
      check.worst = value;
      check.worst_row = row_name (row);
    }
    check.missed += value.ratio < least;
    check.clear += value.high < least;
  }
  return check;
}

} // namespace

bool
is_too_short (const RowResult &row)
{
  return row.tokens () < int64_t{kLeastTokens} * row.streams;
}

std::string
row_name (const RowResult &row)
{
  std::string name = std::string (row.prompt->category->name) + "/" + row.prompt->name;
  if (row.prompt->temperature > 0) {
    char text[32];
    std::snprintf (text, sizeof text, " t%g", row.prompt->temperature);
    name += text;
  }
  return name + " ×" + std::to_string (row.streams);
}

std::vector<ModeTotals>
totals_of (std::span<const RowResult> rows)
{
  std::vector<ModeTotals> all;
  if (rows.empty ())
    return all;
  for (size_t m = 0; m < rows[0].modes.size (); m++) {
    ModeTotals totals{rows[0].modes[m].mode};
    double logs = 0;
    for (const RowResult &row : rows) {
      if (is_too_short (row) || row.prompt->category->nature == Nature::kRandom)
        continue;
      totals.places += row.modes[m].trace.guesses;
      totals.agreed += row.modes[m].trace.right_first;
      logs += std::log (row.ratio (row.modes[m]).ratio);
      totals.rows++;
    }
    totals.speed_up = totals.rows > 0 ? std::exp (logs / totals.rows) : NAN;
    all.push_back (totals);
  }
  return all;
}

Noise
noise_of (std::span<const RowResult> rows)
{
  Noise noise;
  for (const RowResult &row : rows) {
    const ModeResult *control = find (row, "control");
    if (!control || is_too_short (row))
      continue;
    const double ratio = row.ratio (*control).ratio;
    noise.lowest = noise.rows == 0 ? ratio : std::min (noise.lowest, ratio);
    noise.highest = std::max (noise.highest, ratio);
    noise.below += ratio < kFreshSpeed;
    noise.rows++;
  }
  return noise;
}

std::vector<Check>
check_all (std::span<const RowResult> rows, bool replayed)
{
  std::vector<Check> checks;
  if (rows.empty ())
    return checks;
  const auto ratio = [] (const RowResult &row, const ModeResult &mode) { return row.ratio (mode); };
  for (const ModeResult &each : rows[0].modes) {
    const std::string_view mode = each.mode->name;
    if (each.mode->is_peer)
      continue;
    checks.push_back (
        check (rows, mode, "ceiling", "code edit and reformat, 1 stream: at least 80 % of the ceiling",
               kOfCeiling, [&] (const RowResult &row, const ModeResult &result) {
                 const bool asked = row.prompt->category->nature == Nature::kCopies && row.streams == 1;
                 return asked ? row.ratio (result) / result.ceiling : kNotAsked;
               }));
    if (!replayed)
      checks.push_back (check (rows, mode, "edit-speed", "code edit, 1 stream: at least 2.0 × direct",
                               kEditSpeed, [&] (const RowResult &row, const ModeResult &result) {
                                 const bool asked =
                                     row.prompt->category->name == "code-edit" && row.streams == 1;
                                 return asked ? ratio (row, result) : kNotAsked;
                               }));
    checks.push_back (
        check (rows, mode, "fresh", "fresh code, fresh prose, adversarial: at least 0.98 × direct",
               kFreshSpeed, [&] (const RowResult &row, const ModeResult &result) {
                 return row.prompt->category->nature == Nature::kFresh ? ratio (row, result) : kNotAsked;
               }));
    checks.push_back (check (rows, mode, "ema",
                             "as fast as gate=ema policy=ngram, or faster, less 2 % for the clock", kEqual,
                             [&] (const RowResult &row, const ModeResult &result) {
                               const ModeResult *ema = find (row, "ngram-ema");
                               const bool asked = ema && row.prompt->category->nature != Nature::kRandom;
                               return asked ? paired_ratio (result.rates, ema->rates) : kNotAsked;
                             }));
  }
  checks.push_back (
      check (rows, "suffix+model", "combined", "at least the better of suffix and model, less 2 %", kEqual,
             [&] (const RowResult &row, const ModeResult &result) {
               const ModeResult *suffix = find (row, "suffix"), *model = find (row, "model");
               const bool asked = suffix && model && row.prompt->category->nature != Nature::kRandom;
               if (!asked)
                 return kNotAsked;
               const bool by_model = row.ratio (*model).ratio > row.ratio (*suffix).ratio;
               return paired_ratio (result.rates, by_model ? model->rates : suffix->rates);
             }));
  return checks;
}

} // namespace millrace::bench
