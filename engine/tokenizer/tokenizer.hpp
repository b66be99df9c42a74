// Text ↔ token ids, as the reference `tokenizers` library does it for a model's tokenizer.json, SentencePiece for its
// tokenizer.model (tokenizer_sentencepiece.hpp), or for what a GGUF file has of either (tokenizer_gguf.hpp).
//
// Added tokens are cut out first, then the normalizer and the pre-tokenizer make words, and those become tokens by byte pair
// encoding (merges by rank; byte-level or of characters), a unigram language model or WordPiece. Immutable after loading; any
// thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

using TokenId = int32_t;

struct TokenTexts;
struct TokenizerParts;

struct EncodeOptions {
  bool add_special_tokens = false; ///< run the post-processor (BOS and the like)
  bool parse_special = true;       ///< false: the text of a special token is ordinary text
};

class Tokenizer
{
public:
  /// Throws LoadError naming file and field: broken JSON, unsupported parts by name, ids out of range,
  /// merges of unknown tokens, a pattern that does not compile.
  static std::shared_ptr<const Tokenizer> load (const std::filesystem::path &tokenizer_json);
  /// For readers of other formats; `file` is for messages. Throws LoadError.
  static std::shared_ptr<const Tokenizer> assemble (const std::filesystem::path &file, TokenizerParts parts);
  ~Tokenizer ();

  /// `text` must be valid UTF-8 (see valid_utf8 ()). Linear in its length.
  std::vector<TokenId> encode (std::string_view text, const EncodeOptions &options = {}) const;
  /// Invalid UTF-8 in the result is replaced by U+FFFD as the reference does. Unknown ids are skipped.
  std::string decode (std::span<const TokenId> ids, bool skip_special = false) const;

  /// The raw bytes a token adds to the text (not necessarily whole characters); empty for unknown ids.
  std::string_view token_bytes (TokenId id) const;
  bool is_known (TokenId id) const; ///< the id is in use
  bool is_special (TokenId id) const;
  /// What decode () is made of, for Detokenizer.
  const TokenTexts &texts () const;
  /// Id of a token by its content as written in the file (added tokens: their text); none if absent.
  std::optional<TokenId> token_id (std::string_view content) const;

  int vocab_size () const; ///< highest id + 1
  /// 16 hex digits over all ids and bytes: equal digests mean interchangeable ids.
  const std::string &digest () const;

private:
  Tokenizer ();
  struct State;
  std::unique_ptr<State> state_;
};

/// Whether `text` is well-formed UTF-8 (no surrogates, no overlongs); `*offset` gets the first bad byte.
bool valid_utf8 (std::string_view text, size_t *offset = nullptr);

} // namespace millrace
