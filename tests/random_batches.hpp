// Sequences alone, and together in random batches, chunks and block tables: what exactness is tested with.
#pragma once

#include "tests/model_runner.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

namespace millrace::testing
{

constexpr int kMaxTokens = 48; ///< in a pass

struct Alone {
  std::vector<TokenId> tokens;
  Outputs outputs;
};

inline std::vector<Alone>
run_alone (const RunnableModel &model, const std::vector<int> &lengths, std::mt19937 &random,
           KvType kv_type = KvType::kF32)
{
  std::uniform_int_distribution<TokenId> token (0, model.spec.vocab - 1);
  std::vector<Alone> sequences;
  for (const int length : lengths) {
    Alone alone;
    for (int i = 0; i < length; ++i)
      alone.tokens.push_back (token (random));
    SequenceRunner runner (model, length, length, kv_type);
    runner.run (alone.tokens, length);
    alone.outputs = runner.outputs ();
    sequences.push_back (std::move (alone));
  }
  return sequences;
}

// The sequences together: in each pass a random few of them go on by a random number of tokens.
class RandomBatches
{
public:
  RandomBatches (const RunnableModel &model, const std::vector<Alone> &sequences, std::mt19937 &random,
                 KvType kv_type = KvType::kF32)
      : model_ (model)
      , sequences_ (sequences)
      , random_ (random)
      , layout_ (model.compiled->kv_layout (kv_type))
      , done_ (sequences.size ())
  {
    int blocks = 3; // some stay free
    for (const Alone &sequence : sequences)
      blocks += blocks_for (static_cast<int64_t> (sequence.tokens.size ()));
    context_ = model.compiled->create_context (context_options (blocks, kMaxTokens, kv_type));
    tables_.resize (sequences.size ());
    for (size_t group = 0; group < layout_.size (); ++group) {
      std::vector<BlockId> ids (static_cast<size_t> (blocks));
      std::iota (ids.begin (), ids.end (), 0);
      std::shuffle (ids.begin (), ids.end (), random);
      for (size_t i = 0; i < sequences.size (); ++i) {
        const int count = blocks_for (static_cast<int64_t> (sequences[i].tokens.size ()));
        tables_[i].emplace_back (ids.end () - count, ids.end ());
        ids.resize (ids.size () - static_cast<size_t> (count));
      }
    }
  }

  void run ()
  {
    while (pass ())
      check ();
  }

private:
  struct Part {
    size_t sequence;
    int position, count, scored;
    bool hidden;
    std::vector<float> logits_out, hidden_out;
  };

  int pick (int least, int most) { return std::uniform_int_distribution<int> (least, most) (random_); }

  // False when all sequences are done.
  bool pass ()
  {
    parts_.clear ();
    std::vector<size_t> order;
    for (size_t i = 0; i < sequences_.size (); ++i) {
      if (done_[i] < static_cast<int> (sequences_[i].tokens.size ()))
        order.push_back (i);
    }
    if (order.empty ())
      return false;
    std::shuffle (order.begin (), order.end (), random_);
    order.resize (static_cast<size_t> (pick (1, static_cast<int> (order.size ()))));

    int room = kMaxTokens;
    for (const size_t i : order) {
      const int left = static_cast<int> (sequences_[i].tokens.size ()) - done_[i];
      const int most = std::min ({left, room, pick (0, 1) ? 3 : kMaxTokens});
      if (most == 0)
        continue;
      const int count = pick (1, most);
      parts_.push_back ({i, done_[i], count, pick (0, count), pick (0, 3) == 0, {}, {}});
      room -= count;
      done_[i] += count;
    }
    forward ();
    return true;
  }

  void forward ()
  {
    std::vector<Slice> slices;
    for (Part &part : parts_) {
      part.logits_out.assign (static_cast<size_t> (part.scored) * static_cast<size_t> (model_.spec.vocab), 0);
      if (part.hidden)
        part.hidden_out.assign (static_cast<size_t> (part.count) * static_cast<size_t> (model_.spec.hidden),
                                0);
      Slice slice;
      slice.tokens = std::span (sequences_[part.sequence].tokens)
                         .subspan (static_cast<size_t> (part.position), static_cast<size_t> (part.count));
      slice.position = part.position;
      slice.max_positions = static_cast<int> (sequences_[part.sequence].tokens.size ());
      for (size_t group = 0; group < layout_.size (); ++group) {
        std::vector<BlockId> &table = tables_[part.sequence][group];
        std::fill_n (table.begin (), first_seen_block (layout_[group], part.position), kNoBlock);
        slice.blocks[group] = table;
      }
      slice.scored = part.scored;
      slice.logits = part.scored > 0 ? part.logits_out.data () : nullptr;
      slice.hidden = part.hidden ? part.hidden_out.data () : nullptr;
      slices.push_back (slice);
    }
    context_->forward (slices);
  }

  void check () const
  {
    for (const Part &part : parts_) {
      const Outputs &alone = sequences_[part.sequence].outputs;
      const auto vocab = static_cast<size_t> (model_.spec.vocab),
                 hidden = static_cast<size_t> (model_.spec.hidden);
      const auto first = static_cast<size_t> (part.position + part.count - part.scored);
      EXPECT_TRUE (same_bits (part.logits_out,
                              std::span (alone.logits).subspan (first * vocab, part.logits_out.size ())))
          << "logits of sequence " << part.sequence << ", " << part.count << " tokens at " << part.position
          << ", " << part.scored << " scored";
      if (part.hidden) {
        EXPECT_TRUE (same_bits (part.hidden_out, std::span (alone.hidden)
                                                     .subspan (static_cast<size_t> (part.position) * hidden,
                                                               part.hidden_out.size ())))
            << "hidden states of sequence " << part.sequence << ", " << part.count << " tokens at "
            << part.position;
      }
    }
  }

  const RunnableModel &model_;
  const std::vector<Alone> &sequences_;
  std::mt19937 &random_;
  KvLayout layout_;
  std::vector<int> done_;
  std::unique_ptr<ExecutionContext> context_;
  std::vector<std::vector<std::vector<BlockId>>> tables_; ///< of each sequence, of each group
  std::vector<Part> parts_;
};

} // namespace millrace::testing
