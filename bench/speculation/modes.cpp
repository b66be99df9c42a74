#include "bench/speculation/modes.hpp"

#include "engine/drafting/lookup_policy.hpp"
#include "engine/drafting/model_drafter.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

namespace millrace::bench
{

namespace
{

constexpr int kEmaDraft = 6; ///< as AX Engine has it

constexpr std::array<Mode, 7> kModes{
    {{"direct", "no drafts"},
     {"control", "no drafts, again: how far its ratio is from 1 is what the clock is worth", false, true},
     {"suffix", "the longest repeated suffix of the request itself"},
     {"ngram", "counts of what followed 2, 3 and 4 tokens of the request itself"},
     {"ngram-ema", "policy=ngram gate=ema max-draft=6, what AX Engine documents; nothing is asked of it",
      false, true},
     {"model", "the draft model", true},
     {"suffix+model", "suffix, then the draft model", true}}};

std::unique_ptr<Drafter>
lookup (LookupPolicy policy, DraftGate gate, int max_draft)
{
  return make_lookup_drafter ({.policy = policy, .max_draft = max_draft, .gate = gate});
}

} // namespace

std::span<const Mode>
modes ()
{
  return kModes;
}

const Mode &
mode_of (std::string_view name)
{
  const auto mode = std::ranges::find (kModes, name, &Mode::name);
  if (mode != kModes.end ())
    return *mode;
  std::string known;
  for (const Mode &each : kModes)
    known += (known.empty () ? "" : ", ") + std::string (each.name);
  throw std::invalid_argument ("unknown mode \"" + std::string (name) + "\"; known are " + known);
}

std::vector<std::unique_ptr<Drafter>>
make_drafters (const Mode &mode, std::shared_ptr<const Model> draft_model, bool ungated)
{
  const DraftGate cost = ungated ? DraftGate::kNone : DraftGate::kCost;
  const DraftGate ema = ungated ? DraftGate::kNone : DraftGate::kEma;
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (mode.name.starts_with ("suffix"))
    drafters.push_back (lookup (LookupPolicy::kSuffix, cost, kMaxDraft));
  if (mode.name == "ngram")
    drafters.push_back (lookup (LookupPolicy::kNgram, cost, kMaxDraft));
  if (mode.name == "ngram-ema")
    drafters.push_back (lookup (LookupPolicy::kNgram, ema, kEmaDraft));
  if (mode.needs_draft_model)
    drafters.push_back (
        std::make_unique<ModelDrafter> (std::move (draft_model), ModelDrafterSettings{.gate = cost}));
  return drafters;
}

} // namespace millrace::bench
