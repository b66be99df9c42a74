// The table of families.
#include "engine/model/families/families.hpp"

#include <array>

namespace millrace
{

std::span<const Family>
families ()
{
  static constexpr std::array<Family, 2> kFamilies{{{"llama", load_llama}, {"qwen3", load_qwen3}}};
  return kFamilies;
}

} // namespace millrace
