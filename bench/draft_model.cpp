// What a draft model brings, by itself and behind the drafter that looks things up.
//
//   draft_model [--cpu] [RUNS [STREAMS [TARGET [DRAFT]]]]
//
// For each kind of text and STREAMS (default 1, 4 and 8): 128 greedy tokens a stream, directly and by each way to draft, runs
// alternating, tokens a second as medians of RUNS (default 5) from first to last step. One run before them teaches each
// way what steps cost. Prompts differ from run to run, so that nothing is cached; runs of one number are the same.
// `right`: guesses that were right of those verified; `agreement`: of four that are always made and verified. --cpu: one
// thread, and its time on a core in place of time, for a machine that others use. Last, what a pass of the draft model costs beside a step.

#include "bench/measure.hpp"

#include "engine/drafting/lookup_policy.hpp"
#include "engine/drafting/model_drafter.hpp"
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

using namespace millrace;

namespace
{

constexpr int kTokens = 128; ///< of each stream

int64_t
cpu_now_us ()
{
  timespec now;
  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * int64_t{1'000'000} + now.tv_nsec / 1000;
}

Clock now_us = steady_now_us;

struct Text {
  const char *name, *prompt;
};

constexpr Text kTexts[] = {
    {"prose", "The lighthouse keeper climbed the stairs every evening and"},
    {"code", "import os\n\n\ndef read_lines(path):\n    \"\"\"Reads a file and returns its lines.\"\"\"\n"},
    {"edit",
     "def area(width, height):\n    return width * height\n\ndef volume(width, height, depth):\n    return "
     "area(width, height) * depth\n\n# The same again:\n\ndef area(width, height):\n"},
    {"adversarial", "q7 Zx!! 9f_ ~~ vB%% k3 ?? 00a1 #$ mmW"},
};

/// One way to draft, with what it has learned so far.
struct Way {
  const char *name;
  std::unique_ptr<Scheduler> scheduler;
  std::vector<Drafter *> drafters{};
  std::vector<double> rates{};
  DraftStatistics statistics{};
};

/// Tokens a second.
double
generate (Way &way, const std::shared_ptr<const Model> &model, const std::string &prompt, int streams)
{
  Sampler sampler;
  Step step;
  for (int i = 0; i < streams; i++) {
    auto request = std::make_shared<Request> ();
    request->prompt = model->tokenizer->encode ("# " + std::to_string (i) + "\n" + prompt);
    request->sampling.max_tokens = kTokens;
    request->sampling.ignore_eos = true;
    way.scheduler->admit (request);
  }
  const int64_t began = now_us ();
  while (way.scheduler->plan (step)) {
    prefill (step);
    for (Drafter *drafter : way.drafters)
      drafter->draft (step);
    step.drafting->choose (step);
    verify (step);
    sampler.sample (step);
    way.scheduler->commit (step);
    for (const auto &request : way.scheduler->finished ())
      way.statistics.add (request->statistics.drafting);
  }
  return streams * kTokens * 1e6 / static_cast<double> (now_us () - began);
}

void
measure (const std::shared_ptr<const Model> &target, const std::shared_ptr<const Model> &draft, int streams,
         int runs)
{
  const auto lookup = make_lookup_drafter (), before = make_lookup_drafter ();
  ModelDrafter alone (draft, {.kv_bytes = 256u << 20}), behind (draft, {.kv_bytes = 256u << 20}),
      always (draft, {.max_draft = 4, .gate = DraftGate::kNone, .kv_bytes = 256u << 20});
  const auto scheduler = [&] {
    return std::make_unique<Scheduler> (target, SchedulerSettings{.max_batch = streams,
                                                                  .kv_bytes = size_t{512} << 20,
                                                                  .prefix_cache = false,
                                                                  .clock = now_us});
  };
  std::array<Way, 5> ways{Way{"direct", scheduler ()}, Way{"suffix", scheduler (), {lookup.get ()}},
                          Way{"model", scheduler (), {&alone}},
                          Way{"both", scheduler (), {before.get (), &behind}},
                          Way{"agreement", scheduler (), {&always}}};
  int number = 0;
  for (const Text &text : kTexts) {
    for (Way &way : ways) {
      way.rates.clear ();
      way.statistics = {};
    }
    for (int run = 0; run <= runs; run++) {
      const std::string prompt = std::to_string (number++) + "\n" + text.prompt;
      for (size_t i = 0; i < ways.size (); i++) {
        Way &way = ways[(i + static_cast<size_t> (run)) % ways.size ()];
        const double rate = generate (way, target, prompt, streams);
        if (run > 0)
          way.rates.push_back (rate);
      }
    }
    std::printf ("%d streams, %-12s", streams, text.name);
    const double direct = bench::median (ways[0].rates);
    std::printf ("%8.1f/s", direct);
    for (size_t i = 1; i < ways.size (); i++) {
      std::vector<double> ratios;
      for (size_t run = 0; run < ways[i].rates.size (); run++)
        ratios.push_back (ways[i].rates[run] / ways[0].rates[run]);
      const DraftStatistics &statistics = ways[i].statistics;
      std::printf ("   %s %.3f (right %lld of %lld)", ways[i].name, bench::median (ratios),
                   static_cast<long long> (statistics.accepted), static_cast<long long> (statistics.drafted));
    }
    std::printf ("\n");
    std::fflush (stdout);
  }
  std::printf (
      "%d streams: a pass of the draft model %.3f ms, a step without drafts %.3f ms, with 4 each %.3f ms\n",
      streams, alone.pass_cost ().milliseconds (streams),
      ways[0].scheduler->drafting ().cost ().milliseconds (streams),
      ways[2].scheduler->drafting ().cost ().milliseconds (5 * streams));
}

} // namespace

int
main (int argc, char **argv)
{
  const bool cpu = argc > 1 && std::strcmp (argv[1], "--cpu") == 0;
  argc -= cpu;
  argv += cpu;
  if (cpu)
    now_us = cpu_now_us;
  const int runs = argc > 1 ? std::max (1, std::atoi (argv[1])) : 5;
  const int wanted = argc > 2 ? std::atoi (argv[2]) : 0;
  const std::string models = std::string (MILLRACE_SOURCE_DIR) + "/models/";
  try {
    const auto target = Model::open (argc > 3 ? argv[3] : models + "demo", {.cpu = {.threads = cpu ? 1 : 0}});
    const auto draft = Model::open (argc > 4 ? argv[4] : models + "demo-draft",
                                    {.cpu = {.share = target->compiled->thread_pool ()}});
    for (const int streams : {1, 4, 8}) {
      if (wanted <= 0 || streams == wanted)
        measure (target, draft, streams, runs);
    }
  } catch (const std::exception &error) {
    std::fprintf (stderr, "error: %s\n", error.what ());
    return 2;
  }
  return 0;
}
