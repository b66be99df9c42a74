// Ways of drafting that the suite compares.
#pragma once

#include "engine/drafting/drafter.hpp"
#include "engine/model/model.hpp"

#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace millrace::bench
{

struct Mode {
  std::string_view name;
  std::string_view what;
  bool needs_draft_model = false;
  bool is_peer = false; ///< how others do it: for comparison, and nothing is asked of it
};

/// "direct" first, which drafts nothing and which all others are held against.
std::span<const Mode> modes ();
/// Throws std::invalid_argument, which names those that are known.
const Mode &mode_of (std::string_view name);

/// In the order in which they work. `draft_model` may be null unless the mode needs it. `ungated`: they guess whenever they
/// can, to see what their guesses are worth.
std::vector<std::unique_ptr<Drafter>> make_drafters (const Mode &mode,
                                                     std::shared_ptr<const Model> draft_model, bool ungated);

} // namespace millrace::bench
