// OpenAI's text_completion
#include "engine/api/json_append.hpp"
#include "engine/api/openai_writer.hpp"
#include "engine/api/writers.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

/// Four lists side by side, as this dialect has them.
struct Logprobs {
  std::string tokens, values, top, offsets; ///< entries with commas between them
  int64_t offset = 0;                       ///< characters before the next token

  void append (std::span<const TokenText> added);
  void append_to (std::string &out) const;
};

void
append_top (std::string &out, const TokenText &token)
{
  auto append = [&out, first = true] (const TokenText &entry) mutable {
    out += first ? "" : ",";
    first = false;
    append_json_string (out, entry.text);
    out += ':';
    append_logprob (out, entry.logprob);
  };
  // An object has a name once: of tokens that look the same, the best.
  out += '{';
  for (size_t i = 0; i < token.top.size (); i++) {
    const auto same = [&] (const TokenText &before) { return before.text == token.top[i].text; };
    const auto here = token.top.begin () + static_cast<ptrdiff_t> (i);
    if (std::none_of (token.top.begin (), here, same))
      append (token.top[i]);
  }
  const auto chosen = [&] (const TokenText &entry) { return entry.text == token.text; };
  if (std::none_of (token.top.begin (), token.top.end (), chosen))
    append (token);
  out += '}';
}

void
Logprobs::append (std::span<const TokenText> added)
{
  for (const TokenText &token : added) {
    if (!tokens.empty ()) {
      for (std::string *const list : {&tokens, &values, &top, &offsets})
        *list += ',';
    }
    append_json_string (tokens, token.text);
    append_logprob (values, token.logprob);
    append_top (top, token);
    append_integer (offsets, offset);
    offset +=
        std::count_if (token.text.begin (), token.text.end (), [] (char c) { return (c & 0xC0) != 0x80; });
  }
}

void
Logprobs::append_to (std::string &out) const
{
  out += ",\"logprobs\":{\"tokens\":[" + tokens + "],\"token_logprobs\":[" + values + "],\"top_logprobs\":[" +
         top + "],\"text_offset\":[" + offsets + "]}";
}

class CompletionWriter final : public OpenAiWriter
{
public:
  CompletionWriter (const ApiRequest &request, const ReplyIdentity &identity)
      : OpenAiWriter (request, identity, "cmpl-", "text_completion", "text_completion")
      , logprobs_ (request.logprobs ? generations_.size () : 0)
  {
  }

  void begin (std::string &out) override
  {
    if (!request_.stream || request_.echoes.empty ())
      return;
    for (size_t i = 0; i < generations_.size (); i++) {
      open_event (static_cast<int> (i), out);
      append_text (echo (i), "", out);
      out += ",\"logprobs\":null";
      close_event (FinishReason::kNone, out);
    }
  }

protected:
  void write_piece (const Piece &piece, std::string &out) override
  {
    open_event (piece.index, out);
    append_text (piece.content, "", out);
    if (piece.tokens.empty ()) {
      out += ",\"logprobs\":null";
    } else {
      Logprobs now;
      Logprobs &all = logprobs_[static_cast<size_t> (piece.index)];
      now.offset = all.offset;
      now.append (piece.tokens);
      now.append_to (out);
      all.offset = now.offset;
    }
    close_event (FinishReason::kNone, out);
  }

  void append_last_text (std::string &out) const override { out += ",\"text\":\"\""; }

  void append_choice (size_t index, std::string &out) const override
  {
    append_text (echo (index), generations_[index].content, out);
    if (request_.logprobs)
      logprobs_[index].append_to (out);
    else
      out += ",\"logprobs\":null";
  }

  void collect_tokens (const Piece &piece) override
  {
    if (request_.logprobs)
      logprobs_[static_cast<size_t> (piece.index)].append (piece.tokens);
  }

private:
  std::string_view echo (size_t index) const
  {
    const size_t prompt = index / static_cast<size_t> (request_.choices);
    return prompt < request_.echoes.size () ? std::string_view (request_.echoes[prompt])
                                            : std::string_view ();
  }

  static void append_text (std::string_view echo, std::string_view text, std::string &out)
  {
    out += ",\"text\":";
    append_json_string (out, echo);
    if (text.empty ())
      return;
    out.pop_back ();
    const size_t quote = out.size ();
    append_json_string (out, text);
    out.erase (quote, 1);
  }

  std::vector<Logprobs> logprobs_;
};

} // namespace

std::unique_ptr<ReplyWriter>
make_completion_writer (const ApiRequest &request, const ReplyIdentity &identity)
{
  return std::make_unique<CompletionWriter> (request, identity);
}

} // namespace millrace
