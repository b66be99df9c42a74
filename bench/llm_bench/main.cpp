// Tokens a second of prompts and answers, held against what memory allows and against other programs.
//
//   llm-bench -m MODEL -p 512 -n 128 -d 0,4096 -r 5 --peer /path/to/llama-bench
//   llm-bench --roofs
//
// `--help` says what the flags mean. Drives ExecutionContext itself: what scheduling, sampling and pipelines cost is
// measured by step_overhead and decode. One row for each combination; medians of repetitions.
#include "bench/arguments.hpp"
#include "bench/llm_bench/options.hpp"
#include "bench/llm_bench/peer.hpp"
#include "bench/llm_bench/report.hpp"
#include "bench/llm_bench/speed_test.hpp"
#include "bench/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

using namespace millrace;
using namespace millrace::bench;

namespace
{

constexpr double kIdleLoad = 0.5;

/// All combinations for so many threads, prompts first.
std::vector<TestCase>
cases (const Options &options, int threads)
{
  std::vector<TestCase> all;
  for (const KvType kv_type : options.kv_types) {
    for (const int depth : options.depths) {
      TestCase test{
          .depth = depth, .threads = threads, .pass_tokens = options.pass_tokens, .kv_type = kv_type};
      for (const int tokens : options.prompts) {
        test.tokens = tokens;
        if (tokens > 0)
          all.push_back (test);
      }
      test.kind = TestCase::Kind::kAnswer;
      for (const int tokens : options.generations) {
        for (const int streams : options.streams) {
          test.tokens = tokens;
          test.streams = streams;
          if (tokens > 0)
            all.push_back (test);
        }
      }
    }
  }
  return all;
}

/// Peers that cannot run a case are told about and left out of it.
class PeerRuns
{
public:
  PeerRuns (std::span<const Peer> peers, const std::filesystem::path &model, Result &result)
      : peers_ (peers)
      , model_ (model)
      , result_ (result)
  {
    for (const Peer &peer : peers)
      result.peers.emplace_back ().command = peer.command ();
    for (const Peer &peer : peers)
      runs_.push_back (peer.can (result.test));
  }

  void run ()
  {
    for (size_t i = 0; i < peers_.size (); i++) {
      if (!runs_[i])
        continue;
      try {
        result_.peers[i].rates.push_back (peers_[i].run (model_, result_.test));
      } catch (const std::exception &error) {
        std::fprintf (stderr, "llm-bench: %s\n", error.what ());
        runs_[i] = false;
        result_.peers[i].rates.clear ();
        result_.peers[i].failed = true;
      }
    }
  }

private:
  std::span<const Peer> peers_;
  const std::filesystem::path &model_;
  Result &result_;
  std::vector<bool> runs_;
};

/// What the threads read of a model's weights where they lie, and do nothing else: memory is not everywhere equally fast,
/// least of all a virtual machine's, nor always. GB/s.
class WeightReads
{
public:
  explicit WeightReads (const CompiledModel &model)
      : model_ (model)
  {
  }

  /// Not of models that caches may hold.
  bool can_measure () const { return model_.weight_bytes () >= size_t{128} << 20; }

  void read ()
  {
    const auto begin = std::chrono::steady_clock::now ();
    model_.read_weights ();
    rates_.push_back (static_cast<double> (model_.weight_bytes ()) / seconds_since (begin) / 1e9);
  }

  /// The median since the last call.
  double take ()
  {
    const double rate = median (rates_);
    rates_.clear ();
    return rate;
  }

private:
  const CompiledModel &model_;
  std::vector<double> rates_;
};

/// Who goes first alternates, and ratios are of neighbours: a slow phase of the machine then hits both.
Result
measure (const Model &model, const TestCase &test, const Options &options, std::span<const Peer> peers)
{
  SpeedTest ours (model, test);
  Result result;
  result.test = test;
  WeightReads reads (*model.compiled);
  const bool measures_roof =
      test.kind == TestCase::Kind::kAnswer && !options.without_roofs && reads.can_measure ();
  PeerRuns peer_runs (peers, options.peer_model.empty () ? options.model : options.peer_model, result);
  for (int repetition = 0; repetition < options.repetitions; repetition++) {
    if (repetition % 2)
      peer_runs.run ();
    if (!peers.empty ())
      ours.warm_up ();
    const double seconds = measures_roof ? ours.run ([&] { reads.read (); }) : ours.run ();
    result.rates.push_back (static_cast<double> (ours.tokens ()) / seconds);
    if (measures_roof)
      result.roof_shares.push_back (ours.bytes_read () / seconds / 1e9 / reads.take ());
    if (repetition % 2 == 0)
      peer_runs.run ();
    for (PeerResult &peer : result.peers)
      if (!peer.rates.empty ())
        peer.ratios.push_back (result.rates.back () / peer.rates.back ());
  }
  const double seconds = static_cast<double> (ours.tokens ()) / median (result.rates);
  result.gb_per_s = ours.bytes_read () / seconds / 1e9;
  return result;
}

/// A run of its own, since reading clocks takes time too.
void
print_budget (const Model &model, TestCase test)
{
  test.measure = true;
  SpeedTest timed (model, test);
  timed.run ();
  const auto before = timed.op_times ();
  const double seconds = timed.run ();
  const auto tokens =
      static_cast<double> (test.kind == TestCase::Kind::kAnswer ? test.tokens : timed.tokens ());
  const auto after = timed.op_times ();
  double rest = seconds * 1e6;
  std::printf ("\n| operation | calls | µs a %s | %% |\n|---|---:|---:|---:|\n",
               test.kind == TestCase::Kind::kAnswer ? "step" : "token");
  for (size_t i = 0; i < after.size (); i++) {
    const double micros = static_cast<double> (after[i].nanoseconds - before[i].nanoseconds) / 1e3;
    rest -= micros;
    std::printf ("| %s | %lld | %.1f | %.1f |\n", std::string (after[i].name).c_str (),
                 static_cast<long long> (after[i].calls - before[i].calls), micros / tokens,
                 micros / seconds / 1e4);
  }
  std::printf ("| rest | | %.1f | %.1f |\n\n", rest / tokens, rest / seconds / 1e4);
}

void
warn_when_busy ()
{
  double load = 0;
  if (getloadavg (&load, 1) == 1 && load > kIdleLoad)
    std::fprintf (stderr, "llm-bench: the machine is not idle (load %.1f): only ratios mean anything\n",
                  load);
}

int
run (const Options &options)
{
  warn_when_busy ();
  if (options.roofs_only) {
    std::vector<Roofs> roofs;
    for (const int threads : options.threads)
      roofs.push_back (measure_roofs (threads));
    print_roofs (roofs, options.json);
    return 0;
  }
  std::vector<Peer> peers;
  for (const std::string &command : options.peers)
    peers.emplace_back (command, options.peer_arguments);

  std::vector<Result> results;
  std::string description;
  for (const int threads : options.threads) {
    const Roofs roofs = options.without_roofs ? Roofs{} : measure_roofs (threads);
    const auto model = Model::open (options.model, {.weights = options.weights, .cpu = {.threads = threads}});
    if (!options.json && !options.without_roofs)
      print_roofs ({&roofs, 1}, false);
    description = model->compiled->description ();
    if (!options.json)
      print_table_header (options.model.string (), *model, options.peers);
    for (const TestCase &test : cases (options, threads)) {
      results.push_back (measure (*model, test, options, peers));
      results.back ().roofs = roofs;
      if (!options.json)
        print_table_row (results.back ());
      if (options.budget && !options.json)
        print_budget (*model, test);
    }
  }
  if (options.json)
    print_json (options.model.string (), description, results);
  const auto failed = [] (const Result &result) {
    return std::ranges::any_of (result.peers, &PeerResult::failed);
  };
  return std::ranges::any_of (results, failed) ? 1 : 0;
}

} // namespace

int
main (int argc, char **argv)
{
  return run_program ("llm-bench", argc, argv, print_help,
                      [] (std::span<char *const> arguments) { return run (parse_options (arguments)); });
}
