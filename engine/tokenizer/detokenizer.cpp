#include "engine/tokenizer/detokenizer.hpp"

namespace millrace
{

Detokenizer::Detokenizer (const Tokenizer &tokenizer, bool skip_special)
    : tokenizer_ (&tokenizer)
    , skip_special_ (skip_special)
{
}

void
Detokenizer::push (TokenId token, std::string &out)
{
  if (skip_special_ && tokenizer_->is_special (token))
    return;
  // Ids without a token add nothing, not even a separator.
  if (!tokenizer_->is_known (token))
    return;
  if (started_)
    decoder_.push (tokenizer_->separator (), out);
  started_ = true;
  decoder_.push (tokenizer_->token_bytes (token), out);
}

void
Detokenizer::finish (std::string &out)
{
  decoder_.finish (out);
  started_ = false;
}

} // namespace millrace
