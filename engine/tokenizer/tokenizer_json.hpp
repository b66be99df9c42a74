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

// The sections, each in its own function: normalizer and pre_tokenizer in tokenizer_json_text.cpp, the model and the added
// tokens in tokenizer_json_model.cpp.

constexpr int kMaxNesting = 16; ///< of Sequence in Sequence

void read_model (const JsonField &root, TokenizerParts &parts);
void read_normalizer (const JsonField &field, Normalizer &normalizer, int depth);
void read_pre_tokenizer (const JsonField &field, PreTokenizer &pre_tokenizer, int depth);
/// {"String": …} or {"Regex": …}
std::shared_ptr<const Regex> read_pattern (const JsonField &pattern);

/// A text that is put into others many times over: no longer than 256 bytes, so that a file cannot take all memory.
std::string read_inserted (const JsonField &field);
/// Likewise, and never empty.
std::string read_mark (const JsonField &field);

enum class PrependScheme { kNever, kFirst, kAlways };
/// Of Metaspace.
PrependScheme read_prepend_scheme (const JsonField &field);

/// Refuses the value by its name.
[[noreturn]] void unsupported (const JsonField &type);

} // namespace millrace
