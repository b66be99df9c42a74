// Opens a checkpoint folder: small files first, so that what is wrong with them shows before weights are
// packed. GGUF files are opened by gguf_model.cpp.
#include "engine/model/model.hpp"

#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/gguf_model.hpp"
#include "engine/model/model_place.hpp"
#include "engine/model/quantization.hpp"
#include "engine/model/tensor_names.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/weight_files.hpp"

#include <simdjson.h>

#include <optional>
#include <string_view>
#include <system_error>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr size_t kMaxTextFileBytes = 64u << 20;
constexpr const char *kBesideModel = "model"; ///< for ModelOptions::weight_cache
constexpr const char *kFolderContents =
    "a model folder holds config.json, model.safetensors (or model.safetensors.index.json and its shards), "
    "and usually tokenizer.json, tokenizer_config.json and generation_config.json; a model in one file is a "
    "GGUF file, NAME.gguf";

bool
is_there (const fs::path &file)
{
  std::error_code error;
  return fs::exists (file, error);
}

void
check_folder (const fs::path &directory)
{
  std::error_code error;
  const fs::file_status status = fs::status (directory, error);
  if (!fs::exists (status))
    throw LoadError (directory, "", std::string ("there is no such folder or file; ") + kFolderContents);
  if (!fs::is_directory (status))
    throw LoadError (directory, "", std::string ("is not a folder; ") + kFolderContents);
  if (!is_there (directory / "config.json"))
    throw LoadError (directory, "config.json", std::string ("is missing; ") + kFolderContents);
}

std::string_view
text_of (const MappedFile &file)
{
  const auto bytes = file.bytes ();
  if (bytes.size () > kMaxTextFileBytes)
    throw LoadError (file.path (), "", "is larger than such a file can be; is it the right one?");
  return {reinterpret_cast<const char *> (bytes.data ()), bytes.size ()};
}

/// The parts of tokenizer_config.json that a model needs; an absent file gives none of them.
class TokenizerConfig
{
public:
  explicit TokenizerConfig (const fs::path &file)
      : file_ (file)
  {
    if (!is_there (file))
      return;
    const MappedFile mapped (file);
    const std::string_view text = text_of (mapped);
    simdjson::dom::object root;
    if (const auto error = parser_.parse (text.data (), text.size ()).get (root))
      throw LoadError (file, "",
                       std::string ("is not a JSON object (") + simdjson::error_message (error) +
                           "); fetch it again");
    root_ = root;
  }

  /// A string, an object with `content`, or null.
  std::string token (const char *name) const
  {
    const auto value = find (name);
    if (!value)
      return {};
    std::string_view text;
    if (value->get (text) && (*value)["content"].get (text))
      throw LoadError (file_, name, "must be a string, an object with \"content\", or null");
    return std::string (text);
  }

  /// One template, or the one named "default" of an array of {name, template}.
  std::optional<std::string_view> chat_template () const
  {
    const auto value = find ("chat_template");
    if (!value)
      return std::nullopt;
    std::string_view text;
    if (!value->get (text))
      return text;
    simdjson::dom::array entries;
    if (value->get (entries))
      throw LoadError (file_, "chat_template", "must be a string or an array of {name, template}");
    for (const auto entry : entries) {
      std::string_view name;
      if (entry["name"].get (name) || entry["template"].get (text))
        throw LoadError (file_, "chat_template", "each entry needs the strings \"name\" and \"template\"");
      if (name == "default")
        return text;
    }
    return std::nullopt;
  }

private:
  std::optional<simdjson::dom::element> find (const char *name) const
  {
    simdjson::dom::element value;
    if (!root_ || root_->at_key (name).get (value) || value.is_null ())
      return std::nullopt;
    return value;
  }

  fs::path file_;
  simdjson::dom::parser parser_;
  std::optional<simdjson::dom::object> root_;
};

std::shared_ptr<const ChatTemplate>
load_chat_template (const fs::path &directory, const TokenizerConfig &config)
{
  const fs::path file = directory / "chat_template.jinja";
  if (is_there (file)) {
    const MappedFile mapped (file);
    return compile_chat_template (text_of (mapped), file, "");
  }
  const auto source = config.chat_template ();
  return source ? compile_chat_template (*source, directory / "tokenizer_config.json", "chat_template")
                : nullptr;
}

std::shared_ptr<const Tokenizer>
load_tokenizer (const fs::path &file, int vocab)
{
  if (!is_there (file))
    return nullptr;
  auto tokenizer = Tokenizer::load (file);
  if (tokenizer->vocab_size () > vocab)
    throw LoadError (file, "",
                     "has ids up to " + std::to_string (tokenizer->vocab_size () - 1) +
                         " but config.json's vocab_size is " + std::to_string (vocab) +
                         "; the tokenizer belongs to another model");
  return tokenizer;
}

/// generation_config.json names them better than config.json, where both do.
std::vector<TokenId>
end_of_sequence_ids (const fs::path &directory, const ArchitectureSpec &spec,
                     const GenerationConfig &generation)
{
  const bool general = generation.eos_token_ids.empty ();
  const auto &ids = general ? spec.eos_token_ids : generation.eos_token_ids;
  for (const TokenId id : ids) {
    if (id < 0 || id >= spec.vocab)
      throw LoadError (directory / (general ? "config.json" : "generation_config.json"), "eos_token_id",
                       std::to_string (id) + " is not in the vocabulary of " + std::to_string (spec.vocab) +
                           " tokens");
  }
  return ids;
}

} // namespace

CompileOptions
compile_options (const ModelOptions &options, const fs::path &model)
{
  CompileOptions result;
  result.weights = options.weights;
  result.lock_memory = options.lock_memory;
  result.weight_cache = options.weight_cache;
  if (options.weight_cache == kBesideModel) {
    std::error_code error;
    const fs::path folder = fs::is_directory (model, error) ? model : model.parent_path ();
    result.weight_cache = folder.empty () ? "." : folder;
  }
  return result;
}

std::shared_ptr<const ChatTemplate>
compile_chat_template (std::string_view source, const fs::path &file, const char *field)
{
  try {
    return ChatTemplate::compile (source);
  } catch (const ChatTemplateError &error) {
    const std::string line = error.line > 0 ? "line " + std::to_string (error.line) + ": " : "";
    throw LoadError (file, field, "the chat template does not compile: " + line + error.what ());
  }
}

std::string
Model::load_warning () const
{
  const std::string backend = compiled->load_warning ();
  return unread_tensors + (unread_tensors.empty () || backend.empty () ? "" : "; ") + backend;
}

std::shared_ptr<const Model>
Model::open (const fs::path &directory, const ModelOptions &options)
{
  if (const fs::path file = gguf_file_of (directory); !file.empty ())
    return open_gguf_model (file, options);
  check_folder (directory);
  auto model = std::make_shared<Model> ();
  model->directory = directory;
  model->spec = load_architecture (directory / "config.json");
  const auto quantization = load_quantization (directory / "config.json");
  model->generation = load_generation_config (directory / "generation_config.json");
  model->eos_token_ids = end_of_sequence_ids (directory, model->spec, model->generation);

  const TokenizerConfig tokenizer_config (directory / "tokenizer_config.json");
  model->bos_token = tokenizer_config.token ("bos_token");
  model->eos_token = tokenizer_config.token ("eos_token");
  model->chat_template = load_chat_template (directory, tokenizer_config);
  model->tokenizer = load_tokenizer (directory / "tokenizer.json", model->spec.vocab);

  WeightFiles files = WeightFiles::open (directory);
  if (quantization)
    files.apply (*quantization);
  const Program program = build_program (model->spec, files);
  require_tensors (program, files);
  model->unread_tensors = millrace::unread_tensors (program, model->spec, files);
  model->compiled =
      create_cpu_backend (options.cpu)->compile (program, files, compile_options (options, directory));
  return model;
}

} // namespace millrace
