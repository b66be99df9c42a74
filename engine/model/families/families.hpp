// The model families that can be opened, and what they are made from.
//
// Private to engine/model. A family is one file with one function, config.json → ArchitectureSpec, and one
// line in the table in families.cpp. What families have in common is in decoder_fields.hpp.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/json_fields.hpp"

#include <span>
#include <string>
#include <string_view>

namespace millrace
{

struct Family {
  std::string_view model_type; ///< as in config.json
  ArchitectureSpec (*load) (const JsonFields &config);
};

std::span<const Family> families ();

/// By the family that model_type names; LoadError when there is none of that name.
ArchitectureSpec load_family (const JsonFields &config);
std::string supported_families (); ///< "llama, qwen3"

ArchitectureSpec load_llama (const JsonFields &config);
ArchitectureSpec load_qwen3 (const JsonFields &config);

} // namespace millrace
