// One way of running a model, ready to be timed again and again: so many threads, such KV, such a depth.
#pragma once

#include "engine/model/model.hpp"

#include <functional>
#include <memory>
#include <vector>

namespace millrace::bench
{

/// What is measured.
struct TestCase {
  enum class Kind : uint8_t { kPrompt, kAnswer };
  Kind kind = Kind::kPrompt;
  int tokens = 0; ///< of the prompt, or of each stream's answer
  int depth = 0;
  int streams = 1;
  int threads = 0;
  int pass_tokens = 512;
  KvType kv_type = KvType::kF16;
  bool measure = false; ///< each operation's time: for op_times ()
};

/// Sequences with KV up to the case's depth. One thread.
class SpeedTest
{
public:
  /// Throws std::invalid_argument when the case does not fit the model, std::runtime_error when it does not fit into
  /// memory, or when logits are not finite.
  SpeedTest (const Model &model, const TestCase &test);

  /// Once, the same positions each time; seconds. `between` is called after each step of an answer, and its time is not
  /// counted.
  double run (const std::function<void ()> &between = {});
  /// One pass that is not measured: brings weights and activations back into reach after others had the machine.
  void warm_up ();

  /// Of all runs so far, when the case says so.
  std::vector<OpTime> op_times () const { return context_->op_times (); }

  int64_t tokens () const { return int64_t{test_.tokens} * test_.streams; } ///< that a run computes
  /// Of weights and KV, that a run must read: each weight once a pass, each position once a token of tg. Reads of pp are
  /// not worth counting.
  double bytes_read () const;

private:
  void make_tables ();
  void fill_depth ();
  void pass (int stream, int position, int count, bool scored);
  void step (int position);
  double weight_bytes () const;
  Slice slice (int stream, int position, int count) const;
  void check_logits () const;

  const Model &model_;
  TestCase test_;
  KvLayout layout_;
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;
  std::vector<Slice> slices_;
  std::vector<std::vector<BlockId>> tables_; ///< of group g and stream s: [g · streams + s]
  std::unique_ptr<ExecutionContext> context_;
};

} // namespace millrace::bench
