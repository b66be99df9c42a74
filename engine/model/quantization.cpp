// `quantization` of config.json.
#include "engine/model/quantization.hpp"

#include "engine/model/json_fields.hpp"

#include <algorithm>
#include <string_view>

namespace millrace
{

namespace
{

constexpr const char *kBits = "bits", *kGroup = "group_size", *kMode = "mode", *kAffine = "affine";

AffineCodes
codes_of (const JsonFields &fields)
{
  AffineCodes codes;
  codes.bits = fields.integer (kBits, 1, 64);
  if (!is_affine_bits (codes.bits))
    fields.fail (kBits, "is " + std::to_string (codes.bits) + "; matrices must have 2, 3, 4, 5, 6 or 8 bits");
  codes.group = fields.integer (kGroup, 1, 1 << 20);
  if (!is_affine_group (codes.group))
    fields.fail (kGroup, "is " + std::to_string (codes.group) + "; groups must be of 32, 64 or 128");
  const std::string mode = fields.text_or (kMode, kAffine);
  if (mode != kAffine)
    fields.fail (kMode, "\"" + mode + "\" is not supported; use a checkpoint that is quantized in mode \"" +
                            kAffine + "\"");
  return codes;
}

} // namespace

std::optional<AffineSettings>
load_quantization (const std::filesystem::path &config_json)
{
  const JsonFile file (config_json);
  const auto fields = file.fields ().object ("quantization");
  if (!fields)
    return std::nullopt;
  AffineSettings settings;
  settings.common = codes_of (*fields);
  for (const JsonFields::Field &field : fields->all ()) {
    if (field.name == kBits || field.name == kGroup || field.name == kMode)
      continue;
    if (field.object)
      settings.modules.emplace (field.name, codes_of (*field.object));
    else if (!field.flag)
      fields->fail (field.name, "must be false, true or an object of group_size and bits");
    else if (!*field.flag)
      settings.modules.emplace (field.name, std::nullopt);
  }
  return settings;
}

} // namespace millrace
