// Incremental detokenization: text of a growing token sequence.
//
// Emits whole UTF-8 characters only and never revises what it emitted: the concatenation of all pieces
// plus finish () equals Tokenizer::decode () of the whole sequence. Bytes that can no longer become valid
// are emitted as U+FFFD at once (maximal subparts, as the Unicode standard §3.9 recommends and the reference
// does). One thread; no allocation beyond growth of `out`.
#pragma once

#include "engine/tokenizer/token_texts.hpp"
#include "engine/tokenizer/tokenizer.hpp"

#include <string>

namespace millrace
{

class Detokenizer
{
public:
  /// `tokenizer` must outlive this.
  /// `continues`: the sequence goes on after others (a prompt), so that a space at its beginning is text; otherwise it is
  /// what it is to decode ().
  explicit Detokenizer (const Tokenizer &tokenizer, bool skip_special = true, bool continues = false);

  /// Appends to `out` what became certain with `token`.
  void push (TokenId token, std::string &out);
  /// Appends U+FFFD for an unfinished character at the end of the sequence; then starts afresh.
  void finish (std::string &out);
  bool pending () const { return stream_.pending (); } ///< bytes of an unfinished character are held

private:
  const Tokenizer *tokenizer_;
  bool skip_special_;
  TokenTextStream stream_;
};

} // namespace millrace
