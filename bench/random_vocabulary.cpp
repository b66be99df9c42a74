#include "bench/random_vocabulary.hpp"

#include "engine/tokenizer/byte_alphabet.hpp"

#include <array>
#include <utility>

namespace millrace::bench
{

namespace
{

constexpr int32_t kNormal = 1, kControl = 3; ///< tokenizer.ggml.token_type

/// Both sides are bytes or earlier merges.
const std::array<std::pair<std::string, std::string>, 7> kMerges{
    {{"t", "h"}, {"th", "e"}, {"Ġ", "the"}, {"i", "n"}, {"a", "n"}, {"an", "d"}, {"Ġ", "and"}}};

/// Characters of the byte alphabet are below U+0144: one or two bytes.
std::string
utf8 (char16_t character)
{
  if (character < 0x80)
    return {static_cast<char> (character)};
  return {static_cast<char> (0xc0 | character >> 6), static_cast<char> (0x80 | (character & 0x3f))};
}

} // namespace

void
set_vocabulary (GgufWriter &writer, const ModelShape &shape)
{
  const bool qwen = shape.family == "qwen3";
  std::vector<std::string> tokens, merges;
  for (const char16_t character : kByteAlphabet.character)
    tokens.push_back (utf8 (character));
  for (const auto &[left, right] : kMerges) {
    tokens.push_back (left + right);
    merges.push_back (left + " " + right);
  }
  const auto vocab = static_cast<size_t> (shape.vocab);
  while (tokens.size () < vocab - 2)
    tokens.push_back ("t" + std::to_string (tokens.size ()));
  tokens.emplace_back (qwen ? "<|endoftext|>" : "<|begin_of_text|>");
  tokens.emplace_back (qwen ? "<|im_end|>" : "<|eot_id|>");
  std::vector<int32_t> types (vocab, kNormal);
  types[vocab - 2] = types[vocab - 1] = kControl;

  writer.set ("tokenizer.ggml.model", "gpt2");
  writer.set ("tokenizer.ggml.pre", qwen ? "qwen2" : "llama-bpe");
  writer.set ("tokenizer.ggml.tokens", tokens);
  writer.set ("tokenizer.ggml.token_type", types);
  writer.set ("tokenizer.ggml.merges", merges);
  writer.set ("tokenizer.ggml.bos_token_id", static_cast<uint32_t> (vocab - 2));
  writer.set ("tokenizer.ggml.eos_token_id", static_cast<uint32_t> (vocab - 1));
  writer.set ("tokenizer.ggml.add_bos_token", !qwen);
}

} // namespace millrace::bench
