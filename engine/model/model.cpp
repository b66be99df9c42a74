// Opens models: small files first, so that what is wrong with them shows before weights are packed.
#include "engine/model/model.hpp"

#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model_files.hpp"
#include "engine/model/model_place.hpp"
#include "engine/model/tensor_names.hpp"
#include "engine/size_text.hpp"
#include "engine/tensor/available_memory.hpp"

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
  result.stop = options.stop;
  if (options.weight_cache == kBesideModel) {
    std::error_code error;
    const fs::path folder = fs::is_directory (model, error) ? model : model.parent_path ();
    result.weight_cache = folder.empty () ? "." : folder;
  }
  return result;
}

/// Throws LoadError when there is less memory than packed weights take. Not where packed weights are mapped from a file, of which
/// the kernel keeps in memory what fits.
void
require_memory (const Backend &backend, const Program &program, ModelFiles &files,
                const ModelOptions &options)
{
  if (!options.weight_cache.empty ())
    return;
  uint64_t bytes = 0;
  std::string formats;
  for (const WeightMemory &memory : backend.plan (program, files.weights (), options.weights)) {
    bytes += memory.bytes;
    formats += (formats.empty () ? "" : " + ") + size_text (memory.bytes) + " " + memory.format;
  }
  const uint64_t available = available_memory ();
  if (bytes > available)
    throw LoadError (files.path (), "",
                     "the weights take " + size_text (bytes) + " (" + formats + "), and " +
                         size_text (available) +
                         " of memory are free; use weights of fewer bits (--weights int8 or int4), a smaller "
                         "model or another machine");
}

void
stop_if_asked (const ModelOptions &options)
{
  if (options.stop.stop_requested ())
    throw LoadStopped ();
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
  stop_if_asked (options);
  const auto files = open_model_files (path);
  auto model = std::make_shared<Model> ();
  model->directory = files->path ();
  model->spec = files->architecture ();
  model->generation = files->generation ();
  model->eos_token_ids = files->end_of_sequence_ids (model->spec, model->generation);
  model->bos_token = files->bos_token (model->spec.vocab);
  model->eos_token = files->eos_token (model->spec.vocab);
  model->chat_template = files->chat_template ();
  stop_if_asked (options);
  model->tokenizer = files->tokenizer (model->spec.vocab);
  stop_if_asked (options);

  const WeightFiles &weights = files->weights ();
  const Program program = build_program (model->spec, weights);
  require_tensors (program, weights);
  model->unread_tensors = millrace::unread_tensors (program, model->spec, weights);
  const auto backend = create_cpu_backend (options.cpu);
  require_memory (*backend, program, *files, options);
  model->compiled = backend->compile (program, weights, compile_options (options, files->path ()));
  return model;
}

} // namespace millrace
