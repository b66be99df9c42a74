// Who comes when with what: the traces that scheduler_sim replays. Everything follows from a seed.
//
// Texts are streams of tokens named by a number: prompts that share a stream share a prefix, and an answer's stream
// lets the next turn of a conversation repeat it.
#pragma once

#include "bench/sim_machine.hpp"

#include "engine/scheduling/priority.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace millrace::sim
{

constexpr int64_t kNever = std::numeric_limits<int64_t>::max ();

struct Arrival {
  int64_t at_us = 0;
  std::vector<TokenId> prompt;
  int answer = 0;     ///< tokens until it stops by itself
  int max_tokens = 0; ///< that it asks for
  uint64_t text = 0;  ///< of the answer
  Priority priority = Priority::kNormal;
  int agent = -1;
};

struct TraceOptions {
  std::string name = "poisson";
  int64_t requests = 2000;
  uint64_t seed = 1;
  double rate = 0;                                 ///< requests per second; 0: from load
  double load = 0.8;                               ///< of what the machine can do with a full batch
  int agents = 0;                                  ///< 0: from load
  double prompt_median = 200, answer_median = 120; ///< tokens of chats, log-normal
  int max_batch = 32;
};

class Trace
{
public:
  virtual ~Trace () = default;
  /// When the next one comes; kNever: not before something ends, or never.
  virtual int64_t next_us () = 0;
  virtual Arrival take () = 0;
  virtual void ended (int agent, int64_t now) { static_cast<void> (agent), static_cast<void> (now); }
  double rate = 0; ///< requests per second; 0 for agents, whose pace is their own
};

/// poisson, bursts, agents, long, mixed or pressure; `machine` says what load means. Throws std::invalid_argument.
std::unique_ptr<Trace> make_trace (const TraceOptions &options, const Machine &machine);

} // namespace millrace::sim
