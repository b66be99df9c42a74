// Drafts from what followed the longest repeated suffix: of the request's own tokens, of the output it said it expects
// (Request::prediction), and, if asked for, of what other requests said. The source that expects the most right tokens is
// taken, the request's own among equals.
//
// Each is an index of its own, so no match runs from one into another. A prediction is trusted more than a repetition of
// the same length; before anything was said and without a match, its beginning is guessed.
// Source: SuffixDecoding, arXiv 2411.04975.
//
// The decode thread only. Memory: engine/drafting/token_index.hpp, for prompt, output and prediction.
#pragma once

#include "engine/drafting/lookup_policy.hpp"
#include "engine/drafting/shared_store.hpp"

namespace millrace
{

class SuffixDrafter : public LookupDrafter
{
public:
  explicit SuffixDrafter (const LookupSettings &settings);
  ~SuffixDrafter () override;

  void clear () override; ///< and the store
  size_t bytes () const override;
  const SharedStore *store () const { return store_.get (); } ///< null: none

protected:
  std::unique_ptr<Lookup> new_lookup () override;

private:
  class SuffixLookup;
  LookupSettings settings_;
  std::unique_ptr<SharedStore> store_;
};

} // namespace millrace
