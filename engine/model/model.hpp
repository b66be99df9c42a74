// An opened model: weights ready to run, tokenizer, chat template, defaults. Immutable; any thread.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/chat/chat_template.hpp"
#include "engine/model/architecture_spec.hpp"
#include "engine/model/config.hpp"
#include "engine/tokenizer/tokenizer.hpp"

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

namespace millrace
{

struct ModelOptions {
  WeightFormat weights = WeightFormat::kAuto;
  CpuOptions cpu;
  /// A folder for packed weights, see CompileOptions; "model": the folder that the model lies in.
  std::filesystem::path weight_cache{};
  bool lock_memory = false;
  std::stop_token stop{}; ///< any thread may ask for it; open () then throws LoadStopped soon
};

struct Model {
  std::filesystem::path directory; ///< what it was opened from: a folder, or a GGUF file
  ArchitectureSpec spec;
  GenerationConfig generation;
  std::vector<TokenId> eos_token_ids;
  std::shared_ptr<const Tokenizer> tokenizer;        ///< null when there is none (tokens in, tokens out)
  std::shared_ptr<const ChatTemplate> chat_template; ///< null when the model has none
  std::string bos_token, eos_token;                  ///< for the chat template
  std::shared_ptr<const CompiledModel> compiled;
  std::string unread_tensors; ///< a warning about tensors that nothing is computed with; empty mostly

  /// What went wrong while opening but did not keep the model from running, for the user; empty mostly.
  std::string load_warning () const;

  /// Opens a folder in the layout of a Hugging Face checkpoint, a GGUF file, or a folder that holds one GGUF file
  /// and no config.json. Throws LoadError, and what create_cpu_backend () throws.
  static std::shared_ptr<const Model> open (const std::filesystem::path &directory,
                                            const ModelOptions &options = {});
};

} // namespace millrace
