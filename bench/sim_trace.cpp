#include "bench/sim_trace.hpp"

#include <algorithm>
#include <queue>
#include <stdexcept>

namespace millrace::sim
{

namespace
{

constexpr int kSystemPrompts = 8;
constexpr int kMaxAnswer = 1024;
constexpr int kLongPrompt = 32'768;
constexpr int kBurst = 40;
constexpr int kTurns = 20;
constexpr int kAgentSystem = 1000; ///< tokens that all agents begin with: instructions and tools
constexpr int kLongestTalk = kLongPrompt;
constexpr double kThinkUs = 10e6;

void
append (std::vector<TokenId> &prompt, uint64_t text, int count)
{
  for (int i = 0; i < count; i++)
    prompt.push_back (token_of (text, i, kVocab));
}

/// Chats: one of a few system prompts, the first ones more often, then a text of their own.
struct Chat {
  int system = 0, own = 0, answer = 0;
  int system_tokens () const { return 64 + 24 * system; }

  static Chat draw (Random &random, const TraceOptions &options, int longest)
  {
    Chat chat;
    const double u = random.uniform ();
    chat.system = static_cast<int> (u * u * kSystemPrompts);
    chat.own = random.length (options.prompt_median, 0.9, longest);
    chat.answer = random.length (options.answer_median, 0.8, kMaxAnswer);
    return chat;
  }
};

/// Requests per second that a machine with a full batch could do, system prompts being cached.
double
chat_capacity (const TraceOptions &options, const Machine &machine, int longest)
{
  constexpr int kSamples = 4096;
  Random random (7);
  double length = 0;
  std::vector<Chat> chats;
  for (int i = 0; i < kSamples; i++) {
    chats.push_back (Chat::draw (random, options, longest));
    length += chats.back ().system_tokens () + chats.back ().own + chats.back ().answer;
  }
  const double batch = std::clamp (machine.kv_tokens / (length / kSamples), 1.0, 1.0 * options.max_batch);
  double ms = 0;
  for (const Chat &chat : chats)
    ms += machine.share_ms (chat.system_tokens (), chat.own, chat.answer, batch);
  return 1000 * kSamples / ms;
}

class Chats : public Trace
{
public:
  Chats (const TraceOptions &options, const Machine &machine)
      : options_ (options)
      , random_ (options.seed)
      , longest_ (options.name == "pressure" ? 2048 : 8192)
      , next_us_ (now_us)
  {
    rate = options.rate > 0 ? options.rate : options.load * chat_capacity (options, machine, longest_);
    advance ();
  }

  int64_t next_us () override { return taken_ < options_.requests ? next_us_ : kNever; }

  Arrival take () override
  {
    const Chat chat = Chat::draw (random_, options_, longest_);
    Arrival arrival;
    arrival.at_us = next_us_;
    arrival.text = mix (options_.seed * 0x10001 + static_cast<uint64_t> (taken_)) << 1;
    arrival.answer = chat.answer;
    arrival.max_tokens = kMaxAnswer;
    const bool is_long = options_.name == "long" && taken_ == options_.requests / 5;
    const int own = is_long ? kLongPrompt : chat.own;
    arrival.prompt.reserve (static_cast<size_t> (chat.system_tokens () + own));
    append (arrival.prompt, mix (static_cast<uint64_t> (chat.system)), chat.system_tokens ());
    append (arrival.prompt, ~arrival.text, own);
    if (options_.name == "mixed") {
      const double u = random_.uniform ();
      arrival.priority = u < 0.3 ? Priority::kLow : u < 0.8 ? Priority::kNormal : Priority::kHigh;
    }
    taken_++;
    advance ();
    return arrival;
  }

private:
  /// Bursts: half of the requests come kBurst at a time.
  void advance ()
  {
    if (burst_ > 0) {
      burst_--;
      return;
    }
    next_us_ += static_cast<int64_t> (random_.exponential (1e6 / rate) * (options_.name == "bursts" ? 2 : 1));
    if (options_.name == "bursts" && random_.below (kBurst) == 0)
      burst_ = kBurst;
  }

  TraceOptions options_;
  Random random_;
  int longest_;
  int64_t next_us_;
  int64_t taken_ = 0;
  int burst_ = 0;
};

/// Agents in a closed loop: each turn's prompt is all that was said before and something new.
class Agents : public Trace
{
public:
  Agents (const TraceOptions &options, const Machine &machine)
      : options_ (options)
      , random_ (options.seed)
  {
    // A turn in the middle of a conversation.
    const double turn_us = 1000 * machine.share_ms (3000, 130, 110, options.max_batch);
    const int agents =
        options.agents > 0 ? options.agents : static_cast<int> (options.load * kThinkUs / turn_us);
    talks_.resize (static_cast<size_t> (std::max (agents, 2)));
    for (size_t i = 0; i < talks_.size (); i++)
      due_.push (
          {now_us + static_cast<int64_t> (random_.uniform () * kThinkUs * kTurns), static_cast<int> (i)});
  }

  int64_t next_us () override
  {
    return taken_ < options_.requests && !due_.empty () ? due_.top ().at_us : kNever;
  }

  Arrival take () override
  {
    const Due due = due_.top ();
    due_.pop ();
    Talk &talk = talks_[static_cast<size_t> (due.agent)];
    if (talk.turns == kTurns || talk.tokens.size () > kLongestTalk)
      talk = {};
    if (talk.turns++ == 0)
      append (talk.tokens, mix (~options_.seed), kAgentSystem);
    Arrival arrival;
    arrival.at_us = due.at_us;
    arrival.agent = due.agent;
    arrival.text = mix (options_.seed * 0x10001 + static_cast<uint64_t> (taken_++)) << 1;
    append (talk.tokens, ~arrival.text, random_.length (100, 0.8, 2048));
    arrival.prompt = talk.tokens;
    arrival.answer = random_.length (80, 0.8, kMaxAnswer);
    arrival.max_tokens = kMaxAnswer;
    append (talk.tokens, arrival.text, arrival.answer);
    return arrival;
  }

  void ended (int agent, int64_t now) override
  {
    due_.push ({now + static_cast<int64_t> (random_.exponential (kThinkUs)), agent});
  }

private:
  struct Talk {
    std::vector<TokenId> tokens;
    int turns = 0;
  };
  struct Due {
    int64_t at_us;
    int agent;
    bool operator<(const Due &other) const
    {
      return at_us != other.at_us ? at_us > other.at_us : agent > other.agent;
    }
  };

  TraceOptions options_;
  Random random_;
  std::vector<Talk> talks_;
  std::priority_queue<Due> due_;
  int64_t taken_ = 0;
};

} // namespace

std::unique_ptr<Trace>
make_trace (const TraceOptions &options, const Machine &machine)
{
  if (options.name == "agents")
    return std::make_unique<Agents> (options, machine);
  for (const char *name : {"poisson", "bursts", "long", "mixed", "pressure"}) {
    if (options.name == name)
      return std::make_unique<Chats> (options, machine);
  }
  throw std::invalid_argument ("no trace " + options.name +
                               ": poisson, bursts, agents, long, mixed or pressure");
}

} // namespace millrace::sim
