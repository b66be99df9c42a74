#include "engine/drafting/drafter.hpp"

#include "engine/drafting/draft_controller.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr int kAbsence = 8; ///< steps without a row after which a sequence is taken for ended

} // namespace

struct LookupDrafter::Slot {
  uint64_t serial = 0; ///< of its request; 0: none yet
  int absent = 0;      ///< steps since it had a row
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
    slot.absent = 0;
    if (slot.serial != sequence.request->serial) {
      if (slot.serial != 0)
        slot.lookup->end ();
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
  end_absent ();
}

/// Nobody says when a sequence ends; its slot may stay empty for long.
void
LookupDrafter::end_absent ()
{
  for (Slot &slot : slots_) {
    if (slot.lookup && slot.absent <= kAbsence && slot.absent++ == kAbsence)
      slot.lookup->end ();
  }
}

size_t
LookupDrafter::bytes () const
{
  size_t bytes = slots_.capacity () * sizeof (Slot);
  for (const Slot &slot : slots_)
    bytes += slot.lookup ? slot.lookup->bytes () : 0;
  return bytes;
}

} // namespace millrace
