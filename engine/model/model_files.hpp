// The files of a model, whatever form they have: what Model::open () takes from them, step by step.
//
// A folder in the layout of a Hugging Face checkpoint, or a GGUF file. Each step reads what it is for and throws LoadError when
// that is wrong; steps that need no other do not fail with it, so that inspection can name all that is wrong. Private to the engine.
// One thread.
#pragma once

#include "engine/chat/chat_template.hpp"
#include "engine/model/architecture_spec.hpp"
#include "engine/model/config.hpp"
#include "engine/tokenizer/tokenizer.hpp"
#include "engine/weights/weight_files.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class ModelFiles
{
public:
  ModelFiles () = default;
  ModelFiles (const ModelFiles &) = delete;
  ModelFiles &operator= (const ModelFiles &) = delete;
  virtual ~ModelFiles () = default;

  virtual bool of_gguf () const = 0;
  /// The folder or file.
  virtual const std::filesystem::path &path () const = 0;

  /// Mapped, with quantized matrices put together.
  virtual const WeightFiles &weights () = 0;
  virtual ArchitectureSpec architecture () = 0;
  /// What the files call it, supported or not; empty when they do not.
  virtual std::string architecture_name () = 0;
  virtual GenerationConfig generation () = 0;
  virtual std::vector<TokenId> end_of_sequence_ids (const ArchitectureSpec &spec,
                                                    const GenerationConfig &generation) = 0;
  /// Null when there is none.
  virtual std::shared_ptr<const Tokenizer> tokenizer (int vocab) = 0;
  /// What kind it is and where it is from, for people: "BPE of bytes, tokenizer.json"; empty when there is none.
  virtual std::string tokenizer_kind () = 0;
  /// Null when there is none.
  virtual std::shared_ptr<const ChatTemplate> chat_template () = 0;
  /// Its text, as it is, and "chat_template.jinja"; empty when there is none.
  virtual std::string template_source () = 0;
  virtual std::string template_origin () = 0;
  /// For the chat template; empty when there are none. `vocab`: ids beyond it are wrong.
  virtual std::string bos_token (int vocab) = 0;
  virtual std::string eos_token (int vocab) = 0;
};

/// Throws LoadError when there is nothing like a model.
std::unique_ptr<ModelFiles> open_model_files (const std::filesystem::path &path);

/// Throws LoadError naming `file` and `field` when it does not compile.
std::shared_ptr<const ChatTemplate>
compile_chat_template (std::string_view source, const std::filesystem::path &file, const char *field);

std::unique_ptr<ModelFiles> open_model_folder (const std::filesystem::path &folder);
std::unique_ptr<ModelFiles> open_gguf_model (const std::filesystem::path &file);

} // namespace millrace
