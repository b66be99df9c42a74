// A request from its arrival to its result, and the sequence it becomes while it runs.
#pragma once

#include "engine/drafting/draft_statistics.hpp"
#include "engine/error.hpp"
#include "engine/kv/kv_cache.hpp"
#include "engine/sampling/sampling_params.hpp"
#include "engine/sampling/token_counts.hpp"
#include "engine/scheduling/embedding_pool.hpp"
#include "engine/scheduling/priority.hpp"

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

/// Where a request is between its arrival and its end.
enum class RequestState : uint8_t {
  kWaiting,  ///< for a slot and memory
  kRunnable, ///< admitted, has not been in a step
  kRunning,
  kBlockedOnMemory, ///< without blocks to go on: waits with those it has, or was preempted and has none
  kFinished,        ///< with an answer: stop or length
  kCancelled,       ///< or timed out
  kFailed,
};

/// "waiting", "runnable", "running", "blocked", "finished", "cancelled", "failed".
const char *request_state_name (RequestState state);

struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;
};

/// What happened to a request besides its text; written by the decode thread, read once it is finished.
struct RequestStatistics {
  int64_t queued_us = 0;      ///< submit → admitted
  int64_t first_token_us = 0; ///< submit → first token
  int64_t total_us = 0;       ///< submit → end
  int cached_tokens = 0;      ///< of the prompt, found in the prefix cache
  int prefill_tokens = 0;     ///< computed before pending ones; again after a preemption
  int generated = 0;          ///< tokens
  DraftStatistics drafting;
  int preemptions = 0;
  int steps = 0; ///< that it took part in
};

/// Passed along the pipeline; one stage touches it at a time, except for `finish_early` and `held`, which any thread
/// may set: with the first the request ends with that reason before the next step starts, with the second it gets
/// no rows until it is cleared. Neither wakes a loop that waits because nothing can run; that is up to whoever runs
/// the loop (elements/scheduler_inbox.hpp).
struct Request {
  uint64_t serial = 0; ///< unique in the process
  std::string id;      ///< the user's name for it
  SamplingParams sampling;
  std::vector<TokenId> prompt;     ///< set by the tokenizer
  std::string prediction_text;     ///< what the output is expected to be like, for drafters
  std::vector<TokenId> prediction; ///< its tokens, set by the tokenizer
  bool rendered = false;        ///< the text comes from a chat template, which wrote its own special tokens
  bool starts_thinking = false; ///< rendered, and it ends inside <think>
  EmbeddingParams embed;
  std::vector<float> embedding; ///< the result, once finished
  Priority priority = Priority::kNormal;
  int64_t timeout_us = 0;     ///< from `submitted_us`; 0: none
  int64_t retry_after_ms = 0; ///< with the error queue_full: when to try again
  int64_t submitted_us = 0;   ///< steady_now_us () when it came; 0: when the scheduler first sees it
  RequestError error;         ///< set by whichever stage found it
  std::atomic<FinishReason> finish_early{FinishReason::kNone};
  std::atomic<bool> held{
      false}; ///< its reader is slow: it keeps its place and memory, and gets no rows. Any thread
  RequestStatistics statistics;
  void *owner = nullptr; ///< the object that wraps this one, for whoever made it

  Request ();
  Request (const Request &) = delete;
  Request &operator= (const Request &) = delete;

  /// The first reason given wins. Any thread.
  void end (FinishReason reason);
  /// Changes whenever end () has ended a request of this process: who has seen it need not look at each.
  static uint64_t endings () { return endings_.load (std::memory_order_acquire); }

private:
  static std::atomic<uint64_t> endings_;
};

/// A request in the scheduler, from its arrival there. Owned by the scheduler; stages see it through their rows.
struct Sequence {
  std::shared_ptr<Request> request;
  RequestState state = RequestState::kWaiting;
  int slot = -1; ///< unique among running sequences, less than the batch limit; -1: does not run
  std::vector<TokenId> tokens; ///< prompt, then accepted tokens; never reallocated while it runs
  int prompt_tokens = 0;
  int max_tokens = 0;                        ///< tokens.size () at which it ends
  SequenceKv kv;                             ///< of tokens [0, kv.tokens)
  std::vector<TokenId> stop_ids;             ///< sorted; end of sequence and stop_token_ids
  TokenCounts counts;                        ///< filled when penalties are asked for
  EmbeddingPool pool;                        ///< of requests for an embedding
  int64_t submitted_us = 0, deadline_us = 0; ///< of the scheduler's clock; deadline 0: none
  int64_t rank = 0;                          ///< rank_of ()
  int idle_steps = 0;                        ///< since it last made progress
  bool held = false;                         ///< Request::held, as the present plan sees it

  int generated () const { return static_cast<int> (tokens.size ()) - prompt_tokens; }
  TokenId pending () const { return tokens.back (); } ///< the last token; its KV is not computed yet
};

} // namespace millrace
