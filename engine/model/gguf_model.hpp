// Opens a GGUF file as a model: architecture, tokenizer, template and weights of one file.
//
// Private to engine/model.
#pragma once

#include "engine/model/model.hpp"

#include <filesystem>
#include <memory>
#include <string_view>

namespace millrace
{

/// Throws LoadError, and what create_cpu_backend () throws.
std::shared_ptr<const Model> open_gguf_model (const std::filesystem::path &file, const ModelOptions &options);

/// For the model in the folder or file `model`.
CompileOptions compile_options (const ModelOptions &options, const std::filesystem::path &model);

/// Throws LoadError naming `file` and `field` when it does not compile.
std::shared_ptr<const ChatTemplate>
compile_chat_template (std::string_view source, const std::filesystem::path &file, const char *field);

} // namespace millrace
