#include "engine/drafting/drafter.hpp"

#include "engine/drafting/draft_controller.hpp"

#include <algorithm>

namespace millrace
{

struct LookupDrafter::Slot {
  uint64_t serial = 0; ///< of its request; 0: none yet
  std::unique_ptr<Lookup> lookup;
};

LookupDrafter::LookupDrafter (const DrafterSettings &settings)
    : settings_ (settings)
{
  settings_.max_draft = std::clamp (settings.max_draft, 0, kMaxDraft);
}

LookupDrafter::~LookupDrafter () = default;

void
LookupDrafter::clear ()
{
  slots_.clear ();
}

void
LookupDrafter::draft (Step &step)
{
  DraftController *controller = step.drafting;
  for (Row &row : step.rows) {
    const int most = std::min (row.draft_limit, settings_.max_draft);
    if (row.ended () || !row.scored || most <= 0)
      continue;
    const int64_t began = step.clock ();
    const Sequence &sequence = *row.sequence;
    const auto index = static_cast<size_t> (sequence.slot);
    if (index >= slots_.size ())
      slots_.resize (index + 1);
    Slot &slot = slots_[index];
    if (!slot.lookup)
      slot.lookup = new_lookup ();
    if (slot.serial != sequence.request->serial) {
      slot.serial = sequence.request->serial;
      slot.lookup->begin (sequence);
    }
    slot.lookup->update (sequence);
    if (!controller) {
      if (row.draft.count == 0)
        slot.lookup->propose (sequence, row.draft, most);
      continue;
    }
    if (controller->may_try (row, settings_.gate)) {
      Draft draft;
      slot.lookup->propose (sequence, draft, most);
      const bool joins = row.draft.count > 0;
      controller->offer (row, draft, settings_.gate);
      if (joins && row.draft.count < most) {
        draft = row.draft;
        slot.lookup->propose (sequence, draft, most);
        controller->extend (row, draft);
      }
    }
    sequence.request->statistics.drafting.drafting_us += step.clock () - began;
  }
}

} // namespace millrace
