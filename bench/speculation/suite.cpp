#include "bench/speculation/suite.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

constexpr int kWarmUpTokens = 64;
constexpr size_t kFewestSamples = 5; ///< of each number of tokens, that a prompt's own costs are told by
constexpr int kTurnTokens = 16;      ///< of a stream, before the next mode has its turn
constexpr size_t kCostPrompts = 4;
constexpr size_t kContext = 8; ///< tokens that make a repetition

std::shared_ptr<const Model>
open_model (const std::filesystem::path &path, const SpecOptions &options, const Model *beside = nullptr)
{
  ModelOptions how{.weights = options.weights, .cpu = {.threads = options.threads}};
  if (beside)
    how.cpu.share = beside->compiled->thread_pool ();
  return Model::open (path, how);
}

} // namespace

int64_t
RowResult::tokens () const
{
  int64_t sum = 0;
  for (const auto &output : direct.outputs)
    sum += static_cast<int64_t> (output.size ());
  return sum;
}

double
RowResult::slowest_ratio (const ModeResult &mode) const
{
  double least = std::numeric_limits<double>::quiet_NaN ();
  for (size_t i = 0; i < direct.stream_rates.size (); i++) {
    const double rate = direct.stream_rates[i], with_drafts = mode.last.stream_rates[i];
    if (rate > 0 && with_drafts > 0) // else it had ended before anything was timed
      least = std::fmin (least, with_drafts / rate);
  }
  return least;
}

double
RowResult::repeats () const
{
  int64_t seen = 0, all = 0;
  for (const auto &output : direct.outputs) {
    std::set<std::array<TokenId, kContext>> contexts;
    for (size_t end = kContext; end <= output.size (); end++, all++) {
      std::array<TokenId, kContext> context;
      std::copy_n (output.begin () + static_cast<std::ptrdiff_t> (end - kContext), kContext,
                   context.begin ());
      seen += !contexts.insert (context).second;
    }
  }
  return all > 0 ? static_cast<double> (seen) / static_cast<double> (all) : 0;
}

Suite::Suite (const SpecOptions &options)
    : options_ (options)
    , model_ (open_model (options.model, options))
    , timed_ (options.replay_costs.empty () ? model_
                                            : open_model (options.replay_costs, options, model_.get ()))
{
  if (!model_->tokenizer)
    throw std::invalid_argument (options.model.string () + ": no tokenizer, so no real prompts");
  if (timed_->spec.vocab < model_->spec.vocab)
    throw std::invalid_argument (options.replay_costs.string () +
                                 ": its vocabulary is smaller than that of " + options.model.string ());
  Clock clock = steady_now_us;
  if (options.model_time) {
    clock = simulated_now_us;
    timed_ = with_simulated_time (timed_, *options.model_time);
  }
  if (!options.draft_model.empty ())
    draft_model_ = open_model (options.draft_model, options, model_.get ());
  if (draft_model_ &&
      (!draft_model_->tokenizer || draft_model_->tokenizer->digest () != model_->tokenizer->digest ()))
    throw std::invalid_argument (options.draft_model.string () + ": its tokens are not those of " +
                                 options.model.string ());
  if (draft_model_ && options.draft_model_time)
    draft_model_ = with_simulated_time (draft_model_, *options.draft_model_time);
  prompts_ = load_prompts (*model_, options.prompts, options.filters, options.most_prompts);
  if (prompts_.empty ())
    throw std::invalid_argument ("-c: no category has such a name; see --help");

  size_t longest = 0;
  for (const Prompt &prompt : prompts_)
    longest = std::max (longest, prompt.tokens.size ());
  const int positions = static_cast<int> (longest) + options.tokens;
  for (const Model *model : {model_.get (), timed_.get ()})
    if (positions > model->spec.max_positions)
      throw std::invalid_argument ("the longest prompt and -n make " + std::to_string (positions) +
                                   " positions, more than the model's " +
                                   std::to_string (model->spec.max_positions));

  const LaneSettings most{std::ranges::max (options.streams), positions, options.kv_type, false, clock};
  const LaneSettings one{1, positions, options.kv_type, true, clock};
  const Mode &direct = modes ()[0];
  if (!options.replay_costs.empty ())
    author_ = std::make_unique<Lane> (model_, direct, nullptr, most);
  direct_ = std::make_unique<Lane> (timed_, direct, nullptr, most);
  cost_lane_ = std::make_unique<Lane> (timed_, direct, nullptr, one);
  for (const Mode *mode : options.modes) {
    lanes_.push_back (std::make_unique<Lane> (timed_, *mode, draft_model_, most));
    trace_lanes_.push_back (std::make_unique<Lane> (timed_, *mode, draft_model_, one));
  }
}

/// A prompt and those after it in its category, around and around. Streams draw differently.
void
Suite::group (size_t prompt, int streams, Group &group)
{
  const auto same = [&] (size_t i) {
    return prompts_[i].category == prompts_[prompt].category &&
           prompts_[i].temperature == prompts_[prompt].temperature;
  };
  size_t begin = prompt, end = prompt + 1;
  while (begin > 0 && same (begin - 1))
    begin--;
  while (end < prompts_.size () && same (end))
    end++;
  for (int i = 0; i < streams; i++) {
    const Prompt &of = prompts_[begin + (prompt - begin + static_cast<size_t> (i)) % (end - begin)];
    Job job;
    job.prompt = of.tokens;
    job.sampling.max_tokens = options_.tokens;
    job.sampling.temperature = of.temperature;
    job.sampling.seed = 1 + static_cast<uint64_t> (i);
    job.sampling.ignore_eos = of.category->nature == Nature::kRandom;
    group.jobs.push_back (job);
  }
  if (!author_)
    return;
  group.scripts = author_->run (group.jobs).outputs;
  for (size_t i = 0; i < group.jobs.size (); i++) {
    group.jobs[i].script = &group.scripts[i];
    group.jobs[i].sampling.max_tokens = static_cast<int> (group.scripts[i].size ());
    group.jobs[i].sampling.ignore_eos = true; // other ids end its answers
  }
}

std::vector<std::vector<TokenId>>
Suite::answers (size_t prompt, int streams)
{
  Group jobs;
  group (prompt, streams, jobs);
  return direct_->run (jobs.jobs).outputs;
}

void
Suite::find_costs ()
{
  std::vector<Group> groups;
  std::vector<Job> jobs;
  std::vector<RunResult> runs;
  for (size_t i = 0; i < prompts_.size () && groups.size () < kCostPrompts; i++) {
    if (prompts_[i].temperature > 0)
      continue;
    groups.emplace_back ();
    group (i, 1, groups.back ());
  }
  for (const Group &group : groups) {
    jobs.push_back (group.jobs[0]);
    runs.push_back (cost_lane_->run (group.jobs));
  }
  costs_ = measure_costs (*cost_lane_, jobs, runs, options_.cost_samples);
}

void
Suite::warm_up ()
{
  find_costs ();
  std::set<double> temperatures;
  for (size_t i = 0; i < prompts_.size (); i++) {
    if (!temperatures.insert (prompts_[i].temperature).second)
      continue;
    for (const int streams : options_.streams) {
      Group jobs;
      group (i, streams, jobs);
      for (Job &job : jobs.jobs)
        job.sampling.max_tokens = std::min (job.sampling.max_tokens, kWarmUpTokens);
      direct_->run (jobs.jobs);
      for (const auto &lane : lanes_)
        lane->run (jobs.jobs);
    }
  }
}

void
Suite::compare (const Lane &lane, const RowResult &row, const RunResult &result)
{
  if (result.outputs == row.direct.outputs)
    return;
  differing_++;
  std::fprintf (stderr,
                "llm-spec-bench: %s/%s, %d streams: the answers with %s differ from those without drafts\n",
                std::string (row.prompt->category->name).c_str (), row.prompt->name.c_str (), row.streams,
                std::string (lane.mode ().name).c_str ());
}

/// Everybody answers once, kTurnTokens of each stream by turns, so that a slow moment of the machine hits all. The order is
/// another one in each round: whoever always came after the same one would inherit its state of clock and caches (in a fixed
/// order decoding without drafts differed from itself by up to a sixth).
void
Suite::repeat (const Group &group, RowResult &row, CostSamples *costs)
{
  std::vector<Lane *> lanes{direct_.get ()};
  for (const auto &lane : lanes_)
    lanes.push_back (lane.get ());
  for (Lane *lane : lanes)
    lane->begin (group.jobs);
  if (costs)
    lanes.push_back (cost_lane_.get ());
  const auto &answers = row.direct.outputs;
  int64_t tokens = 0;
  for (bool more = true; more;) {
    more = false;
    tokens += kTurnTokens * row.streams;
    for (size_t i = lanes.size () - 1; i > 0; i--)
      std::swap (lanes[i], lanes[static_cast<size_t> (order_.below (static_cast<int> (i) + 1))]);
    for (Lane *lane : lanes) {
      if (lane == cost_lane_.get ())
        costs->advance (*lane, group.jobs, answers);
      else
        more |= lane->advance (tokens);
    }
  }
  if (costs)
    costs->finish (*cost_lane_);
  RunResult direct = direct_->finish ();
  if (costs)
    costs->add_direct (direct);
  row.direct_rates.push_back (direct.speed ());
  row.direct_throughputs.push_back (direct.throughput ());
  for (size_t m = 0; m < lanes_.size (); m++) {
    RunResult &last = row.modes[m].last;
    last = lanes_[m]->finish ();
    row.modes[m].rates.push_back (last.speed ());
    row.modes[m].throughputs.push_back (last.throughput ());
    compare (*lanes_[m], row, last);
  }
  compare (*direct_, row, direct);
  row.direct = std::move (direct);
}

RowResult
Suite::measure (size_t prompt, int streams)
{
  Group jobs;
  group (prompt, streams, jobs);
  RowResult row;
  row.prompt = &prompts_[prompt];
  row.streams = streams;
  row.direct = direct_->run (jobs.jobs);
  for (size_t i = 0; i < jobs.scripts.size (); i++) // a script that is not followed measures something else
    if (row.direct.outputs[i] != jobs.scripts[i])
      throw std::runtime_error ("the replaying model left its script");
  for (const auto &lane : lanes_)
    row.modes.emplace_back ().mode = &lane->mode ();

  CostSamples costs;
  for (int repetition = 0; repetition < options_.repetitions; repetition++)
    repeat (jobs, row, streams == 1 ? &costs : nullptr);
  row.costs = costs.fewest () < kFewestSamples ? costs_ : costs.medians ();
  for (size_t m = 0; m < lanes_.size (); m++) {
    row.modes[m].ceiling = row.modes[m].by_costs = std::numeric_limits<double>::quiet_NaN ();
    if (streams > 1)
      continue;
    row.modes[m].trace = trace_of (*trace_lanes_[m], jobs.jobs[0], row.direct.outputs[0]);
    row.modes[m].ceiling = ceiling (row.modes[m].trace, row.costs);
    row.modes[m].by_costs = speed_up_by_costs (row.modes[m].last, row.costs);
  }
  return row;
}

} // namespace millrace::bench
