#include "elements/http/http_text_job.hpp"

#include "engine/json_text.hpp"
#include "engine/model/chat_prompt.hpp"

namespace millrace
{

namespace
{

constexpr size_t kMaxTextJobs = 64; ///< that wait

} // namespace

void
HttpService::TextJob::tokenize (const Model &model)
{
  const auto tokens = model.tokenizer->encode (
      request_.text, {.add_special_tokens = request_.add_special, .parse_special = request_.parse_special});
  body_ = "{\"tokens\":[";
  for (size_t i = 0; i < tokens.size (); i++) {
    body_ += i ? "," : "";
    if (!request_.with_pieces) {
      body_ += std::to_string (tokens[i]);
      continue;
    }
    body_ += "{\"id\":" + std::to_string (tokens[i]) + ",\"piece\":";
    const std::string_view bytes = model.tokenizer->token_bytes (tokens[i]);
    size_t offset = 0;
    if (valid_utf8 (bytes, &offset)) {
      append_json_string (body_, bytes);
    } else { // a part of a character
      body_ += "[";
      for (size_t j = 0; j < bytes.size (); j++)
        body_ += (j ? "," : "") + std::to_string (static_cast<unsigned char> (bytes[j]));
      body_ += "]";
    }
    body_ += "}";
  }
  body_ += "],\"count\":" + std::to_string (tokens.size ()) +
           ",\"max_model_len\":" + std::to_string (model.spec.max_positions) + "}";
}

void
HttpService::TextJob::detokenize (const Model &model)
{
  for (size_t i = 0; i < request_.tokens.size (); i++) {
    if (request_.tokens[i] < 0 || request_.tokens[i] >= model.spec.vocab) {
      error_ = invalid_request ("tokens", "entry " + std::to_string (i) + " is no token of this model");
      return;
    }
  }
  const std::string text = model.tokenizer->decode (request_.tokens);
  body_ = "{\"content\":";
  append_json_string (body_, text);
  body_ += ",\"prompt\":";
  append_json_string (body_, text);
  body_ += "}";
}

void
HttpService::TextJob::apply_template (const Model &model)
{
  Request request;
  PromptInput input;
  if (const auto problem = parse_request (request_.chat_json, request, input)) {
    error_ = api_error (problem, 0);
    return;
  }
  try {
    const std::string text = render_chat (model, input.messages_json, input.tools_json,
                                          g_get_real_time () / G_USEC_PER_SEC, input.kwargs_json);
    body_ = "{\"prompt\":";
    append_json_string (body_, text);
    body_ += "}";
  } catch (const ChatTemplateError &error) {
    error_ = invalid_request ("messages", std::string ("chat template: ") + error.what ());
  }
}

void
HttpService::TextJob::work (const Model &model)
{
  try {
    if (route_ != TextRoute::kApplyTemplate && !model.tokenizer)
      error_ = invalid_request ("", "the model has no tokenizer.json");
    else if (route_ == TextRoute::kApplyTemplate && !model.chat_template)
      error_ = invalid_request ("messages", "the model has no chat template");
    else if (route_ == TextRoute::kTokenize)
      tokenize (model);
    else if (route_ == TextRoute::kDetokenize)
      detokenize (model);
    else
      apply_template (model);
  } catch (const std::exception &error) {
    error_ = {.status = 500, .type = "server_error", .code = "internal", .message = error.what ()};
  }
}

void
HttpService::TextJob::run_in_server ()
{
  if (error_)
    exchange_->answer_error (Dialect::kChat, error_);
  else
    exchange_->answer (200, "application/json", std::move (body_));
}

void
HttpService::text_route (const std::shared_ptr<HttpExchange> &exchange)
{
  const TextRoute route = exchange->path () == "/tokenize"     ? TextRoute::kTokenize
                          : exchange->path () == "/detokenize" ? TextRoute::kDetokenize
                                                               : TextRoute::kApplyTemplate;
  TextRequest request;
  if (const auto error = parse_text_request (route, exchange->body (), limits (), request))
    return exchange->answer_error (Dialect::kChat, error);
  auto job = std::make_shared<TextJob> (exchange, route, std::move (request));
  std::unique_lock lock (text_mutex_);
  if (text_jobs_.size () >= kMaxTextJobs) {
    lock.unlock ();
    return exchange->answer_error (Dialect::kChat, {.status = 429,
                                                    .type = "rate_limit_error",
                                                    .code = "queue_full",
                                                    .message = "too many requests for text wait already",
                                                    .retry_after_ms = 1000});
  }
  exchange->wait ();
  text_jobs_.push_back (std::move (job));
  text_work_.notify_one ();
}

void
HttpService::run_text_jobs ()
{
  for (;;) {
    std::shared_ptr<TextJob> job;
    {
      std::unique_lock lock (text_mutex_);
      text_work_.wait (lock, [&] { return text_stop_ || !text_jobs_.empty (); });
      if (text_stop_) {
        text_jobs_.clear ();
        return;
      }
      job = std::move (text_jobs_.front ());
      text_jobs_.pop_front ();
    }
    job->work (*model_);
    server_.tasks ()->add (std::move (job));
  }
}

} // namespace millrace
