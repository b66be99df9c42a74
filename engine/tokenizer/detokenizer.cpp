#include "engine/tokenizer/detokenizer.hpp"

namespace millrace
{

Detokenizer::Detokenizer (const Tokenizer &tokenizer, bool skip_special, bool continues)
    : tokenizer_ (&tokenizer)
    , skip_special_ (skip_special)
    , stream_ (continues)
{
}

void
Detokenizer::push (TokenId token, std::string &out)
{
  if (skip_special_ && tokenizer_->is_special (token))
    return;
  // Ids without a token add nothing, not even a separator.
  if (tokenizer_->is_known (token))
    stream_.push (tokenizer_->texts (), token, out);
}

void
Detokenizer::finish (std::string &out)
{
  stream_.finish (out);
}

} // namespace millrace
