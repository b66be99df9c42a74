// Tokens → text: what each token adds, and how that depends on what came before.
//
// A decoder of a file is a list of steps over one token's content; they are applied to every token when it is loaded. What
// depends on the place in the text is little: tokens at its beginning have another form, spaces there are left out, a
// separator comes between tokens, the last one may be without what would come before a next one, and bytes of one character may
// come from several tokens. TokenTextStream has that state.
// Sources: the decoders of the reference `tokenizers` library; Decode of SentencePiece.
#pragma once

#include "engine/tokenizer/regex.hpp"
#include "engine/tokenizer/utf8.hpp"
#include "engine/tokenizer/vocabulary.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// One thing that a decoder does to a token's content.
struct DecoderStep {
  enum Kind {
    kByteLevel,    ///< characters of the byte alphabet → bytes, where the token has no others
    kByteFallback, ///< "<0x0A>" → that byte
    kReplace,      ///< `pattern` → `content`
    kStrip,        ///< up to `left` and `right` characters `content` at the ends
    kMetaspace,    ///< `content` → a space; left out of the first token where `drop_first`
    kWordPiece,    ///< `content` at the beginning is left out, other tokens but the first get a space there
    kCleanup,      ///< no spaces before punctuation, as English has it
    kExactly,      ///< `whole` → `content`
    kDropLeading,  ///< `content` at the beginning is left out of the first token
    kEndOfWord,    ///< `content` → a space; left out of the last token
  };
  Kind kind = kByteLevel;
  std::shared_ptr<const Regex> pattern = {};
  std::string content = {};
  std::string whole = {};
  size_t left = 0, right = 0;
  bool drop_first = true;
};

/// When tokens have their other form.
enum class FirstForms {
  kNone,
  kFirstToken, ///< of the sequence
  kWhileEmpty, ///< as long as there is no text
  kOnce,       ///< as long as there is no text and no other form was taken
};

struct TokenTexts {
  StringTable bytes; ///< by id
  StringTable first; ///< by id: the other form; empty with FirstForms::kNone
  FirstForms first_forms = FirstForms::kNone;
  StringTable last; ///< by id: the form of a text's last token; empty without last_forms
  bool last_forms = false;
  std::string separator;    ///< between tokens
  std::string leading;      ///< the character that is left out at the beginning of the text …
  size_t leading_count = 0; ///< … that many times
  bool each_byte_replaced =
      false; ///< every byte of what is not UTF-8 becomes a U+FFFD, not every maximal subpart
};

/// The text of a growing sequence of tokens. One thread.
class TokenTextStream
{
public:
  /// `continues`: there is text before the first token, so that nothing is left out at its beginning.
  explicit TokenTextStream (bool continues = false)
      : continues_ (continues)
  {
  }

  /// `texts` must live until finish ().
  void push (const TokenTexts &texts, int32_t id, std::string &out);
  void finish (std::string &out); ///< U+FFFD for an unfinished character; then starts afresh
  bool pending () const { return decoder_.pending (); }

private:
  utf8::LossyDecoder decoder_;
  bool continues_;
  std::string_view held_,
      held_last_;        ///< of the last token: what follows if there is a next one, and if there is not
  size_t dropped_ = 0;   ///< leading characters, or other forms taken
  bool started_ = false; ///< a token was pushed
  bool emitted_ = false; ///< there is text
};

/// Appends the bytes that `text` spells in the byte alphabet; false, and nothing is appended, when a character is not of it.
bool append_alphabet_bytes (std::string_view text, std::string &out);

enum class TokenPlace { kFirst, kWithin, kLast };

/// Appends what `steps` make of a token's content.
void decode_token (const std::vector<DecoderStep> &steps, std::string_view content, TokenPlace place,
                   Regex::Scratch &scratch, std::string &out);

} // namespace millrace
