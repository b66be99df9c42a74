// Drafts by looking up what followed the last few tokens before, in the same request.
//
// Per sequence: tables from 4-, 3- and 2-token contexts to the position after their latest occurrence, seeded
// from the prompt. The draft length adapts to how many drafts were accepted lately. One decode thread; no
// allocation once a slot's tables have been sized for its sequence.
// Source: prompt lookup decoding; n-gram speculation as in llama.cpp's lookup example.
#pragma once

#include "engine/step.hpp"

#include <memory>

namespace millrace
{

class NgramDrafter
{
public:
  struct Settings {
    int max_draft = 8; ///< tokens, 0 … kMaxDraft
    int min_match = 2; ///< shortest context that may draft, 2 … 4
  };

  explicit NgramDrafter (const Settings &settings);
  ~NgramDrafter ();

  /// Appends to the draft of each scored row that has none and may have one.
  void draft (Step &step);
  /// Forgets all sequences.
  void clear ();

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace millrace
