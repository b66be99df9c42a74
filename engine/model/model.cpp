// Opens models: small files first, so that what is wrong with them shows before weights are packed.
#include "engine/model/model.hpp"

#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model_files.hpp"
#include "engine/model/model_place.hpp"
#include "engine/model/tensor_names.hpp"

#include <system_error>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr const char *kBesideModel = "model"; ///< for ModelOptions::weight_cache

/// For the model in the folder or file `model`.
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

} // namespace

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

std::unique_ptr<ModelFiles>
open_model_files (const fs::path &path)
{
  const fs::path file = gguf_file_of (path);
  return file.empty () ? open_model_folder (path) : open_gguf_model (file);
}

std::string
Model::load_warning () const
{
  const std::string backend = compiled->load_warning ();
  return unread_tensors + (unread_tensors.empty () || backend.empty () ? "" : "; ") + backend;
}

std::shared_ptr<const Model>
Model::open (const fs::path &path, const ModelOptions &options)
{
  const auto files = open_model_files (path);
  auto model = std::make_shared<Model> ();
  model->directory = files->path ();
  model->spec = files->architecture ();
  model->generation = files->generation ();
  model->eos_token_ids = files->end_of_sequence_ids (model->spec, model->generation);
  model->bos_token = files->bos_token (model->spec.vocab);
  model->eos_token = files->eos_token (model->spec.vocab);
  model->chat_template = files->chat_template ();
  model->tokenizer = files->tokenizer (model->spec.vocab);

  const WeightFiles &weights = files->weights ();
  const Program program = build_program (model->spec, weights);
  require_tensors (program, weights);
  model->unread_tensors = millrace::unread_tensors (program, model->spec, weights);
  model->compiled =
      create_cpu_backend (options.cpu)->compile (program, weights, compile_options (options, files->path ()));
  return model;
}

} // namespace millrace
