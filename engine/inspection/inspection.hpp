// What a model is, what it takes and what is wrong with it, without loading it: `millrace inspect`.
//
// Reads headers, configuration, tokenizer and template, and of the weights a few norms; never the rest. Nothing that is wrong with a
// model is an exception: each is a problem, and what can be said nevertheless is said. Any thread.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/model/architecture_spec.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace millrace
{

struct InspectionOptions {
  WeightFormat weights = WeightFormat::kAuto;
  KvType kv_type = KvType::kF32;
  int kv_tokens = 0; ///< of one sequence; 0: the model's context, at most kUsualTokens

  static constexpr int kUsualTokens = 8192;
};

/// Why the model cannot be used, or not as it was meant.
struct InspectionProblem {
  std::string subject; ///< "architecture", "weights", "tokenizer", "chat_template", "memory", …
  std::string message;
};

/// Tensors of one purpose and type.
struct TensorGroup {
  std::string role; ///< "attention", "experts", …; "other": nothing is computed with them
  std::string type; ///< as the file has it
  int tensors = 0;
  uint64_t parameters = 0;
  uint64_t bytes = 0; ///< in the files
};

/// Layers that are alike.
struct LayerGroup {
  std::string
      mixer; ///< "full attention", "attention in a window of 1024", "latent attention", "gated delta rule", …
  std::string channel; ///< "MLP of 9728", "8 of 128 experts of 768, and one of 2048 for all"
  int layers = 0;
};

struct KvMemory {
  std::string type;
  uint64_t bytes = 0; ///< of the keys and values of kv_tokens positions of one sequence
};

struct Inspection {
  std::filesystem::path path;
  std::string form; ///< "safetensors folder", "GGUF file"; empty: neither
  int files = 0;    ///< of weights
  uint64_t file_bytes = 0;

  std::string architecture;             ///< as the files name it
  std::optional<ArchitectureSpec> spec; ///< when it can be computed
  std::vector<LayerGroup> layers;
  std::vector<std::string> heads; ///< "32 of 128 with 8 of keys and values"
  std::vector<std::string> ropes;
  uint64_t parameters = 0;
  uint64_t active_parameters = 0; ///< that a token is computed with
  std::vector<TensorGroup> tensors;

  std::string tokenizer; ///< kind and origin; empty: none
  int tokens = 0;        ///< of the tokenizer
  std::string chat_template;
  struct SpecialToken {
    TokenId id;
    std::string text;
  };
  std::vector<SpecialToken> special_tokens;
  std::string bos_token;
  std::vector<TokenId> eos_ids;

  std::map<std::string, uint64_t> packed; ///< bytes by format, as `weights` holds them
  uint64_t weight_bytes = 0;
  int kv_tokens = 0;
  std::vector<KvMemory> kv; ///< of each type; the first is the one that was asked for
  uint64_t state_bytes = 0; ///< of one sequence, in recurrent layers
  uint64_t available_bytes = 0;

  std::vector<std::string> missing_tensors, left_over_tensors;
  std::vector<InspectionProblem> problems; ///< that keep it from running
  std::vector<std::string> warnings;

  bool loads () const; ///< there is no problem but of memory
  bool fits () const;
};

Inspection inspect_model (const std::filesystem::path &path, const InspectionOptions &options);

/// One object; docs/program.md has its members.
std::string inspection_json (const Inspection &inspection);
/// For people.
std::string inspection_text (const Inspection &inspection);

} // namespace millrace
