#include "bench/speculation/modes.hpp"

#include "engine/drafting/ngram_drafter.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

namespace millrace::bench
{

namespace
{

constexpr std::array<Mode, 2> kModes{{{"direct", "no drafts"}, {"ngram", "tables of short contexts"}}};

class Ngram : public Drafter
{
public:
  void draft (Step &step) override { drafter_.draft (step); }
  void clear () override { drafter_.clear (); }

private:
  NgramDrafter drafter_{{}};
};

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
make_drafters (const Mode &mode, const Model &, std::shared_ptr<const Model>)
{
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (mode.name == "ngram")
    drafters.push_back (std::make_unique<Ngram> ());
  return drafters;
}

} // namespace millrace::bench
