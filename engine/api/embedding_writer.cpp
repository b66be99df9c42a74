// OpenAI's list of embeddings
#include "engine/api/json_append.hpp"
#include "engine/api/writers.hpp"

#include <bit>

namespace millrace
{

namespace
{

void
append_base64 (std::string &out, std::span<const float> values)
{
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint32_t bits = 0;
  int count = 0; // of bits that wait
  size_t digits = 0;
  for (const float value : values) {
    const auto word = std::bit_cast<uint32_t> (value);
    for (int shift = 0; shift < 32; shift += 8) { // little endian, as clients expect
      bits = bits << 8 | (word >> shift & 255);
      for (count += 8; count >= 6; count -= 6, digits++)
        out += kDigits[bits >> (count - 6) & 63];
    }
  }
  if (count > 0) {
    out += kDigits[bits << (6 - count) & 63];
    digits++;
  }
  out.append ((4 - digits % 4) % 4, '=');
}

class EmbeddingWriter final : public ReplyWriter
{
public:
  EmbeddingWriter (const ApiRequest &request, const ReplyIdentity &)
      : model_ (request.model)
      , base64_ (request.base64)
      , entries_ (request.generations.size ())
      , done_ (request.generations.size (), false)
      , unfinished_ (request.generations.size ())
  {
  }

  const char *content_type () const override { return "application/json"; }
  void begin (std::string &) override {}
  bool ended () const override { return unfinished_ == 0; }
  void abort (const ApiError &, std::string &) override { unfinished_ = 0; }
  std::string_view keep_alive () const override { return ""; }

  void deliver (const GenerationDelta &delta, std::string &out) override
  {
    if (ended () || delta.finish == FinishReason::kNone || delta.index < 0 ||
        static_cast<size_t> (delta.index) >= entries_.size ())
      return;
    const auto index = static_cast<size_t> (delta.index);
    if (done_[index])
      return;
    if (delta.finish == FinishReason::kError) {
      unfinished_ = 0;
      return;
    }
    done_[index] = true;
    prompt_tokens_ += delta.usage.prompt_tokens;
    write_entry (delta.embedding, entries_[index]);
    if (--unfinished_ == 0)
      write_body (out);
  }

private:
  void write_entry (std::span<const float> embedding, std::string &out) const
  {
    if (base64_) {
      out += '"';
      append_base64 (out, embedding);
      out += '"';
      return;
    }
    out += '[';
    for (size_t i = 0; i < embedding.size (); i++) {
      out += i ? "," : "";
      append_float (out, embedding[i]);
    }
    out += ']';
  }

  void write_body (std::string &out) const
  {
    out += "{\"object\":\"list\",\"data\":[";
    for (size_t i = 0; i < entries_.size (); i++) {
      out += i ? ",{\"object\":\"embedding\",\"index\":" : "{\"object\":\"embedding\",\"index\":";
      append_integer (out, static_cast<int64_t> (i));
      out += ",\"embedding\":" + entries_[i] + "}";
    }
    out += "],\"model\":";
    append_json_string (out, model_);
    out += ",\"usage\":{\"prompt_tokens\":";
    append_integer (out, prompt_tokens_);
    out += ",\"total_tokens\":";
    append_integer (out, prompt_tokens_);
    out += "}}";
  }

  const std::string model_;
  const bool base64_;
  std::vector<std::string> entries_;
  std::vector<bool> done_;
  size_t unfinished_;
  int64_t prompt_tokens_ = 0;
};

} // namespace

std::unique_ptr<ReplyWriter>
make_embedding_writer (const ApiRequest &request, const ReplyIdentity &identity)
{
  return std::make_unique<EmbeddingWriter> (request, identity);
}

} // namespace millrace
