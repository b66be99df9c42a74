#include "engine/drafting/lookup_policy.hpp"

#include "engine/drafting/ngram_drafter.hpp"
#include "engine/drafting/suffix_drafter.hpp"

namespace millrace
{

std::unique_ptr<LookupDrafter>
make_lookup_drafter (const LookupSettings &settings)
{
  if (settings.policy == LookupPolicy::kNgram)
    return std::make_unique<NgramDrafter> (settings);
  return std::make_unique<SuffixDrafter> (settings);
}

} // namespace millrace
