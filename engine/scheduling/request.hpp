// A request from its arrival to its result, and the sequence it becomes while it runs.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/error.hpp"
#include "engine/sampling/sampling_params.hpp"
#include "engine/sampling/token_counts.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace millrace
{

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kTimeout, kError };

/// Interned: "stop", "length", "cancelled", "timeout", "error"; null for kNone.
const char *finish_reason_name (FinishReason reason);

struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;
};

/// What happened to a request besides its text; written by the decode thread, read once it is finished.
struct RequestStatistics {
  int64_t queued_us = 0;      ///< submit → first step
  int64_t first_token_us = 0; ///< submit → first token
  int64_t total_us = 0;       ///< submit → end
  int generated = 0;          ///< tokens
  int drafted = 0, accepted = 0;
};

/// Passed along the pipeline; one stage touches it at a time, except for `finish_early`, which any thread
/// may set: the request then ends with that reason before the next step starts.
struct Request {
  uint64_t serial = 0; ///< unique in the process
  std::string id;      ///< the user's name for it
  SamplingParams sampling;
  std::vector<TokenId> prompt; ///< set by the tokenizer
  bool rendered = false;       ///< the text comes from a chat template, which wrote its own special tokens
  RequestError error;          ///< set by whichever stage found it
  std::atomic<FinishReason> finish_early{FinishReason::kNone};
  RequestStatistics statistics;
  void *owner = nullptr; ///< the object that wraps this one, for whoever made it

  Request ();
  Request (const Request &) = delete;
  Request &operator= (const Request &) = delete;

  /// The first reason given wins. Any thread.
  void end (FinishReason reason);
};

/// A request that has been admitted. Owned by the scheduler; stages see it through their rows.
struct Sequence {
  std::shared_ptr<Request> request;
  int slot = 0;                ///< unique among live sequences, less than the batch limit
  std::vector<TokenId> tokens; ///< prompt, then accepted tokens; never reallocated while it runs
  int prompt_tokens = 0;
  int kv_tokens = 0;             ///< positions whose KV is valid
  int max_tokens = 0;            ///< tokens.size () at which it ends
  std::vector<BlockId> blocks;   ///< covers max_tokens
  std::vector<TokenId> stop_ids; ///< sorted; end of sequence and stop_token_ids
  TokenCounts counts;            ///< filled when penalties are asked for
  int64_t submitted_us = 0;

  int generated () const { return static_cast<int> (tokens.size ()) - prompt_tokens; }
  TokenId pending () const { return tokens.back (); } ///< the last token; its KV is not computed yet
};

} // namespace millrace
