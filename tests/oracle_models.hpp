// The folders with a tiny random model of an architecture and what transformers computes for it (README.md there).
#pragma once

#include "engine/error.hpp"
#include "engine/model/config.hpp"
#include "engine/model/families/families.hpp"
#include "tests/test_paths.hpp"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <simdjson.h>
#include <string>
#include <vector>

namespace millrace::testing
{

struct OracleModel {
  std::string name;
  std::filesystem::path folder;
};

inline std::string
model_type_of (const std::filesystem::path &config_json)
{
  simdjson::dom::parser parser;
  simdjson::dom::element config;
  std::string_view model_type;
  if (parser.load (config_json.string ()).get (config) || config["model_type"].get (model_type))
    return {};
  return std::string (model_type);
}

/// Why a model cannot be opened that nothing is wrong with; empty when it can.
inline std::string
unsupported (const std::filesystem::path &config_json)
{
  const std::string model_type = model_type_of (config_json);
  if (std::ranges::none_of (families (), [&] (const Family &f) { return f.model_type == model_type; }))
    return "model_type \"" + model_type + "\" is not supported";
  try {
    load_architecture (config_json);
    return {};
  } catch (const LoadError &error) {
    const std::string message = error.what ();
    return message.find ("not supported") == std::string::npos ? std::string () : message;
  }
}

// Folders with an oracle of a model that is supported; says which are left out and why.
inline std::vector<OracleModel>
oracle_models ()
{
  std::vector<OracleModel> models;
  std::error_code none;
  for (const auto &entry : std::filesystem::directory_iterator (oracle_path ("oracles"), none)) {
    const std::string name = entry.path ().filename ().string ();
    if (!std::filesystem::exists (entry.path () / "oracle.safetensors"))
      continue;
    if (const std::string why = unsupported (entry.path () / "config.json"); why.empty ())
      models.push_back ({name, entry.path ()});
    else
      std::cout << "skipped: " << name << ": " << why << "\n";
  }
  std::ranges::sort (models, {}, &OracleModel::name);
  return models;
}

} // namespace millrace::testing
