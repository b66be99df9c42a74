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

std::string
supported_families ()
{
  std::string names;
  for (const Family &family : families ())
    names += (names.empty () ? "" : ", ") + std::string (family.model_type);
  return names;
}

ArchitectureSpec
load_family (const JsonFields &config)
{
  const std::string model_type = config.text ("model_type");
  for (const Family &family : families ())
    if (family.model_type == model_type)
      return family.load (config);
  config.fail ("model_type", "\"" + model_type.substr (0, 80) + "\" is not supported; supported are " +
                                 supported_families ());
}

} // namespace millrace
