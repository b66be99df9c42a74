// Drafts from counts of what followed the last few tokens before, in the same request.
//
// Per sequence: tables from contexts of 4, 3 and 2 tokens to at most 4 continuations each, filled from prompt and prediction
// (Request::prediction) before the output. The longest known context speaks, with the continuation of highest confidence
//
//   support / total × (accepted + 1) / (accepted + rejected + 2),
//
// support its occurrences among those kept for the context, accepted and rejected its record as a guess; the latest among
// equals. A chain goes on until the confidence is below 0.4, and has at most one token more than each of its guesses has
// support. A guess's record counts only where those before it were right. The beginning of a prediction is guessed before
// anything was said, when no context is known.
// Source: the n-gram speculation that AX Engine documents.
//
// The decode thread only. Memory: at most 60 bytes for a token of prompt, output and prediction, with at least 16 KiB for a
// sequence.
#pragma once

#include "engine/drafting/lookup_policy.hpp"

namespace millrace
{

class NgramDrafter : public LookupDrafter
{
public:
  explicit NgramDrafter (const LookupSettings &settings);

protected:
  std::unique_ptr<Lookup> new_lookup () override;

private:
  class NgramLookup;
  int shortest_;
};

} // namespace millrace
