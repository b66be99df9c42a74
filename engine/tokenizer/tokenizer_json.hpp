// Reads a tokenizer.json into the parts a Tokenizer is made of.
//
// Anything that the parts cannot do exactly as the reference does is a LoadError naming the field. Unknown
// members are ignored as the reference does; "truncation" and "padding" are requests' business and ignored.
// Source: the serialization of the reference `tokenizers` library, version "1.0".
#pragma once

#include "engine/tokenizer/json_field.hpp"
#include "engine/tokenizer/tokenizer_parts.hpp"

#include <filesystem>

namespace millrace
{

TokenizerParts read_tokenizer_json (const std::filesystem::path &file);

// The sections, each in its own function; the model and the added tokens are in tokenizer_json_model.cpp.

void read_vocabulary (const JsonField &root, TokenizerParts &parts);
void read_merges (const JsonField &model, const Vocabulary &vocabulary, Bpe &bpe);

} // namespace millrace
