// What ModelDrafter keeps of a sequence, and of a row in the step under way. For model_drafter*.cpp only.
#pragma once

#include "engine/drafting/model_drafter.hpp"

#include <array>
#include <vector>

namespace millrace
{

/// What is kept of the sequence in one of the scheduler's slots.
struct ModelDrafter::Slot {
  static constexpr double kWeight = 8; ///< samples that the chances it begins with count as
  static constexpr int kFirstRest = 8; ///< steps

  uint64_t serial = 0; ///< of its request; 0: none yet
  SequenceKv kv;
  int max_positions = 0; ///< Slice::max_positions
  std::vector<TokenId>
      written;             ///< what its KV has been computed of; beyond kv.tokens they may have been guesses
  size_t checked = 0;      ///< tokens of the sequence that the model knows
  bool foreign = false;    ///< it has tokens that the model does not know
  SamplingParams sampling; ///< the request's, without log-probabilities
  std::array<ChanceSpread, 2> chance; ///< of its guesses, at the first place and later
  int64_t used = 0;                   ///< step of the drafter

  int rest = 0; ///< steps of the last rest; 0: its drafts are worth it
  int rest_left = 0;
  double rested_ms = 0;
  bool probing = false; ///< a probe is under way, catching up perhaps
  bool probed = false;  ///< since the last rest
  int weighed = 0;      ///< steps in which it was asked what guesses would bring
  double promised = 0;  ///< tokens, in all of them
  double missed = 0;    ///< tokens that guesses would have brought since they last had all of its KV
  int streak = 0;       ///< steps that drafts were worth it since the last rest

  void take_rest (int steps)
  {
    rest_left = steps;
    probing = probed = false;
    streak = 0;
  }
  /// What others do by now has a say again.
  void come_back (const std::array<ChanceSpread, 2> &usual)
  {
    for (size_t place = 0; place < chance.size (); ++place) {
      ChanceSpread others = usual[place];
      others.scale (kWeight / 2);
      chance[place].scale (kWeight / 2);
      chance[place].merge (others);
    }
  }
};

/// A row in the step under way.
struct ModelDrafter::Work {
  static constexpr int kSmallBacklog =
      16; ///< tokens whose catching up is part of what the step's guesses cost

  Row *row = nullptr; ///< null: not in this step
  Slot *slot = nullptr;
  int most = 0;          ///< guesses that there may be, with those of others that it continues
  Draft draft;           ///< own guesses, after those of others if it continues them
  int joined = 0;        ///< guesses of others
  double chance = 1;     ///< that all of `draft` is right
  bool active = false;   ///< wants another guess
  bool probe = false;    ///< made whatever they are worth
  bool trial = false;    ///< a probe to learn how good the model is, which nobody is charged for
  bool measures = false; ///< computes a little of what is missing, and no guesses

  int length () const { return static_cast<int> (row->sequence->tokens.size ()); }
  int backlog () const { return length () - 1 - slot->kv.tokens; }
  int made () const { return draft.count - joined; }
};

} // namespace millrace
