// Ollama's lines and bodies of /api/chat and /api/generate
#include "engine/api/json_append.hpp"
#include "engine/api/text_writer.hpp"
#include "engine/api/writers.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace millrace
{

namespace
{

std::string
rfc3339 (int64_t seconds)
{
  using namespace std::chrono;
  constexpr int64_t kLast = 253402300799; // of the year 9999
  const sys_seconds time{std::chrono::seconds{std::clamp<int64_t> (seconds, 0, kLast)}};
  const auto day = floor<days> (time);
  const year_month_day date{day};
  const hh_mm_ss clock{time - day};
  char text[40];
  std::snprintf (text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int> (date.year ()),
                 static_cast<unsigned> (date.month ()), static_cast<unsigned> (date.day ()),
                 static_cast<int> (clock.hours ().count ()), static_cast<int> (clock.minutes ().count ()),
                 static_cast<int> (clock.seconds ().count ()));
  return text;
}

class OllamaWriter final : public TextWriter
{
public:
  OllamaWriter (const ApiRequest &request, const ReplyIdentity &identity)
      : TextWriter (request, identity)
      , chat_ (request.dialect == Dialect::kOllamaChat)
  {
    head_ = "{\"model\":";
    append_json_string (head_, request.model);
    head_ += ",\"created_at\":\"" + rfc3339 (identity.created) + "\",";
    head_ += chat_ ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"response\":";
  }

  const char *content_type () const override
  {
    return request_.stream ? "application/x-ndjson" : "application/json";
  }

  std::string_view keep_alive () const override { return ""; }

protected:
  void write_piece (const Piece &piece, std::string &out) override
  {
    append_text (piece.content, piece.reasoning, out);
    if (!piece.tokens.empty ()) {
      out += ",\"logprobs\":[";
      append_token_logprobs (out, piece.tokens);
      out += ']';
    }
    out += ",\"done\":false}\n";
  }

  void write_end (int, std::string &out) override
  {
    append_text ("", "", out);
    append_end (out);
    out += '\n';
  }

  void write_last (std::string &) override {}

  void write_error (const ApiError &error, std::string &out) override
  {
    out += error_body (request_.dialect, error) + "\n";
  }

  void write_body (std::string &out) override
  {
    const Generation &generation = generations_.front ();
    append_text (generation.content, generation.reasoning, out);
    if (request_.logprobs)
      out += ",\"logprobs\":[" + generation.logprobs + "]";
    append_end (out);
  }

private:
  void append_text (std::string_view content, std::string_view thinking, std::string &out) const
  {
    out += head_;
    append_json_string (out, content);
    if (!thinking.empty ()) {
      out += ",\"thinking\":";
      append_json_string (out, thinking);
    }
    out += chat_ ? "}" : "";
  }

  /// Durations are in nanoseconds.
  void append_end (std::string &out) const
  {
    const Generation &generation = generations_.front ();
    const auto append = [&out] (const char *name, int64_t value) {
      out += std::string (",\"") + name + "\":";
      append_integer (out, value);
    };
    out += ",\"done\":true,\"done_reason\":";
    append_json_string (out, finish_reason_name (generation.finish));
    append ("total_duration", generation.total_us * 1000);
    append ("load_duration", 0);
    append ("prompt_eval_count", generation.usage.prompt_tokens);
    append ("prompt_eval_duration",
            std::max<int64_t> (0, generation.prompt_us - generation.queued_us) * 1000);
    append ("eval_count", generation.usage.completion_tokens);
    append ("eval_duration", std::max<int64_t> (0, generation.total_us - generation.prompt_us) * 1000);
    out += '}';
  }

  const bool chat_;
  std::string head_;
};

} // namespace

std::unique_ptr<ReplyWriter>
make_ollama_writer (const ApiRequest &request, const ReplyIdentity &identity)
{
  return std::make_unique<OllamaWriter> (request, identity);
}

} // namespace millrace
