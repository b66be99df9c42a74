// What looking guesses up costs: microseconds for a request and step, and memory, by length of the history.
//
//   drafting [STEPS]
//
// For both policies and two texts, one that repeats itself as code does and one of random tokens. Each step takes in what the
// text says next, up to the first wrong guess, and makes up to 15 guesses. `prompt` is the first step, which takes in the whole
// history; `worst` is the slowest of the others, when a table grew. With `store`, a shared store of 2^20 tokens is full and looked
// up as well; `end` is then the step after a request of 4096 output tokens ended. Bound: 30 µs at 16384 tokens, 64 bytes a token.
#include "engine/drafting/suffix_drafter.hpp"
#include "engine/step.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <vector>

using namespace millrace;

namespace
{

using Tokens = std::vector<TokenId>;

double
microseconds_of (Drafter &drafter, Step &step)
{
  step.rows[0].draft.count = 0;
  const auto now = [] {
    timespec time;
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &time); // others may use the machine
    return static_cast<double> (time.tv_sec) * 1e6 + static_cast<double> (time.tv_nsec) / 1e3;
  };
  const double began = now ();
  drafter.draft (step);
  return now () - began;
}

/// Lines from a stock of a few hundred, most of them with a name or two replaced.
Tokens
code_like (std::mt19937_64 &random, size_t length)
{
  std::vector<Tokens> lines (300);
  for (Tokens &line : lines) {
    line.resize (5 + random () % 20);
    for (TokenId &token : line)
      token = static_cast<TokenId> (random () % 2'000);
    line.push_back (198);
  }
  Tokens text;
  while (text.size () < length) {
    Tokens line = lines[std::min (random () % lines.size (), random () % lines.size ())];
    for (int i = 0; i < 2 && random () % 3; ++i)
      line[random () % (line.size () - 1)] = static_cast<TokenId> (random () % 500);
    text.insert (text.end (), line.begin (), line.end ());
  }
  text.resize (length);
  return text;
}

Tokens
random_text (std::mt19937_64 &random, size_t length)
{
  Tokens text (length);
  for (TokenId &token : text)
    token = static_cast<TokenId> (random () % 150'000);
  return text;
}

Sequence
sequence_of (const Tokens &tokens, size_t room)
{
  Sequence sequence;
  sequence.request = std::make_shared<Request> ();
  sequence.slot = 0;
  sequence.tokens.reserve (room);
  sequence.tokens = tokens;
  sequence.prompt_tokens = static_cast<int> (tokens.size ());
  return sequence;
}

Step
step_of (Sequence &sequence)
{
  Step step;
  Row &row = step.rows.emplace_back ();
  row.sequence = &sequence;
  row.scored = true;
  row.draft_limit = kMaxDraft;
  return step;
}

/// Outputs of 4096 tokens until the store is full.
double
fill_store (Drafter &drafter, std::mt19937_64 &random, Tokens (*text_of) (std::mt19937_64 &, size_t),
            size_t tokens)
{
  constexpr size_t kOutput = 4096;
  double slowest = 0;
  for (size_t kept = 0; kept < tokens; kept += kOutput) {
    Sequence sequence = sequence_of (random_text (random, 16), kOutput + 16);
    Step step = step_of (sequence);
    slowest = std::max (slowest, microseconds_of (drafter, step));
    const Tokens output = text_of (random, kOutput);
    sequence.tokens.insert (sequence.tokens.end (), output.begin (), output.end ());
    drafter.draft (step);
  }
  return slowest;
}

void
measure (const char *name, const LookupSettings &settings, Tokens (*text_of) (std::mt19937_64 &, size_t),
         size_t history, int steps)
{
  std::mt19937_64 random (7);
  const auto drafter = make_lookup_drafter (settings);
  double end = 0;
  if (settings.shared_store_tokens)
    end = fill_store (*drafter, random, text_of, 2 * static_cast<size_t> (settings.shared_store_tokens));

  const auto most = static_cast<size_t> (steps) * (kMaxDraft + 1);
  const Tokens text = text_of (random, history + most);
  Sequence sequence =
      sequence_of ({text.begin (), text.begin () + static_cast<std::ptrdiff_t> (history)}, text.size ());
  Step step = step_of (sequence);
  const double prompt = microseconds_of (*drafter, step);
  std::vector<double> times;
  double guessed = 0, right = 0;
  for (int i = 0; i < steps; ++i) {
    times.push_back (microseconds_of (*drafter, step));
    const Draft &draft = step.rows[0].draft;
    int same = 0;
    while (same < draft.count && draft.tokens[static_cast<size_t> (same)] ==
                                     text[sequence.tokens.size () + static_cast<size_t> (same)])
      ++same;
    guessed += draft.count;
    right += same;
    for (int j = 0; j <= same; ++j)
      sequence.tokens.push_back (text[sequence.tokens.size ()]);
  }
  std::ranges::sort (times);
  size_t bytes = drafter->bytes ();
  if (const auto *suffix = dynamic_cast<const SuffixDrafter *> (drafter.get ()); suffix && suffix->store ())
    bytes -= suffix->store ()->bytes ();
  std::printf ("%-14s %8zu %9.2f %8.2f %8.0f %9.0f %7.0f %8.1f %8.2f %7.2f\n", name, history,
               times[times.size () / 2], times[times.size () * 99 / 100], times.back (), prompt, end,
               static_cast<double> (bytes) / static_cast<double> (sequence.tokens.size ()), guessed / steps,
               right / steps);
}

} // namespace

int
main (int argc, char **argv)
{
  const int steps = argc > 1 ? std::max (std::atoi (argv[1]), 100) : 2'000;
  std::printf ("%-14s %8s %9s %8s %8s %9s %7s %8s %8s %7s\n", "", "history", "median µs", "p99 µs",
               "worst µs", "prompt µs", "end µs", "bytes", "guesses", "right");
  struct Kind {
    const char *name;
    LookupSettings settings;
  };
  const Kind kinds[] = {{"suffix", {}},
                        {"ngram", {.policy = LookupPolicy::kNgram}},
                        {"suffix, store", {.shared_store_tokens = 1 << 20}}};
  for (const bool repetitive : {true, false}) {
    std::printf ("%s\n", repetitive ? "lines that come again" : "random tokens");
    for (const Kind &kind : kinds) {
      for (const size_t history : {size_t{1} << 10, size_t{1} << 14, size_t{1} << 16})
        measure (kind.name, kind.settings, repetitive ? code_like : random_text, history, steps);
    }
  }
}
