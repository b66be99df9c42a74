// What speculation did for a request, or for all of them.
#pragma once

#include "engine/drafting/draft.hpp"

#include <array>
#include <cstdint>

namespace millrace
{

struct DraftStatistics {
  int64_t attempts = 0;                             ///< steps in which drafts were verified
  int64_t drafted = 0;                              ///< tokens that were verified
  int64_t accepted = 0;                             ///< of those, tokens of the output
  int64_t full_accepts = 0;                         ///< attempts whose drafts were all accepted
  std::array<int64_t, kMaxDraft> accepted_at{};     ///< by depth: attempts that accepted more than this many
  std::array<int64_t, kDraftSources> accepted_by{}; ///< by DraftSource
  int64_t pauses = 0;                               ///< times that guesses stopped being worth verifying
  int64_t drafting_us = 0;                          ///< making guesses
  int64_t verifying_us = 0; ///< what verifying them added to steps, as the controller's cost model has it
  int64_t saved_us =
      0; ///< time of the steps that accepted drafts made unnecessary, less the two above; may be negative

  int64_t rejected () const { return drafted - accepted; }
  /// One verified draft, of which the first `right` tokens were accepted.
  void count (const Draft &draft, int right)
  {
    attempts++;
    drafted += draft.count;
    accepted += right;
    full_accepts += right == draft.count;
    for (int i = 0; i < right; i++) {
      accepted_at[static_cast<size_t> (i)]++;
      accepted_by[static_cast<size_t> (draft.source[static_cast<size_t> (i)])]++;
    }
  }
  void add (const DraftStatistics &other);
};

} // namespace millrace
