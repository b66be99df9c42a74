// What all drafters have in common: guesses for the scored rows of a step, offered beside those of others.
//
// Several may run in series on one step. A drafter's guesses for a row compete with those that are there already: the
// chain that is expected to have more right tokens stays, and one that goes on where the other ends extends it
// (DraftController::offer). Then it is asked once more, for what follows the chain that stayed.
//
// The decode thread only. Guesses never change the output: engine/sampling/sampler.hpp accepts what it would have drawn.
#pragma once

#include "engine/drafting/draft.hpp"
#include "engine/step.hpp"

#include <memory>
#include <vector>

namespace millrace
{

/// How a drafter decides whether, and how many of, its guesses are verified.
enum class DraftGate : uint8_t {
  kCost, ///< the controller's: expected right tokens against the measured cost of verifying them
  kEma,  ///< a moving average of the share that was right, α = 0.1; below 0.5 none for 8 steps
  kNone, ///< always all
};

class Drafter
{
public:
  virtual ~Drafter () = default;
  /// Makes guesses for rows that may have drafts, as far as row.draft_limit.
  virtual void draft (Step &step) = 0;
  /// Forgets all sequences.
  virtual void clear () = 0;
};

struct DrafterSettings {
  int max_draft = kMaxDraft; ///< tokens, 0 … kMaxDraft
  DraftGate gate = DraftGate::kCost;
};

/// A drafter that looks things up in what it keeps of each running sequence.
class LookupDrafter : public Drafter
{
public:
  explicit LookupDrafter (const DrafterSettings &settings);
  ~LookupDrafter () override;

  void draft (Step &step) final;
  void clear () override;
  /// Kept at present.
  virtual size_t bytes () const;

protected:
  /// What is kept of one sequence. Reused for the next one in the slot, so that its memory is.
  class Lookup
  {
  public:
    virtual ~Lookup () = default;
    /// A new sequence: what was known is forgotten.
    virtual void begin (const Sequence &sequence) = 0;
    /// The sequence has grown (sequence.tokens only ever grows at its end).
    virtual void update (const Sequence &sequence) = 0;
    /// Appends guesses of what follows the sequence's tokens and then `draft`, until draft.count is `most` or it has no
    /// idea. Each with an honest probability.
    virtual void propose (const Sequence &sequence, Draft &draft, int most) = 0;
    /// The sequence has ended or has had no row for some steps: what is to outlive it has to be kept elsewhere. It may go on
    /// all the same, with update (). It may be gone already.
    virtual void end () {}
    virtual size_t bytes () const = 0;
  };
  virtual std::unique_ptr<Lookup> new_lookup () = 0;

private:
  struct Slot;
  void end_absent ();

  DrafterSettings settings_;
  std::vector<Slot> slots_;
};

} // namespace millrace
