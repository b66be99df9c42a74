// Replays traces of requests through the real scheduler in virtual time: planner, cost model, KV cache, prefix tree and
// preemption are those that serve; only the model is missing, and a formula says how long each step takes.
//
//   scheduler_sim [--trace T] [--policy P[,P…]] [--machine cpu|fast] [--requests N] [--load L | --rate R] …
//   scheduler_sim --plan-cost [CASE]
//
// `--help` lists everything. The second form measures how long plan () takes with 1,000 live requests.
// Slowdown is the time from arrival to end over what the request would take on the idle machine, given what
// it found in the cache. The queue ends when the first of its tokens is computed. ITL is the gap between two steps that
// gave the request tokens. Goodput counts requests whose TTFT and mean time between tokens meet the targets.

#include "bench/empty_model.hpp"
#include "bench/measure.hpp"
#include "bench/sim_figures.hpp"
#include "bench/sim_plan_cost.hpp"
#include "bench/sim_policy.hpp"
#include "bench/sim_trace.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <unordered_map>

using namespace millrace;
using namespace millrace::sim;

namespace
{

constexpr int64_t kBeginUs = 1'000'000'000; ///< so that ranks can be moved to before an arrival

struct Options {
  TraceOptions trace;
  std::string policies = "millrace", machine_name = "cpu";
  Machine machine;
  double stall = 0;
  int64_t aging_us = kAgingUs;
  int prefill_tokens = 512;
  int max_draft = 0;
  double acceptance = 0.7;
  bool prefix_cache = true, learn_cost = true;
  double max_step_ms = 0;
  int plan_cost = -1;
  int plan_requests = 1000, plan_steps = 2000;
};

class Simulation
{
public:
  Simulation (const Options &options, const std::string &policy)
      : options_ (options)
      , random_ (mix (options.trace.seed))
  {
    now_us = kBeginUs;
    trace_ = make_trace (options.trace, options.machine);
    SchedulerSettings settings;
    settings.max_batch = options.trace.max_batch;
    settings.prefill_tokens = options.prefill_tokens;
    settings.max_draft = options.max_draft;
    settings.max_step_ms = options.max_step_ms;
    settings.kv_bytes = static_cast<size_t> (options.machine.kv_tokens / kBlockTokens);
    settings.prefix_cache = options.prefix_cache;
    settings.learn_cost = options.learn_cost;
    settings.clock = virtual_clock;
    settings.plan = make_policy (policy, options.stall);
    scheduler_ = std::make_unique<Scheduler> (bench::empty_model (kVocab, kMaxPositions, 1), settings);
    figures_.policy = policy;
    figures_.rate = trace_->rate;
  }

  Figures run ()
  {
    const auto begin = std::chrono::steady_clock::now ();
    while (true) {
      while (trace_->next_us () <= now_us)
        admit (trace_->take ());
      const auto before = std::chrono::steady_clock::now ();
      const bool planned = scheduler_->plan (step_);
      const double plan_s = bench::seconds_since (before);
      if (planned) {
        figures_.plan_ns.add (1e9 * plan_s);
        step ();
      } else if (trace_->next_us () != kNever) {
        now_us = trace_->next_us ();
      } else {
        break;
      }
    }
    figures_.wall_s = bench::seconds_since (begin);
    figures_.virtual_s = static_cast<double> (now_us - kBeginUs) / 1e6;
    figures_.scheduler = scheduler_->statistics ();
    figures_.kv = scheduler_->kv ().statistics ();
    return figures_;
  }

private:
  struct Live {
    Arrival arrival; ///< without its prompt
    int prompt_tokens = 0;
    int64_t began_us = 0, first_us = 0, last_us = 0;
  };

  /// What a class is worth is written into the time of submission: the engine's own constant stays as it is.
  int64_t submitted_us (const Arrival &arrival) const
  {
    const auto classes = static_cast<int64_t> (Priority::kHigh) - static_cast<int64_t> (arrival.priority);
    return arrival.at_us + classes * (options_.aging_us - kAgingUs);
  }

  void admit (Arrival arrival)
  {
    auto request = std::make_shared<Request> ();
    request->prompt = std::exchange (arrival.prompt, {});
    request->sampling.max_tokens = arrival.max_tokens;
    request->priority = arrival.priority;
    request->submitted_us = submitted_us (arrival);
    Live &live = live_[request->serial];
    live.prompt_tokens = static_cast<int> (request->prompt.size ());
    live.arrival = std::move (arrival);
    request->owner = &live;
    scheduler_->admit (std::move (request));
  }

  static Live &live_of (const Request &request) { return *static_cast<Live *> (request.owner); }

  void step ()
  {
    StepWork work;
    int rows = 0;
    for (Row &row : step_.rows) {
      if (row.ended ())
        continue;
      rows++;
      Live &live = live_of (*row.sequence->request);
      if (live.began_us == 0)
        live.began_us = now_us;
      work.prefill_tokens += row.prefill_tokens;
      work.prefill_positions += row.prefill_tokens * (row.position + 0.5 * row.prefill_tokens);
      if (row.scored)
        answer (row, live, work);
    }
    const double predicted_ms = predict (work);
    const int64_t took =
        std::max<int64_t> (1, static_cast<int64_t> (1000 * options_.machine.noisy_step_ms (work, random_)));
    now_us += took;
    if (rows > 0) {
      figures_.steps++;
      figures_.rows += static_cast<uint64_t> (rows);
      figures_.prefill_steps += work.prefill_tokens > 0;
      figures_.busy_s += static_cast<double> (took) / 1e6;
      if (predicted_ms > 0)
        figures_.prediction_error.add (std::abs (1000 * predicted_ms / static_cast<double> (took) - 1));
    }
    for (const Row &row : step_.rows) {
      if (row.accepted_count > 0)
        note_tokens (live_of (*row.sequence->request));
    }
    scheduler_->commit (step_);
    for (const auto &request : scheduler_->finished ())
      finish (*request);
  }

  /// Of the step as it came out, drafts included.
  double predict (const StepWork &work) const
  {
    const CostModel &cost = scheduler_->cost ();
    const bool known = (work.scored_tokens == 0 || cost.knows_decode ()) &&
                       (work.prefill_tokens == 0 || cost.knows_prefill ());
    return known ? cost.predict_ms (work) : 0;
  }

  void answer (Row &row, const Live &live, StepWork &work)
  {
    const int generated = row.sequence->generated ();
    const int left =
        std::min (live.arrival.answer, row.sequence->max_tokens - row.sequence->prompt_tokens) - generated;
    row.draft.count = row.draft_limit;
    row.checkpoint = row.position + row.prefill_tokens;
    row.accepted_count = 1;
    while (row.accepted_count <= row.draft.count && random_.uniform () < options_.acceptance)
      row.accepted_count++;
    row.accepted_count = std::min (row.accepted_count, left);
    for (int i = 0; i < row.accepted_count; i++)
      row.accepted[static_cast<size_t> (i)].token = token_of (live.arrival.text, generated + i, kVocab);
    if (row.accepted_count == left)
      row.finish = FinishReason::kStop;
    const int tokens = 1 + row.draft.count;
    work.scored_tokens += tokens;
    work.scored_positions += tokens * static_cast<double> (row.sequence->tokens.size ());
  }

  void note_tokens (Live &live)
  {
    if (live.first_us == 0)
      live.first_us = now_us;
    else
      figures_.itl_ms.add (static_cast<double> (now_us - live.last_us) / 1000);
    live.last_us = now_us;
  }

  void finish (const Request &request)
  {
    const Live &live = live_of (request);
    const int64_t arrived = live.arrival.at_us;
    if (request.error || live.first_us == 0) {
      if (figures_.failed++ == 0)
        std::fprintf (stderr, "first failure: %s\n", request.error.message.c_str ());
    } else {
      figures_.finished++;
      const double ttft_ms = static_cast<double> (live.first_us - arrived) / 1000;
      const int generated = request.statistics.generated;
      const double mean_ms =
          generated > 1 ? static_cast<double> (live.last_us - live.first_us) / 1000 / (generated - 1) : 0;
      const int cached = std::min (request.statistics.cached_tokens, live.prompt_tokens - 1);
      figures_.ttft_ms.add (ttft_ms);
      figures_.class_ttft_ms[static_cast<size_t> (live.arrival.priority)].add (ttft_ms);
      figures_.queue_ms.add (static_cast<double> (live.began_us - arrived) / 1000);
      figures_.good +=
          ttft_ms <= options_.machine.ttft_target_ms && mean_ms <= options_.machine.itl_target_ms;
      figures_.slowdown.add (static_cast<double> (live.last_us - arrived) / 1000 /
                             options_.machine.alone_ms (cached, live.prompt_tokens - 1 - cached, generated));
      if (live.prompt_tokens > figures_.longest_prompt) {
        figures_.longest_prompt = live.prompt_tokens;
        figures_.longest_ttft_ms = ttft_ms;
      }
    }
    if (live.arrival.agent >= 0)
      trace_->ended (live.arrival.agent, now_us);
    live_.erase (request.serial);
  }

  const Options &options_;
  Random random_;
  std::unique_ptr<Trace> trace_;
  std::unique_ptr<Scheduler> scheduler_;
  Step step_;
  std::unordered_map<uint64_t, Live> live_;
  Figures figures_;
};

constexpr char kHelp[] =
    "scheduler_sim: replays traces through the scheduler in virtual time\n"
    "  --trace NAME       poisson, bursts, agents, long, mixed, pressure (default poisson)\n"
    "  --policy NAMES     millrace, fcfs, prefill-first; several with commas between (default millrace)\n"
    "  --machine NAME     cpu (0.6 B parameters on 2 cores) or fast (default cpu); before what changes it\n"
    "  --requests N       (default 2000)\n"
    "  --seed N           (default 1)\n"
    "  --load X           arrivals, of what the machine can do with a full batch (default 0.8)\n"
    "  --rate X           arrivals per second, in place of --load\n"
    "  --prompt X, --answer X\n"
    "                     median tokens of chats (default 200, 120)\n"
    "  --agents N         conversations at a time in the trace agents (default: from --load)\n"
    "  --max-batch N, --prefill-tokens N, --max-draft N, --max-step-ms X, --kv-tokens N,\n"
    "  --prefix-cache 0|1, --learn-cost 0|1\n"
    "                     as SchedulerSettings (defaults 32, 512, 0, 0, the machine's, 1, 1)\n"
    "  --stall X          in place of kStall\n"
    "  --aging-ms X       in place of kAgingUs\n"
    "  --acceptance X     that a draft is accepted when those before it were (default 0.7)\n"
    "  --pass-ms, --row-ms, --prefill-ms, --attention-ms, --prefill-attention-ms, --noise, --hiccups X\n"
    "                     the machine: a pass, a scored token, a prompt's token, attention to 1024 positions "
    "for\n"
    "                     each of these, relative noise of a step, share of steps with a hiccup\n"
    "  --passes 1|2       chunks of prompts share a pass with pending tokens, or have one of their own "
    "(default 2)\n"
    "  --ttft-ms X, --itl-ms X\n"
    "                     targets of goodput\n"
    "  --plan-cost [N]    measures plan () instead; only the N-th case\n"
    "  --plan-requests N, --plan-steps N\n"
    "                     (default 1000, 2000)\n";

Options
parse (int argc, char **argv)
{
  Options options;
  Machine &machine = options.machine;
  const std::pair<const char *, double *> reals[] = {{"rate", &options.trace.rate},
                                                     {"load", &options.trace.load},
                                                     {"prompt", &options.trace.prompt_median},
                                                     {"answer", &options.trace.answer_median},
                                                     {"stall", &options.stall},
                                                     {"acceptance", &options.acceptance},
                                                     {"max-step-ms", &options.max_step_ms},
                                                     {"pass-ms", &machine.pass_ms},
                                                     {"row-ms", &machine.scored_token_ms},
                                                     {"prefill-ms", &machine.prefill_token_ms},
                                                     {"attention-ms", &machine.scored_attention_ms},
                                                     {"prefill-attention-ms", &machine.prefill_attention_ms},
                                                     {"noise", &machine.noise},
                                                     {"hiccups", &machine.hiccup_rate},
                                                     {"ttft-ms", &machine.ttft_target_ms},
                                                     {"itl-ms", &machine.itl_target_ms}};
  const std::pair<const char *, int *> integers[] = {
      {"agents", &options.trace.agents},           {"max-batch", &options.trace.max_batch},
      {"prefill-tokens", &options.prefill_tokens}, {"max-draft", &options.max_draft},
      {"kv-tokens", &machine.kv_tokens},           {"plan-requests", &options.plan_requests},
      {"plan-steps", &options.plan_steps}};
  bool kv_given = false;
  for (int i = 1; i < argc; i++) {
    const std::string name = argv[i];
    if (name == "--help") {
      std::fputs (kHelp, stdout);
      std::exit (0);
    }
    if (name == "--plan-cost") {
      options.plan_cost = i + 1 < argc && argv[i + 1][0] != '-' ? std::atoi (argv[++i]) : 0;
      continue;
    }
    if (i + 1 == argc)
      throw std::invalid_argument (name + " needs a value");
    const char *value = argv[++i];
    bool known = true;
    if (name == "--trace")
      options.trace.name = value;
    else if (name == "--policy")
      options.policies = value;
    else if (name == "--machine")
      machine = Machine::named (options.machine_name = value);
    else if (name == "--requests")
      options.trace.requests = std::atoll (value);
    else if (name == "--seed")
      options.trace.seed = std::strtoull (value, nullptr, 10);
    else if (name == "--aging-ms")
      options.aging_us = static_cast<int64_t> (1000 * std::atof (value));
    else if (name == "--passes")
      machine.one_pass = std::atoi (value) == 1;
    else if (name == "--prefix-cache")
      options.prefix_cache = std::atoi (value) != 0;
    else if (name == "--learn-cost")
      options.learn_cost = std::atoi (value) != 0;
    else
      known = false;
    for (const auto &[option, target] : reals) {
      if (name == std::string ("--") + option)
        *target = std::atof (value), known = true;
    }
    for (const auto &[option, target] : integers) {
      if (name == std::string ("--") + option)
        *target = std::atoi (value), known = true;
    }
    if (!known)
      throw std::invalid_argument ("no option " + name + "; see --help");
    kv_given |= name == "--kv-tokens";
  }
  if (options.trace.name == "pressure" && !kv_given)
    machine.kv_tokens = 8192;
  return options;
}

} // namespace

int
main (int argc, char **argv)
{
  try {
    const Options options = parse (argc, argv);
    if (options.plan_cost >= 0) {
      measure_plan_cost (options.plan_requests, options.plan_steps, options.plan_cost);
      return 0;
    }
    std::vector<Figures> runs;
    for (size_t begin = 0; begin <= options.policies.size ();) {
      const size_t end = std::min (options.policies.find (',', begin), options.policies.size ());
      runs.push_back (Simulation (options, options.policies.substr (begin, end - begin)).run ());
      begin = end + 1;
    }
    std::printf ("%s, %lld requests, machine %s, seed %llu; targets: TTFT %g ms, ITL %g ms\n\n",
                 options.trace.name.c_str (), static_cast<long long> (options.trace.requests),
                 options.machine_name.c_str (), static_cast<unsigned long long> (options.trace.seed),
                 options.machine.ttft_target_ms, options.machine.itl_target_ms);
    print_figures (runs);
  } catch (const std::exception &error) {
    std::fprintf (stderr, "error: %s\n", error.what ());
    return 2;
  }
  return 0;
}
