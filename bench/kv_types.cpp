// What the ways of keeping KV cost and give, on a model and a text.
//
//   kv_types [MODEL [TEXT]]
//
// MODEL is a folder (default: models/demo), TEXT a file (default: this one). Every type runs the same tokens in
// the same passes. Logits of every position are compared with those of f32: largest and mean absolute
// difference, mean Kullback-Leibler divergence of the distributions (in nats) and the share of positions where the most
// likely token is the same. Then tokens are decoded one at a time, behind a context of up to 1,500, in turn with
// each type, so that a slow phase of the machine hits all of them; medians.

#include "bench/measure.hpp"

#include "engine/model/model.hpp"

#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <stdexcept>

using namespace millrace;
using bench::median;
using bench::seconds_since;

namespace
{

constexpr int kContext = 1500;
constexpr int kDecoded = 64;
constexpr int kChunk = 50;

// One sequence with one way of keeping KV.
class Run
{
public:
  Run (const Model &model, KvType type, int positions)
      : layout_ (model.compiled->kv_layout (type))
      , blocks_ (static_cast<size_t> ((positions + kBlockTokens - 1) / kBlockTokens))
      , logits_ (static_cast<size_t> (model.spec.vocab) * kChunk)
      , vocab_ (static_cast<size_t> (model.spec.vocab))
  {
    std::iota (blocks_.begin (), blocks_.end (), 0);
    ContextOptions options;
    options.kv_type = type;
    options.kv_blocks.fill (static_cast<int> (blocks_.size ()));
    options.max_tokens = kChunk;
    context_ = model.compiled->create_context (options);
  }

  /// Logits of all tokens.
  std::span<const float> forward (std::span<const TokenId> tokens)
  {
    Slice slice;
    slice.tokens = tokens;
    slice.position = position_;
    slice.blocks.fill (blocks_);
    slice.scored = static_cast<int> (tokens.size ());
    slice.logits = logits_.data ();
    context_->forward ({&slice, 1});
    position_ += slice.scored;
    return std::span (logits_).first (tokens.size () * vocab_);
  }

  double bytes_per_token () const
  {
    size_t bytes = 0;
    for (const KvGroup &group : layout_)
      bytes += group.block_bytes;
    return static_cast<double> (bytes) / kBlockTokens;
  }

private:
  KvLayout layout_;
  std::vector<BlockId> blocks_; ///< the same ids in every group
  std::vector<float> logits_;
  size_t vocab_;
  std::unique_ptr<ExecutionContext> context_;
  int position_ = 0;
};

struct Figures {
  double largest = 0, sum = 0, divergence = 0;
  int64_t values = 0, positions = 0, same = 0;

  void add (std::span<const float> expected, std::span<const float> logits)
  {
    for (size_t i = 0; i < logits.size (); ++i) {
      const double difference = std::fabs (static_cast<double> (logits[i]) - expected[i]);
      largest = std::max (largest, difference);
      sum += difference;
    }
    const double expected_total = log_sum (expected), total = log_sum (logits);
    for (size_t i = 0; i < logits.size (); ++i) {
      const double log_p = expected[i] - expected_total;
      divergence += std::exp (log_p) * (log_p - (logits[i] - total));
    }
    values += static_cast<int64_t> (logits.size ());
    ++positions;
    same += std::ranges::max_element (logits) - logits.begin () ==
            std::ranges::max_element (expected) - expected.begin ();
  }

  static double log_sum (std::span<const float> logits)
  {
    const double most = *std::ranges::max_element (logits);
    double sum = 0;
    for (const float logit : logits)
      sum += std::exp (logit - most);
    return most + std::log (sum);
  }
};

std::vector<TokenId>
read_tokens (const Model &model, const std::string &path)
{
  std::ifstream in (path, std::ios::binary);
  if (!in)
    throw std::runtime_error ("cannot read " + path);
  if (!model.tokenizer)
    throw std::runtime_error (model.directory.string () + " has no tokenizer");
  const std::string text ((std::istreambuf_iterator<char> (in)), {});
  auto tokens = model.tokenizer->encode (text);
  const auto most = static_cast<size_t> (std::min (model.spec.max_positions, kContext + kDecoded));
  if (tokens.size () < kDecoded + kChunk)
    throw std::runtime_error (path + " has only " + std::to_string (tokens.size ()) + " tokens");
  tokens.resize (std::min (tokens.size (), most));
  return tokens;
}

void
measure (const std::string &folder, const std::string &path)
{
  const auto model = Model::open (folder);
  const auto tokens = read_tokens (*model, path);
  const auto vocab = static_cast<size_t> (model->spec.vocab);
  std::vector<Run> runs;
  for (int type = 0; type < kKvTypes; ++type)
    runs.emplace_back (*model, static_cast<KvType> (type), static_cast<int> (tokens.size ()));

  std::vector<Figures> figures (runs.size ());
  std::vector<std::vector<double>> times (runs.size ());
  const size_t context = tokens.size () - kDecoded;
  for (size_t at = 0; at < tokens.size ();) {
    const bool decoding = at >= context;
    const size_t count = decoding ? 1 : std::min<size_t> (kChunk, context - at);
    std::span<const float> expected;
    for (size_t i = 0; i < runs.size (); ++i) {
      const auto begin = std::chrono::steady_clock::now ();
      const auto logits = runs[i].forward (std::span (tokens).subspan (at, count));
      if (decoding)
        times[i].push_back (seconds_since (begin) * 1e3);
      if (i == 0)
        expected = logits;
      for (size_t row = 0; row < count; ++row)
        figures[i].add (expected.subspan (row * vocab, vocab), logits.subspan (row * vocab, vocab));
    }
    at += count;
  }

  std::printf ("%s, %s: %zu tokens, decoding behind %zu\n", folder.c_str (),
               model->compiled->description ().c_str (), tokens.size (), context);
  std::printf ("%-5s %12s %9s %9s %10s %9s %14s\n", "", "bytes/token", "largest", "mean", "KL, nats",
               "same top", "decode, ms");
  for (size_t i = 0; i < runs.size (); ++i) {
    const Figures &f = figures[i];
    std::printf ("%-5s %12.0f %9.5f %9.6f %10.7f %8.2f%% %14.3f\n", kv_type_name (static_cast<KvType> (i)),
                 runs[i].bytes_per_token (), f.largest, f.sum / static_cast<double> (f.values),
                 f.divergence / static_cast<double> (f.positions),
                 100.0 * static_cast<double> (f.same) / static_cast<double> (f.positions), median (times[i]));
  }
}

} // namespace

int
main (int argc, char **argv)
{
  try {
    measure (argc > 1 ? argv[1] : MILLRACE_SOURCE_DIR "/models/demo", argc > 2 ? argv[2] : __FILE__);
  } catch (const std::exception &error) {
    std::fprintf (stderr, "error: %s\n", error.what ());
    return 2;
  }
  return 0;
}
