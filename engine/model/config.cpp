// config.json → ArchitectureSpec, generation_config.json → defaults of generation.
//
// What no family can open is refused here, by name: checkpoints quantized in a way that is not supported would otherwise fail
// later, with an error about a tensor. The rest is the family's business.
#include "engine/model/config.hpp"

#include "engine/model/families/families.hpp"
#include "engine/model/json_fields.hpp"
#include "engine/model/quantization.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

namespace millrace
{

ArchitectureSpec
load_architecture (const std::filesystem::path &config_json)
{
  const JsonFile file (config_json);
  const JsonFields config = file.fields ();
  quantization_of (config); // refuses what is not supported
  return load_family (config);
}

GenerationConfig
load_generation_config (const std::filesystem::path &generation_config_json)
{
  GenerationConfig generation;
  std::error_code error;
  if (std::filesystem::status (generation_config_json, error).type () ==
      std::filesystem::file_type::not_found)
    return generation;

  const JsonFile file (generation_config_json);
  const JsonFields config = file.fields ();
  const auto number = [&] (const char *name, double least, double most) -> std::optional<double> {
    return config.has (name) ? std::optional (config.number (name, least, most)) : std::nullopt;
  };
  generation.eos_token_ids = config.token_ids ("eos_token_id", std::numeric_limits<int32_t>::max ());
  generation.do_sample = config.boolean_or ("do_sample", false);
  generation.temperature = number ("temperature", 0, 100);
  generation.top_p = number ("top_p", 0, 1);
  generation.min_p = number ("min_p", 0, 1);
  generation.repetition_penalty = number ("repetition_penalty", 1e-3, 1000);
  if (config.has ("top_k"))
    generation.top_k = config.integer ("top_k", 0, std::numeric_limits<int32_t>::max ());
  return generation;
}

} // namespace millrace
