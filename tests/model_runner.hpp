// Runs compiled models directly, without requests or schedulers, for tests of the numbers.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/instruction_sets.hpp"
#include "engine/kv/block_pool.hpp"
#include "engine/model/config.hpp"
#include "engine/model/decoder.hpp"
#include "engine/weights/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace millrace::testing
{

struct RunnableModel {
  ArchitectureSpec spec;
  std::shared_ptr<const CompiledModel> compiled;
};

/// `windows`: of the layers, over and over again; none: as the folder says.
inline RunnableModel
load_runnable (const std::filesystem::path &folder, WeightFormat weights = WeightFormat::kAuto,
               const CpuOptions &cpu = {}, const std::vector<int> &windows = {})
{
  RunnableModel model;
  model.spec = load_architecture (folder / "config.json");
  for (size_t i = 0; !windows.empty () && i < model.spec.layers.size (); ++i)
    std::get<AttentionSpec> (model.spec.layers[i].mixer).window = windows[i % windows.size ()];
  const WeightFiles files = WeightFiles::open (folder);
  model.compiled = create_cpu_backend (cpu)->compile (build_program (model.spec, files), files, {weights});
  return model;
}

/// The instruction sets this host can run.
using cpu::host_isas;

inline const char *
isa_name (CpuOptions::Isa isa)
{
  for (const cpu::InstructionSet &set : cpu::instruction_sets ()) {
    if (set.isa == isa)
      return set.name;
  }
  return "auto";
}

constexpr std::array<KvType, kKvTypes> kAllKvTypes = {KvType::kF32, KvType::kF16, KvType::kBF16, KvType::kQ8,
                                                      KvType::kK8V4};

/// As many blocks for each group.
inline ContextOptions
context_options (int kv_blocks, int max_tokens, KvType kv_type = KvType::kF32)
{
  ContextOptions options;
  options.kv_type = kv_type;
  options.kv_blocks.fill (kv_blocks);
  options.max_tokens = max_tokens;
  return options;
}

/// The first block that a token at `position` or a later one looks at.
inline int
first_seen_block (const KvGroup &group, int position)
{
  if (group.kind != KvGroup::Kind::kWindow)
    return 0;
  return std::max (0, position - group.window + 1) / kBlockTokens;
}

/// What a sequence gave so far, position by position.
struct Outputs {
  std::vector<float> logits; ///< [positions × vocab]
  std::vector<float> hidden; ///< [positions × hidden]
};

/// One sequence, of at most `positions`, in a context of its own, with logits and hidden states of every position. Blocks that a window
/// has left behind are filled with NaN and taken out of the table.
class SequenceRunner
{
public:
  SequenceRunner (const RunnableModel &model, int positions, int max_tokens, KvType kv_type = KvType::kF32)
      : model_ (model)
      , positions_ (positions)
      , layout_ (model.compiled->kv_layout (kv_type))
      , context_ (
            model.compiled->create_context (context_options (blocks_for (positions), max_tokens, kv_type)))
      , blocks_ (layout_.size (), std::vector<BlockId> (static_cast<size_t> (blocks_for (positions))))
  {
    for (std::vector<BlockId> &table : blocks_)
      std::iota (table.begin (), table.end (), 0);
  }

  /// Runs `tokens` in passes of at most `chunk`; appends to outputs ().
  void run (std::span<const TokenId> tokens, int chunk)
  {
    const auto vocab = static_cast<size_t> (model_.spec.vocab),
               hidden = static_cast<size_t> (model_.spec.hidden);
    while (!tokens.empty ()) {
      const size_t count = std::min (tokens.size (), static_cast<size_t> (chunk));
      const size_t at = static_cast<size_t> (position_);
      outputs_.logits.resize ((at + count) * vocab);
      outputs_.hidden.resize ((at + count) * hidden);
      Slice slice;
      slice.tokens = tokens.first (count);
      slice.position = position_;
      slice.max_positions = positions_;
      for (size_t group = 0; group < layout_.size (); ++group)
        slice.blocks[group] = blocks_[group];
      slice.scored = static_cast<int> (count);
      slice.logits = outputs_.logits.data () + at * vocab;
      slice.hidden = outputs_.hidden.data () + at * hidden;
      context_->forward ({&slice, 1});
      position_ += static_cast<int> (count);
      tokens = tokens.subspan (count);
      leave_blocks ();
    }
  }

  const Outputs &outputs () const { return outputs_; }
  std::span<const float> last_logits () const
  {
    return std::span (outputs_.logits).last (static_cast<size_t> (model_.spec.vocab));
  }
  ExecutionContext &context () { return *context_; }
  /// Of each group.
  const std::vector<std::vector<BlockId>> &blocks () const { return blocks_; }

private:
  void leave_blocks ()
  {
    for (size_t i = 0; i < layout_.size (); ++i) {
      const int seen =
          std::min (first_seen_block (layout_[i], position_), static_cast<int> (blocks_[i].size ()));
      for (BlockId &block : std::span (blocks_[i]).first (static_cast<size_t> (seen))) {
        if (block == kNoBlock)
          continue;
        const std::vector<std::byte> poison (layout_[i].block_bytes, std::byte{0xff});
        context_->write_block (static_cast<int> (i), block, poison);
        block = kNoBlock;
      }
    }
  }

  const RunnableModel &model_;
  int positions_;
  KvLayout layout_;
  std::unique_ptr<ExecutionContext> context_;
  std::vector<std::vector<BlockId>> blocks_;
  Outputs outputs_;
  int position_ = 0;
};

inline TokenId
argmax (std::span<const float> logits)
{
  size_t best = 0;
  for (size_t i = 1; i < logits.size (); ++i) {
    if (logits[i] > logits[best])
      best = i;
  }
  return static_cast<TokenId> (best);
}

/// A tensor's elements, copied out of its file.
template <typename T>
std::vector<T>
tensor_values (const WeightFiles &files, const std::string &name)
{
  const TensorView *tensor = files.find (name);
  if (!tensor)
    throw std::runtime_error ("no tensor " + name);
  std::vector<T> values (tensor->data.size () / sizeof (T));
  std::memcpy (values.data (), tensor->data.data (), values.size () * sizeof (T));
  return values;
}

/// Same bits: what floats compare equal is not enough (NaN, signed zeros).
inline bool
same_bits (std::span<const float> a, std::span<const float> b)
{
  return a.size () == b.size () && (a.empty () || std::memcmp (a.data (), b.data (), a.size_bytes ()) == 0);
}

inline float
largest_difference (std::span<const float> a, std::span<const float> b)
{
  if (a.size () != b.size ())
    throw std::runtime_error ("comparing " + std::to_string (a.size ()) + " with " +
                              std::to_string (b.size ()) + " values");
  float largest = 0;
  for (size_t i = 0; i < a.size (); ++i) {
    const float difference = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
    if (!(difference <= largest)) // NaN counts
      largest = difference;
  }
  return largest;
}

} // namespace millrace::testing
