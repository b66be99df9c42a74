// config.json files for tests, as changes to a good one, and what is expected of bad ones.
#pragma once

#include "engine/error.hpp"
#include "engine/model/config.hpp"
#include "tests/test_paths.hpp"

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace millrace::testing
{

using Fields = std::map<std::string, std::string>; ///< name → JSON value; an empty value: no such field

inline const Fields kLlama = {
    {"model_type", "\"llama\""},  {"vocab_size", "1000"},
    {"hidden_size", "128"},       {"intermediate_size", "256"},
    {"num_hidden_layers", "2"},   {"num_attention_heads", "4"},
    {"num_key_value_heads", "2"}, {"max_position_embeddings", "512"},
    {"rms_norm_eps", "1e-5"},     {"rope_theta", "10000.0"},
    {"hidden_act", "\"silu\""},   {"eos_token_id", "2"},
};

inline Fields
changed (Fields fields, const Fields &changes)
{
  for (const auto &[name, value] : changes)
    fields[name] = value;
  return fields;
}

inline std::string
json (const Fields &fields)
{
  std::string text;
  for (const auto &[name, value] : fields)
    if (!value.empty ())
      text += (text.empty () ? "{\"" : ",\n\"") + name + "\": " + value;
  return text + "}";
}

inline ArchitectureSpec
load (const std::string &text)
{
  const TemporaryFolder folder;
  std::ofstream (folder.path () / "config.json") << text;
  return load_architecture (folder.path () / "config.json");
}

inline ArchitectureSpec
load (const Fields &changes)
{
  return load (json (changed (kLlama, changes)));
}

inline const AttentionSpec &
attention_of (const ArchitectureSpec &spec, size_t layer)
{
  return std::get<AttentionSpec> (spec.layers.at (layer).mixer);
}

inline const MlpSpec &
mlp_of (const ArchitectureSpec &spec, size_t layer)
{
  return std::get<MlpSpec> (spec.layers.at (layer).channel);
}

inline RopeSpec
rope_of (const Fields &changes)
{
  return attention_of (load (changes), 0).rope;
}

struct Damage {
  Fields changes;
  std::string field;
  std::string message = "";
};

/// Each is a LoadError that names file and field.
inline void
expect_refused (const std::vector<Damage> &damages)
{
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path () / "config.json";
  for (const Damage &damage : damages) {
    const std::string text = json (changed (kLlama, damage.changes));
    SCOPED_TRACE (damage.field + " in " + text);
    std::ofstream (file) << text;
    try {
      load_architecture (file);
      ADD_FAILURE () << "no LoadError";
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file, file);
      EXPECT_EQ (error.field, damage.field) << error.what ();
      const std::string message = error.what ();
      EXPECT_EQ (message.find (file.string () + ": " + damage.field + ": "), 0u) << message;
      EXPECT_NE (message.find (damage.message), std::string::npos) << message;
    }
  }
}

} // namespace millrace::testing
