// A tokenizer from the lists that a GGUF file has in its metadata.
#include "engine/tokenizer/tokenizer_gguf.hpp"

#include "engine/error.hpp"
#include "engine/tokenizer/tokenizer_parts.hpp"

#include <array>
#include <string>

namespace millrace
{

namespace
{

constexpr const char *kModelKey = "tokenizer.ggml.model";
constexpr const char *kPreKey = "tokenizer.ggml.pre";
constexpr const char *kTokensKey = "tokenizer.ggml.tokens";
constexpr const char *kTypesKey = "tokenizer.ggml.token_type";
constexpr const char *kMergesKey = "tokenizer.ggml.merges";
constexpr const char *kDamaged = "; the file is damaged, fetch it again";
constexpr size_t kMaxShown = 80;

/// tokenizer.ggml.token_type
enum TokenType : int32_t { kUndefined, kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

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

/// How the texts of one kind of model are cut: each pattern cuts what those before it have left.
struct Kind {
  std::array<std::string_view, 8> names; ///< of tokenizer.ggml.pre
  std::array<std::string_view, 5> patterns;
  bool normalizes = false;    ///< to NFC, before
  bool ignore_merges = false; ///< a word that is a token is that token
  bool adds_bos = false;      ///< where the file does not say
};

// "default" is what files say that were made before there was a tokenizer.ggml.pre.
constexpr std::array<Kind, 9> kKinds{{
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

std::string
quoted (std::string_view text)
{
  std::string result (1, '"');
  for (const char c : text.substr (0, kMaxShown))
    result += static_cast<unsigned char> (c) < 0x20 || c == 0x7f ? '?' : c;
  return result + '"';
}

class Reader
{
public:
  Reader (const std::filesystem::path &file, const GgufVocabulary &source)
      : file_ (file)
      , source_ (source)
  {
  }

  TokenizerParts read ()
  {
    if (source_.model != "gpt2")
      fail (kModelKey, quoted (source_.model) +
                           " is not supported; supported is gpt2, byte-level BPE: use a model "
                           "with such a tokenizer, or its folder with a tokenizer.json");
    read_kind (find_kind ());
    read_tokens ();
    read_merges ();
    return std::move (parts_);
  }

private:
  [[noreturn]] void fail (const char *key, const std::string &problem) const
  {
    throw LoadError (file_, key, problem);
  }

  const Kind &find_kind () const
  {
    std::string known;
    for (const Kind &kind : kKinds)
      for (const std::string_view name : kind.names) {
        if (name.empty ())
          continue;
        if (name == source_.pre)
          return kind;
        known += (known.empty () ? "" : ", ") + std::string (name);
      }
    fail (kPreKey, quoted (source_.pre) + " is not supported; supported are " + known);
  }

  void read_kind (const Kind &kind)
  {
    if (kind.normalizes)
      parts_.normalizer.steps.push_back (Normalizer::Step ());
    for (const std::string_view pattern : kind.patterns)
      if (!pattern.empty ())
        parts_.pre_tokenizer.stages.push_back (
            {.kind = PreTokenizer::Stage::kSplit,
             .pattern = std::make_shared<const Regex> (Regex::compile (pattern))});
    parts_.pre_tokenizer.byte_level = true;
    parts_.decoder = DecoderKind::kByteLevel;
    parts_.added_verbatim = true;
    parts_.bpe.ignore_merges = kind.ignore_merges;
    add_ends (parts_.prefix, source_.add_bos.value_or (kind.adds_bos), source_.bos,
              "tokenizer.ggml.bos_token_id");
    add_ends (parts_.suffix, source_.add_eos.value_or (false), source_.eos, "tokenizer.ggml.eos_token_id");
  }

  void add_ends (std::vector<int32_t> &ids, bool wanted, TokenId id, const char *key)
  {
    if (!wanted || id == kNoToken)
      return;
    if (id < 0 || static_cast<size_t> (id) >= source_.tokens.size ())
      fail (key, "is " + std::to_string (id) + ", not one of the " + std::to_string (source_.tokens.size ()) +
                     " tokens; correct the file");
    ids.push_back (id);
  }

  TokenType type_of (size_t id) const
  {
    return source_.types.empty () ? kNormal : static_cast<TokenType> (source_.types[id]);
  }

  void read_tokens ()
  {
    const size_t count = source_.tokens.size ();
    if (count == 0 || count > kMaxTokenId)
      fail (kTokensKey, "has " + std::to_string (count) + " tokens, expected 1 to " +
                            std::to_string (kMaxTokenId) + kDamaged);
    if (!source_.types.empty () && source_.types.size () != count)
      fail (kTypesKey, "has " + std::to_string (source_.types.size ()) + " entries for " +
                           std::to_string (count) + " tokens" + kDamaged);
    size_t bytes = 0;
    for (const std::string_view token : source_.tokens)
      bytes += token.size ();
    Vocabulary &vocabulary = parts_.vocabulary;
    vocabulary.contents.reserve (count, bytes);
    vocabulary.index.reserve (count);
    vocabulary.flags.reserve (count);
    for (size_t id = 0; id < count; ++id)
      add_token (id);
  }

  void add_token (size_t id)
  {
    const std::string_view content = source_.tokens[id];
    Vocabulary &vocabulary = parts_.vocabulary;
    vocabulary.contents.append (content);
    vocabulary.flags.push_back (0);
    if (content.empty ()) // a hole: nothing can become it
      return;
    if (!valid_utf8 (content))
      fail (kTokensKey, "token " + std::to_string (id) + " is not valid Unicode" + kDamaged);
    const int32_t other = vocabulary.index.insert (vocabulary.contents, static_cast<int32_t> (id));
    if (other != kNoToken)
      fail (kTokensKey, quoted (content) + " is token " + std::to_string (other) + " and token " +
                            std::to_string (id) + kDamaged);
    const TokenType type = type_of (id);
    const bool special = type == kControl || type == kUnknown;
    vocabulary.flags[id] = Vocabulary::kPresent;
    if (!special) // ordinary text never becomes a special token, not even as a whole word
      vocabulary.flags[id] |= Vocabulary::kModel;
    if (special || type == kUserDefined) {
      AddedTokenEntry entry;
      entry.token.id = static_cast<int32_t> (id);
      entry.token.content = content;
      entry.token.special = special;
      parts_.added.push_back (std::move (entry));
    }
  }

  int32_t token_of (std::string_view content, size_t merge) const
  {
    const int32_t id = parts_.vocabulary.index.find (parts_.vocabulary.contents, content);
    if (id == kNoToken)
      fail (kMergesKey, "entry " + std::to_string (merge) + " needs the token " + quoted (content) +
                            ", which is not in " + kTokensKey + kDamaged);
    return id;
  }

  void read_merges ()
  {
    parts_.bpe.merges.reserve (source_.merges.size ());
    std::string merged;
    for (size_t i = 0; i < source_.merges.size (); ++i) {
      const std::string_view line = source_.merges[i];
      const size_t space = line.find (' ', 1);
      if (space == std::string_view::npos || space + 1 == line.size ())
        fail (kMergesKey, "entry " + std::to_string (i) + " is " + quoted (line) +
                              ", expected two tokens with a space between them" + kDamaged);
      const std::string_view left = line.substr (0, space), right = line.substr (space + 1);
      merged.assign (left).append (right);
      const int32_t ids[] = {token_of (left, i), token_of (right, i), token_of (merged, i)};
      parts_.bpe.merges.insert (ids[0], ids[1], {static_cast<uint32_t> (i), ids[2]});
    }
  }

  const std::filesystem::path &file_;
  const GgufVocabulary &source_;
  TokenizerParts parts_;
};

} // namespace

std::shared_ptr<const Tokenizer>
load_gguf_tokenizer (const std::filesystem::path &file, const GgufVocabulary &source)
{
  return Tokenizer::assemble (file, Reader (file, source).read ());
}

} // namespace millrace
