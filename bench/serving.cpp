// What other requests do to one: running answers while a long prompt is computed, and an agent's next turn.
//
//   serving [MODEL_FOLDER | random]   default: the demo model; random: the shape of a 0.6 B model
//
// Stall: 8 streams decode while a prompt of 4,000 tokens is computed; then the same without it. Reported: time between
// tokens of the streams, and the throughput of the mixed phase against the best possible: the prompt alone in the
// largest chunks plus the same decode steps alone, one after the other.
// Turns: 20 prompts, each the last one with its answer and something new; time to first token against new tokens.
#include "bench/measure.hpp"
#include "bench/random_model.hpp"
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>
#include <unistd.h>

using namespace millrace;
using namespace millrace::bench;
namespace fs = std::filesystem;

namespace
{

constexpr int kStreams = 8, kPrompt = 4000;

/// A folder as `source`, with room for longer prompts.
void
widen (const fs::path &source, const fs::path &folder)
{
  fs::create_directories (folder);
  std::stringstream text;
  text << std::ifstream (source / "config.json").rdbuf ();
  std::string config = text.str ();
  const std::string key = "\"max_position_embeddings\": ";
  const size_t at = config.find (key);
  if (at == config.npos)
    throw std::runtime_error ("config.json without max_position_embeddings");
  const size_t end = config.find_first_not_of ("0123456789", at + key.size ());
  config.replace (at + key.size (), end - at - key.size (), "8192");
  std::ofstream (folder / "config.json") << config;
  for (const auto &file : fs::directory_iterator (source)) {
    const std::string name = file.path ().filename ();
    if (name.find ("safetensors") != name.npos)
      fs::create_symlink (fs::absolute (file.path ()), folder / name);
  }
}

std::shared_ptr<Request>
make_request (int prompt, int answer, int vocab, uint32_t seed)
{
  std::mt19937 random (seed);
  auto request = std::make_shared<Request> ();
  for (int i = 0; i < prompt; i++)
    request->prompt.push_back (static_cast<TokenId> (random () % static_cast<uint32_t> (vocab)));
  request->sampling.max_tokens = answer;
  request->sampling.ignore_eos = true;
  return request;
}

class Loop
{
public:
  Loop (std::shared_ptr<const Model> model, const SchedulerSettings &settings, int defer_below)
      : scheduler (model, settings)
      , defer_below_ (defer_below)
  {
  }

  /// One step; milliseconds, or 0 when there was nothing to do.
  double turn ()
  {
    const auto begin = std::chrono::steady_clock::now ();
    if (!scheduler.plan (step))
      return 0;
    prefill (step, defer_below_);
    verify (step);
    sampler_.sample (step);
    scheduler.commit (step);
    return 1000 * seconds_since (begin);
  }

  Scheduler scheduler;
  Step step;

private:
  Sampler sampler_;
  int defer_below_;
};

struct Stall {
  double ratio = 0;      ///< 99th percentile of how much longer a step takes with the prompt
  double efficiency = 0; ///< of the best possible throughput
};

Stall
measure_stall (std::shared_ptr<const Model> model, KvType kv_type, int defer_below)
{
  SchedulerSettings settings{.max_batch = kStreams + 1, .max_draft = 0};
  settings.kv_bytes = size_t{4} << 30;
  settings.kv_type = kv_type;
  const int vocab = model->spec.vocab;
  double prompt_ms = 0;
  { // the prompt by itself, in the largest chunks
    Loop loop (model, settings, 0);
    loop.scheduler.admit (make_request (kPrompt, 1, vocab, 1));
    for (double ms = loop.turn (); ms > 0; ms = loop.turn ())
      prompt_ms += ms;
  }

  // The same streams twice, with the prompt and without, over the same positions: their own steps grow with them.
  std::vector<double> mixed, alone;
  for (const bool with_prompt : {true, false}) {
    Loop loop (model, settings, defer_below);
    for (uint32_t i = 0; i < kStreams; i++)
      loop.scheduler.admit (make_request (100, 4000, vocab, 2 + i));
    for (int i = 0; i < 30; i++)
      loop.turn ();
    // A short prompt first, as any server has seen one, so that the cost of prompts is known.
    loop.scheduler.admit (make_request (300, 1, vocab, 90));
    while (loop.scheduler.live () + loop.scheduler.waiting () > kStreams)
      loop.turn ();
    if (with_prompt)
      loop.scheduler.admit (make_request (kPrompt, 1, vocab, 99));
    while (with_prompt ? loop.scheduler.live () + loop.scheduler.waiting () > kStreams
                       : alone.size () < mixed.size ())
      (with_prompt ? mixed : alone).push_back (loop.turn ());
  }

  const auto sum = [] (const std::vector<double> &values) {
    return std::accumulate (values.begin (), values.end (), 0.0);
  };
  // The streams' own steps grow with their texts, so each step is also compared with what it takes alone at the same
  // place (the median of 31 steps around it).
  std::vector<double> slowdowns;
  for (size_t i = 0; i < mixed.size (); i++) {
    const size_t begin = i < 15 ? 0 : i - 15, end = std::min (alone.size (), i + 16);
    slowdowns.push_back (mixed[i] /
                         median (std::vector<double> (alone.begin () + static_cast<std::ptrdiff_t> (begin),
                                                      alone.begin () + static_cast<std::ptrdiff_t> (end))));
  }
  Stall stall{};
  stall.ratio = quantile (slowdowns, 0.99);
  stall.efficiency = (prompt_ms + sum (alone)) / sum (mixed);
  std::printf ("| %s | %d | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f | %.2f | %.1f | %.2f | %zu | %.1f %% |\n",
               kv_type_name (settings.kv_type), defer_below, median (alone), quantile (alone, 0.99),
               median (mixed), quantile (mixed, 0.99), quantile (mixed, 0.99) / median (alone),
               median (slowdowns), stall.ratio, sum (mixed) / 1000, prompt_ms / 1000, mixed.size (),
               100 * stall.efficiency);
  std::fflush (stdout);
  return stall;
}

void
measure_turns (std::shared_ptr<const Model> model)
{
  SchedulerSettings settings{.max_batch = 4, .max_draft = 0};
  settings.kv_bytes = size_t{2} << 30;
  Loop loop (model, settings, 0);
  std::vector<TokenId> prompt = make_request (200, 1, model->spec.vocab, 5)->prompt;
  std::vector<double> xs, ys;
  int64_t shareable = 0, reused = 0;
  std::printf ("\n| turn | prompt | new tokens | cached | TTFT, ms | prompt computed whole, ms "
               "|\n|---:|---:|---:|---:|---:|---:|\n");
  for (int turn = 0; turn < 20; turn++) {
    auto request = std::make_shared<Request> ();
    request->prompt = prompt;
    request->sampling.max_tokens = 16;
    request->sampling.ignore_eos = true;
    loop.scheduler.admit (request);
    std::vector<TokenId> answer;
    while (loop.scheduler.plan (loop.step)) {
      prefill (loop.step);
      verify (loop.step);
      Sampler sampler;
      sampler.sample (loop.step);
      for (const Row &row : loop.step.rows) {
        for (int i = 0; i < row.accepted_count; i++)
          answer.push_back (row.accepted[static_cast<size_t> (i)].token);
      }
      loop.scheduler.commit (loop.step);
    }
    double whole_ms = 0;
    if (turn % 5 == 4) {
      SchedulerSettings cold = settings;
      cold.prefix_cache = false;
      Loop fresh (model, cold, 0);
      auto same = std::make_shared<Request> ();
      same->prompt = prompt;
      same->sampling.max_tokens = 1;
      fresh.scheduler.admit (same);
      for (double ms = fresh.turn (); ms > 0; ms = fresh.turn ())
        whole_ms += ms;
    }
    const auto &statistics = request->statistics;
    const int fresh_tokens = static_cast<int> (prompt.size ()) - statistics.cached_tokens;
    const double ttft = static_cast<double> (statistics.first_token_us) / 1000;
    std::printf ("| %d | %zu | %d | %d | %.1f | %.1f |\n", turn + 1, prompt.size (), fresh_tokens,
                 statistics.cached_tokens, ttft, whole_ms);
    xs.push_back (fresh_tokens);
    ys.push_back (ttft);
    reused += statistics.cached_tokens;
    prompt.insert (prompt.end (), answer.begin (), answer.end ());
    if (turn < 19)
      shareable += static_cast<int64_t> (prompt.size ()) - 1;
    const auto more =
        make_request (8 + turn * 37 % 120, 1, model->spec.vocab, 100 + static_cast<uint32_t> (turn))->prompt;
    prompt.insert (prompt.end (), more.begin (), more.end ());
  }
  const double n = static_cast<double> (xs.size ());
  double sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0;
  for (size_t i = 0; i < xs.size (); i++) {
    sx += xs[i], sy += ys[i], sxx += xs[i] * xs[i], sxy += xs[i] * ys[i], syy += ys[i] * ys[i];
  }
  const double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
  const double r = (n * sxy - sx * sy) / std::sqrt ((n * sxx - sx * sx) * (n * syy - sy * sy));
  std::printf ("TTFT = %.2f ms + %.3f ms · new tokens, r² = %.3f; %.2f %% of %lld shareable tokens reused\n",
               (sy - slope * sx) / n, slope, r * r,
               100.0 * static_cast<double> (reused) / static_cast<double> (shareable),
               static_cast<long long> (shareable));
}

} // namespace

int
main (int argc, char **argv)
{
  const std::string wanted = argc > 1 ? argv[1] : MILLRACE_SOURCE_DIR "/models/demo";
  const fs::path folder = fs::temp_directory_path () / ("millrace-serving-" + std::to_string (getpid ()));
  int missed = 0;
  try {
    if (wanted == "random")
      write_safetensors_model (folder, named_shape ("qwen3-0.6b"));
    else
      widen (wanted, folder);
    const auto model = Model::open (folder);
    std::printf (
        "%s\n\n| KV | defer-below | step alone p50, ms | p99 | with prompt p50 | p99 | p99 / p50 alone "
        "| step by step p50 | p99 | prompt done in, s | alone, s | steps | of best throughput |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        model->compiled->description ().c_str ());
    const int repeats = wanted == "random" ? 1 : 3;
    for (const auto &[type, defer_below] :
         {std::pair (KvType::kF32, kDeferBelow), std::pair (KvType::kF16, kDeferBelow)}) {
      for (int repeat = 0; repeat < repeats; repeat++) {
        const Stall stall = measure_stall (model, type, defer_below);
        missed += defer_below > 0 && (stall.ratio > 2 || stall.efficiency < 0.85);
      }
    }
    measure_turns (model);
  } catch (const std::exception &error) {
    std::fprintf (stderr, "%s\n", error.what ());
    missed = 1;
  }
  fs::remove_all (folder);
  return missed > 0;
}
