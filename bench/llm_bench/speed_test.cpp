#include "bench/llm_bench/speed_test.hpp"

#include "bench/measure.hpp"
#include "bench/sim_random.hpp"
#include "engine/tensor/available_memory.hpp"

#include <cmath>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

int
blocks_for (const KvGroup &group, int positions)
{
  if (group.block_bytes == 0)
    return 0;
  return group.kind == KvGroup::Kind::kRecurrent ? 1 : (positions + kBlockTokens - 1) / kBlockTokens;
}

} // namespace

SpeedTest::SpeedTest (const Model &model, const TestCase &test)
    : model_ (model)
    , test_ (test)
    , layout_ (model.compiled->kv_layout (test.kv_type))
{
  const int64_t positions = int64_t{test.depth} + test.tokens;
  if (positions > model.spec.max_positions)
    throw std::invalid_argument ("depth " + std::to_string (test.depth) + " and " +
                                 std::to_string (test.tokens) + " tokens are more than the model's " +
                                 std::to_string (model.spec.max_positions) + " positions");
  const auto vocab = static_cast<size_t> (model.spec.vocab);
  sim::Random random (1);
  tokens_.resize (static_cast<size_t> (std::max (test.tokens, kBlockTokens)));
  for (TokenId &token : tokens_)
    token = random.below (model.spec.vocab);
  logits_.resize (vocab * static_cast<size_t> (test.streams));
  slices_.resize (static_cast<size_t> (test.streams));
  make_tables ();
  fill_depth ();
  warm_up ();
  check_logits ();
}

void
SpeedTest::make_tables ()
{
  const int positions = std::max (test_.depth + test_.tokens, kBlockTokens);
  ContextOptions options;
  options.kv_type = test_.kv_type;
  options.max_tokens =
      std::max (test_.streams, std::min (test_.pass_tokens, std::max (test_.tokens, kBlockTokens)));
  double bytes = 0;
  for (size_t group = 0; group < layout_.size (); group++) {
    const int blocks = blocks_for (layout_[group], positions);
    BlockId next = 0;
    for (int stream = 0; stream < test_.streams; stream++) {
      auto &table = tables_.emplace_back (static_cast<size_t> (blocks));
      for (BlockId &block : table)
        block = next++;
    }
    options.kv_blocks[group] = std::max (next, 1);
    bytes += static_cast<double> (layout_[group].block_bytes) * next;
  }
  if (bytes > 0.9 * static_cast<double> (available_memory ()))
    throw std::runtime_error ("KV of " + std::to_string (test_.streams) + " × " + std::to_string (positions) +
                              " positions takes " + std::to_string (bytes / 1e9) +
                              " GB, more than memory has left");
  options.measure = test_.measure;
  context_ = model_.compiled->create_context (options);
}

/// Real KV of the first block, copied to all others: zeroed pages would all be one page in the cache.
void
SpeedTest::fill_depth ()
{
  for (int position = 0; position < kBlockTokens; position += test_.pass_tokens)
    pass (0, position, std::min (test_.pass_tokens, kBlockTokens - position), false);
  for (size_t group = 0; group < layout_.size (); group++)
    for (int stream = 0; stream < test_.streams; stream++)
      for (const BlockId block : tables_[group * slices_.size () + static_cast<size_t> (stream)])
        if (block != 0)
          context_->copy_block (static_cast<int> (group), 0, block);
}

Slice
SpeedTest::slice (int stream, int position, int count) const
{
  Slice slice;
  const int first = std::max (0, position - test_.depth);
  slice.tokens = std::span (tokens_).subspan (static_cast<size_t> (first), static_cast<size_t> (count));
  slice.position = position;
  for (size_t group = 0; group < layout_.size (); group++)
    slice.blocks[group] = tables_[group * slices_.size () + static_cast<size_t> (stream)];
  return slice;
}

void
SpeedTest::pass (int stream, int position, int count, bool scored)
{
  Slice part = slice (stream, position, count);
  if (scored) {
    part.scored = 1;
    part.logits = logits_.data ();
  }
  context_->forward ({&part, 1});
}

void
SpeedTest::step (int position)
{
  const auto vocab = static_cast<size_t> (model_.spec.vocab);
  for (size_t stream = 0; stream < slices_.size (); stream++) {
    slices_[stream] = slice (static_cast<int> (stream), position, 1);
    slices_[stream].scored = 1;
    slices_[stream].logits = logits_.data () + stream * vocab;
  }
  context_->forward (slices_);
}

double
SpeedTest::run (const std::function<void ()> &between)
{
  double seconds = 0;
  auto begin = std::chrono::steady_clock::now ();
  if (test_.kind == TestCase::Kind::kAnswer) {
    for (int i = 0; i < test_.tokens; i++) {
      step (test_.depth + i);
      if (between) {
        seconds += seconds_since (begin);
        between ();
        begin = std::chrono::steady_clock::now ();
      }
    }
  } else {
    for (int done = 0; done < test_.tokens;) {
      const int count = std::min (test_.pass_tokens, test_.tokens - done);
      pass (0, test_.depth + done, count, done + count == test_.tokens);
      done += count;
    }
  }
  return seconds + seconds_since (begin);
}

void
SpeedTest::warm_up ()
{
  if (test_.kind == TestCase::Kind::kAnswer)
    step (test_.depth);
  else
    pass (0, test_.depth, std::min (test_.pass_tokens, test_.tokens), true);
}

/// The embedding is not read as a whole, unless it is the head too.
double
SpeedTest::weight_bytes () const
{
  const ArchitectureSpec &spec = model_.spec;
  const auto bytes = static_cast<double> (model_.compiled->weight_bytes ());
  if (spec.tied_head)
    return bytes;
  const double embedding = double (spec.vocab) * spec.hidden;
  double elements = 2 * embedding;
  for (const LayerSpec &layer : spec.layers) {
    if (const auto *attention = std::get_if<AttentionSpec> (&layer.mixer))
      elements += 2.0 * spec.hidden * attention->head_dim * (attention->heads + attention->kv_heads);
    else if (const auto *delta = std::get_if<GatedDeltaSpec> (&layer.mixer))
      elements += double (spec.hidden) *
                  (2.0 * delta->key_heads * delta->key_dim + 3.0 * delta->value_heads * delta->value_dim);
    else if (const auto *mamba = std::get_if<Mamba2Spec> (&layer.mixer))
      elements +=
          double (spec.hidden) * (3.0 * mamba->heads * mamba->head_dim + 2.0 * mamba->groups * mamba->state);
    if (const auto *mlp = std::get_if<MlpSpec> (&layer.channel))
      elements += double (spec.hidden) * mlp->intermediate * (mlp->tensors.gate.empty () ? 2 : 3);
    else if (const auto *moe = std::get_if<MoeSpec> (&layer.channel))
      elements += 3.0 * spec.hidden * (double (moe->experts) * moe->intermediate + moe->shared.intermediate);
  }
  return bytes * (1 - embedding / elements);
}

double
SpeedTest::bytes_read () const
{
  if (test_.kind == TestCase::Kind::kPrompt) {
    const int passes = (test_.tokens + test_.pass_tokens - 1) / test_.pass_tokens;
    return weight_bytes () * passes;
  }
  double kv = 0;
  for (const KvGroup &group : layout_) {
    for (int i = 0; i < test_.tokens; i++) {
      const int seen = test_.depth + i + 1;
      const auto bytes = static_cast<double> (group.block_bytes);
      if (group.kind == KvGroup::Kind::kRecurrent)
        kv += bytes;
      else
        kv += bytes / kBlockTokens * (group.window > 0 ? std::min (seen, group.window) : seen);
    }
  }
  return weight_bytes () * test_.tokens + kv * test_.streams;
}

void
SpeedTest::check_logits () const
{
  for (const float logit : std::span (logits_).first (static_cast<size_t> (model_.spec.vocab)))
    if (!std::isfinite (logit))
      throw std::runtime_error ("the model's logits are not finite: its figures would mean nothing");
}

} // namespace millrace::bench
