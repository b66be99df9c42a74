#include "bench/speculation/report.hpp"

#include "bench/json_object.hpp"
#include "bench/measure.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace millrace::bench
{

namespace
{

std::string
figure (double value, const char *format)
{
  return std::isfinite (value) ? number (value, format) : "–";
}

double
share (int64_t part, int64_t whole)
{
  return whole > 0 ? static_cast<double> (part) / static_cast<double> (whole) : NAN;
}

/// "0.91 0.85 0.7": of the attempts, the share that accepted more than 0, 1, 2 … drafts.
std::string
by_depth (const DraftStatistics &drafting)
{
  std::string text;
  for (const int64_t count : drafting.accepted_at) {
    if (count == 0)
      break;
    text += (text.empty () ? "" : " ") + number (share (count, drafting.attempts), "%.2g");
  }
  return text.empty () ? "–" : text;
}

std::string
interval_of (const Paired &paired)
{
  return figure (paired.low, "%.3f") + " – " + figure (paired.high, "%.3f");
}

} // namespace

void
print_preface (const Suite &suite, const SpecOptions &options)
{
  std::printf ("%s: %s\n", options.model.c_str (), suite.model ().compiled->description ().c_str ());
  if (!options.draft_model.empty ())
    std::printf ("draft model %s\n", options.draft_model.c_str ());
  if (!options.replay_costs.empty ())
    std::printf ("answers replayed at the costs of %s: %s\n", options.replay_costs.c_str (),
                 suite.timed ().compiled->description ().c_str ());
  const StepCosts &costs = suite.costs ();
  std::printf ("%d repetitions, %d tokens at most\n\ncost of a step by tokens that it scores, ms:",
               options.repetitions, options.tokens);
  for (size_t n = 1; n <= kMostScored; n++)
    std::printf (" %s", costs.milliseconds[n] > 0 ? number (costs.milliseconds[n], "%.3g").c_str () : "–");
  std::printf ("\nwith guesses that are always right: %s × direct at most\n",
               figure (costs.machine_ceiling (), "%.2f").c_str ());
}

void
print_table_head (bool random)
{
  if (random)
    std::printf ("\nRandom tokens. Models loop on such prompts, which flatters every drafter: "
                 "these rows say nothing about real text.\n");
  std::string titles = "\n", rule;
  for (const std::string_view column :
       {"category", "prompt",           "temperature", "streams",  "tokens",
        "repeats",  "direct, tokens/s", "mode",        "tokens/s", "ratio",
        "interval", "to the end",       "slowest",     "by costs", "ceiling",
        "of it",    "by costs",         "attempts",    "drafted",  "accepted",
        "rate",     "mean accepted",    "by depth",    "pauses",   "drafters, µs a step"}) {
    const bool words = column == "category" || column == "prompt" || column == "mode" ||
                       column == "by depth" || column == "interval";
    titles += "| " + std::string (column) + " ";
    rule += words ? "|---" : "|---:";
  }
  std::printf ("%s|\n%s|\n", titles.c_str (), rule.c_str ());
}

void
print_rows (const RowResult &row)
{
  for (const ModeResult &mode : row.modes) {
    const DraftStatistics &drafting = mode.last.drafting;
    const Paired paired = row.ratio (mode);
    const double ratio = paired.ratio;
    const std::string cells[] = {
        std::string (row.prompt->category->name),
        row.prompt->name,
        number (row.prompt->temperature, "%g"),
        std::to_string (row.streams),
        std::to_string (row.tokens ()),
        figure (100 * row.repeats (), "%.0f %%"),
        figure (median (row.direct_rates), "%.1f"),
        std::string (mode.mode->name),
        figure (median (mode.rates), "%.1f"),
        figure (ratio, "%.3f"),
        interval_of (paired),
        figure (row.throughput_ratio (mode).ratio, "%.3f"),
        figure (row.slowest_ratio (mode), "%.3f"),
        figure (mode.by_costs, "%.2f"),
        figure (mode.ceiling, "%.2f"),
        figure (100 * ratio / mode.ceiling, "%.0f %%"),
        figure (100 * mode.by_costs / mode.ceiling, "%.0f %%"),
        std::to_string (drafting.attempts),
        std::to_string (drafting.drafted),
        std::to_string (drafting.accepted),
        figure (100 * share (drafting.accepted, drafting.drafted), "%.0f %%"),
        figure (share (drafting.accepted, drafting.attempts), "%.2f"),
        by_depth (drafting),
        std::to_string (drafting.pauses),
        figure (mode.last.drafters_us / static_cast<double> (mode.last.turns.size ()), "%.1f")};
    for (const std::string &cell : cells)
      std::printf ("| %s ", cell.c_str ());
    std::printf ("|\n");
  }
  std::fflush (stdout);
}

void
print_summary (std::span<const RowResult> rows, std::span<const Check> checks, int differing)
{
  std::printf (
      "\n| mode | rows | speed-up, geometric mean | first guess right, 1 stream |\n|---|---:|---:|---:|\n");
  for (const ModeTotals &totals : totals_of (rows))
    std::printf ("| %s | %d | %s | %s of %lld |\n", std::string (totals.mode->name).c_str (), totals.rows,
                 figure (totals.speed_up, "%.3f").c_str (),
                 figure (100 * totals.agreement (), "%.1f %%").c_str (),
                 static_cast<long long> (totals.places));
  std::printf ("\nRows with less than %d tokens a stream are too short to time and left out here.\n\n",
               kLeastTokens);
  if (const Noise noise = noise_of (rows); noise.rows > 0)
    std::printf (
        "noise: direct decoding against itself: %.3f to %.3f in %d rows, of which %d are below 0.98\n",
        noise.lowest, noise.highest, noise.rows, noise.below);
  for (const Check &check : checks)
    if (check.rows > 0)
      std::printf ("%s: %s: %s: %d of %d rows miss it, %d of them clearly; the worst is %s at %.3f (%s)\n",
                   check.verdict (), check.mode.c_str (), check.asks.c_str (), check.missed, check.rows,
                   check.clear, check.worst_row.c_str (), check.worst.ratio,
                   interval_of (check.worst).c_str ());
    else
      std::printf ("%s: %s: %s\n", check.verdict (), check.mode.c_str (), check.asks.c_str ());
  if (differing > 0)
    std::printf ("FAILED: the answers of %d runs differ from those without drafts\n", differing);
  else
    std::printf ("all answers are those without drafts\n");
}

namespace
{

std::string
json_of (const RowResult &row, const ModeResult &mode)
{
  const DraftStatistics &drafting = mode.last.drafting;
  const Paired paired = row.ratio (mode);
  JsonObject object;
  object.text ("mode", mode.mode->name);
  object.figure ("median_ts", median (mode.rates));
  object.raw ("samples_ts", json_list (std::span<const double> (mode.rates)));
  object.figure ("ratio", paired.ratio);
  object.figure ("ratio_low", paired.low);
  object.figure ("ratio_high", paired.high);
  object.figure ("ratio_to_the_end", row.throughput_ratio (mode).ratio);
  object.figure ("ratio_of_slowest_stream", row.slowest_ratio (mode));
  object.figure ("ratio_by_costs", mode.by_costs);
  object.figure ("ceiling", mode.ceiling);
  object.figure ("of_ceiling", paired.ratio / mode.ceiling);
  object.figure ("of_ceiling_by_costs", mode.by_costs / mode.ceiling);
  object.figure ("steps", static_cast<double> (mode.last.turns.size ()));
  object.figure ("attempts", static_cast<double> (drafting.attempts));
  object.figure ("drafted", static_cast<double> (drafting.drafted));
  object.figure ("accepted", static_cast<double> (drafting.accepted));
  object.figure ("accept_rate", share (drafting.accepted, drafting.drafted));
  object.figure ("mean_accepted", share (drafting.accepted, drafting.attempts));
  object.figure ("full_accepts", static_cast<double> (drafting.full_accepts));
  object.raw ("accepted_at", json_list (std::span<const int64_t> (drafting.accepted_at)));
  JsonObject by;
  for (int source = 0; source < kDraftSources; source++)
    by.figure (draft_source_name (static_cast<DraftSource> (source)),
               static_cast<double> (drafting.accepted_by[static_cast<size_t> (source)]));
  object.raw ("accepted_by", by.end ());
  object.figure ("pauses", static_cast<double> (drafting.pauses));
  object.figure ("drafters_us_per_step",
                 mode.last.drafters_us / static_cast<double> (mode.last.turns.size ()));
  if (row.streams == 1) {
    std::vector<int> scored, right;
    for (const Turn &turn : mode.last.turns) {
      scored.push_back (turn.scored);
      right.push_back (turn.right);
    }
    object.raw ("steps_scored", json_list (std::span<const int> (scored)));
    object.raw ("steps_right", json_list (std::span<const int> (right)));
    object.raw ("trace", json_list (std::span<const int> (mode.trace.right)));
    object.figure ("places_guessed", static_cast<double> (mode.trace.guesses));
    object.figure ("first_guess_right", static_cast<double> (mode.trace.right_first));
  }
  return object.end ();
}

std::string
json_of (const RowResult &row)
{
  JsonObject object;
  object.text ("category", row.prompt->category->name);
  object.text ("nature", nature_name (row.prompt->category->nature));
  object.text ("prompt", row.prompt->name);
  object.figure ("temperature", row.prompt->temperature);
  object.figure ("n_prompt", static_cast<double> (row.prompt->tokens.size ()));
  object.figure ("streams", row.streams);
  object.figure ("tokens", static_cast<double> (row.tokens ()));
  object.figure ("repeats", row.repeats ());
  object.truth ("too_short", is_too_short (row));
  object.figure ("direct_ts", median (row.direct_rates));
  object.raw ("direct_samples_ts", json_list (std::span<const double> (row.direct_rates)));
  if (row.streams == 1)
    object.raw ("step_costs_ms", json_list (std::span<const double> (row.costs.milliseconds).subspan (1)));
  std::string modes;
  for (const ModeResult &mode : row.modes)
    modes += (modes.empty () ? "" : ",\n   ") + json_of (row, mode);
  object.raw ("modes", "[" + modes + "]");
  return object.end ();
}

std::string
json_of (const Check &check)
{
  JsonObject object;
  object.text ("check", check.id);
  object.text ("asks", check.asks);
  object.text ("mode", check.mode);
  object.text ("verdict", check.verdict ());
  object.figure ("rows", check.rows);
  object.figure ("missed", check.missed);
  object.figure ("clearly_missed", check.clear);
  object.figure ("worst", check.rows > 0 ? check.worst.ratio : NAN);
  object.figure ("worst_low", check.rows > 0 ? check.worst.low : NAN);
  object.figure ("worst_high", check.rows > 0 ? check.worst.high : NAN);
  object.text ("worst_row", check.worst_row);
  return object.end ();
}

} // namespace

void
print_spec_json (const Suite &suite, const SpecOptions &options, std::span<const RowResult> rows,
                 std::span<const Check> checks)
{
  JsonObject object;
  object.text ("model_filename", options.model.string ());
  object.text ("draft_model_filename", options.draft_model.string ());
  object.text ("replay_costs_filename", options.replay_costs.string ());
  object.text ("backend", suite.timed ().compiled->description ());
  object.figure ("repetitions", options.repetitions);
  object.figure ("n_gen", options.tokens);
  object.text ("type_kv", kv_type_name (options.kv_type));
  object.raw ("step_costs_ms", json_list (std::span<const double> (suite.costs ().milliseconds).subspan (1)));
  object.figure ("machine_ceiling", suite.costs ().machine_ceiling ());
  std::string real, random, all_checks, totals;
  for (const RowResult &row : rows) {
    std::string &list = row.prompt->category->nature == Nature::kRandom ? random : real;
    list += (list.empty () ? "" : ",\n  ") + json_of (row);
  }
  for (const Check &check : checks)
    all_checks += (all_checks.empty () ? "" : ",\n  ") + json_of (check);
  for (const ModeTotals &each : totals_of (rows)) {
    JsonObject of;
    of.text ("mode", each.mode->name);
    of.figure ("rows", each.rows);
    of.figure ("speed_up", each.speed_up);
    of.figure ("places_guessed", static_cast<double> (each.places));
    of.figure ("agreement", each.agreement ());
    totals += (totals.empty () ? "" : ",\n  ") + of.end ();
  }
  object.raw ("rows", "[" + real + "]");
  object.text ("random_rows_note", "models loop on random tokens, which flatters every drafter");
  object.raw ("random_rows", "[" + random + "]");
  object.raw ("totals", "[" + totals + "]");
  object.raw ("checks", "[" + all_checks + "]");
  object.figure ("differing_runs", suite.differing ());
  std::printf ("%s\n", object.end ().c_str ());
}

} // namespace millrace::bench
