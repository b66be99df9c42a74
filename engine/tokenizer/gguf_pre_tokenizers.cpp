#include "engine/tokenizer/gguf_pre_tokenizers.hpp"

#include "engine/tokenizer/tokenizer_parts.hpp"

namespace millrace
{

namespace
{

// Patterns, in Oniguruma's syntax; kByteLevelPattern is one more.

constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseek3 =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kLineEnd = R"([\r\n])";
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr std::string_view kHanAndHangul = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kDigits = R"(\p{N}+)";
constexpr std::string_view kAsciiThreeDigits = "[0-9][0-9][0-9]";

// "default" is what files say that were made before there was a tokenizer.ggml.pre.
constexpr std::array<GgufPreTokenizer, 9> kKinds{{
    {.names = {"qwen2", "deepseek-r1-qwen"}, .patterns = {kQwen2}, .normalizes = true},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"},
     .patterns = {kLlama3},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = {"gpt-2", "phi-2"}, .patterns = {kByteLevelPattern}},
    {.names = {"starcoder", "refact", "smollm", "codeshell"}, .patterns = {kDigit, kByteLevelPattern}},
    {.names = {"deepseek-coder"},
     .patterns = {kLineEnd, kSpacedLetters, kSpacedPunctuation, kHanAndHangul, kDigit}},
    {.names = {"deepseek-v3"}, .patterns = {kThreeDigits, kHanAndKana, kDeepseek3}},
    {.names = {"dbrx", "smaug-bpe"}, .patterns = {kLlama3}},
    {.names = {"tekken"}, .patterns = {kTekken}, .ignore_merges = true, .adds_bos = true},
    {.names = {"default"}, .patterns = {kPunctuation, kByteLevelPattern, kDigits, kAsciiThreeDigits}},
}};

} // namespace

const GgufPreTokenizer *
find_gguf_pre_tokenizer (std::string_view name)
{
  for (const GgufPreTokenizer &kind : kKinds)
    for (const std::string_view known : kind.names)
      if (!known.empty () && known == name)
        return &kind;
  return nullptr;
}

std::string
gguf_pre_tokenizer_names ()
{
  std::string names;
  for (const GgufPreTokenizer &kind : kKinds)
    for (const std::string_view name : kind.names)
      if (!name.empty ())
        names.append (names.empty () ? "" : ", ").append (name);
  return names;
}

} // namespace millrace
