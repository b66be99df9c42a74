#include "elements/http/http_generation.hpp"

#include "elements/http/http_metrics.hpp"
#include "engine/clock.hpp"

#include <utility>

namespace millrace
{

namespace
{

ApiError
stopped_error ()
{
  return {.status = 503,
          .type = "server_error",
          .code = "server_stopped",
          .message = "the server's pipeline has stopped before the request ended"};
}

/// What the dialect calls the field that the pipeline calls prompt, messages or tokens.
std::string
prompt_field (Dialect dialect)
{
  switch (dialect) {
  case Dialect::kCompletion:
  case Dialect::kOllamaGenerate:
    return "prompt";
  case Dialect::kEmbedding:
  case Dialect::kResponses:
    return "input";
  case Dialect::kChat:
  case Dialect::kMessages:
  case Dialect::kOllamaChat:
    break;
  }
  return "messages";
}

} // namespace

HttpGeneration::HttpGeneration (const std::shared_ptr<HttpExchange> &exchange, ApiRequest request,
                                const GenerationLimits &limits, HttpPipeline &pipeline, HttpMetrics &metrics)
    : exchange_ (exchange)
    , request_ (std::move (request))
    , limits_ (limits)
    , pipeline_ (pipeline)
    , metrics_ (metrics)
    , tasks_ (exchange->server ().tasks ())
    , id_ (exchange->id ())
    , received_us_ (exchange->received_us ())
    , writer_ (ReplyWriter::create (request_, {id_, g_get_real_time () / G_USEC_PER_SEC}))
    , pending_ (static_cast<int> (request_.generations.size ()))
    , times_ (request_.generations.size ())
{
}

// --- server's thread ----------------------------------------------------------------------------

bool
HttpGeneration::start ()
{
  std::vector<HttpJob> jobs;
  for (size_t i = 0; i < request_.generations.size (); i++) {
    auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
    Request &engine = engine_request (request.get ());
    // Ids of clients may come twice; the pipeline's are its own.
    engine.id = "http-" + std::to_string (engine.serial);
    requests_.push_back (std::make_unique<WeakRequest> (request.get ()));
    jobs.push_back ({std::move (request), request_.generations[i]});
  }
  const auto self = shared_from_this ();
  for (size_t i = 0; i < jobs.size (); i++)
    set_reply (jobs[i].request.get (), self, static_cast<int> (i));
  exchange_->on_gone = [weak = weak_from_this ()] {
    if (const auto self = weak.lock ())
      self->cancel ();
  };
  exchange_->on_written = [weak = weak_from_this ()] {
    const auto self = weak.lock ();
    if (!self)
      return;
    if (self->exchange_->unsent () == 0) {
      if (const int64_t since = std::exchange (self->handed_over_us_, 0); since > 0)
        self->metrics_.delivered (steady_now_us () - since);
    }
    if (self->held_)
      self->flush ();
  };
  last_sent_us_ = steady_now_us ();
  exchange_->wait ();
  if (pipeline_.submit (jobs))
    return true;
  abort ({.status = 429,
          .type = "rate_limit_error",
          .code = "queue_full",
          .message = "the server has as many requests waiting as it allows",
          .retry_after_ms = 1000});
  return false;
}

void
HttpGeneration::abort (const ApiError &error)
{
  {
    std::lock_guard lock (mutex_);
    if (ended_)
      return;
    fail (error);
  }
  flush ();
}

void
HttpGeneration::cancel ()
{
  for (const auto &weak : requests_) {
    if (const auto request = weak->get ())
      millrace_request_cancel (request.get ());
  }
  hold (false); // also wakes a scheduler that waits for it
}

void
HttpGeneration::hold (bool held)
{
  if (std::exchange (held_, held) == held)
    return;
  for (const auto &weak : requests_) {
    if (const auto request = weak->get ())
      pipeline_.hold (request.get (), held);
  }
}

void
HttpGeneration::run_in_server ()
{
  flush ();
}

/// Takes over what is in the outbox; makes a client that does not keep up wait for itself.
void
HttpGeneration::flush ()
{
  if (over_ || exchange_->gone ()) {
    over_ = true;
    return;
  }
  std::string bytes;
  ApiError error;
  bool begun = false, ended = false;
  {
    std::lock_guard lock (mutex_);
    woken_ = false;
    begun = open ();
    if (begun || ended_)
      bytes.swap (outbox_);
    if (handed_over_us_ == 0)
      handed_over_us_ = std::exchange (formatted_us_, 0);
    ended = ended_;
    error = error_;
  }
  if (begun || (request_.stream && ended && !error)) {
    if (!exchange_->answered ())
      exchange_->start_stream (writer_->content_type ());
    if (!bytes.empty ())
      last_sent_us_ = steady_now_us ();
    exchange_->send (std::move (bytes));
    if (ended)
      exchange_->end_stream ();
  } else if (ended && error) {
    exchange_->answer_error (request_.dialect, error);
  } else if (ended) {
    exchange_->answer (200, writer_->content_type (), std::move (bytes));
  }
  if (ended) {
    cancel (); // generations beside one that failed have nowhere to go
    return;
  }
  const size_t unsent = exchange_->unsent ();
  if (!held_ && unsent > limits_.buffer_bytes)
    hold (true);
  else if (held_ && unsent < limits_.buffer_bytes / 2)
    hold (false);
}

void
HttpGeneration::tick (int64_t now)
{
  flush ();
  if (over_ || exchange_->gone ()) {
    over_ = true;
    return;
  }
  if (!exchange_->answered ())
    return;
  // A client that has not taken a byte of what waits for it for too long is as good as gone. What waits is no measure: text
  // may come as fast as it is taken.
  const size_t unsent = exchange_->unsent ();
  const int64_t taken = exchange_->taken ();
  if (unsent == 0 || taken > most_taken_ || stuck_since_us_ == 0)
    stuck_since_us_ = now;
  most_taken_ = std::max (most_taken_, taken);
  if (unsent > 0 && now - stuck_since_us_ > int64_t{limits_.slow_client_timeout_ms} * 1000) {
    metrics_.slow_client ();
    cancel ();
    exchange_->disconnect ();
    return;
  }
  if (!request_.stream || unsent > 0 || now - last_sent_us_ < int64_t{limits_.keep_alive_ms} * 1000)
    return;
  bool silent = false;
  {
    std::lock_guard lock (mutex_);
    silent = open () && !ended_ && outbox_.empty ();
  }
  const std::string_view comment = writer_->keep_alive ();
  if (silent && !comment.empty ()) {
    last_sent_us_ = now;
    exchange_->send (std::string (comment));
  }
}

// --- any thread ---------------------------------------------------------------------------------

/// With the lock held.
void
HttpGeneration::fail (const ApiError &error)
{
  ended_ = true;
  summary_.finish = "error";
  summary_.error_code = error.code;
  if (open ()) {
    begin ();
    writer_->abort (error, outbox_);
  } else {
    error_ = error;
    outbox_.clear ();
  }
}

void
HttpGeneration::detach ()
{
  std::lock_guard lock (mutex_);
  detached_ = true;
}

bool
HttpGeneration::in_pipeline () const
{
  std::lock_guard lock (mutex_);
  return pending_ > 0;
}

HttpGeneration::Summary
HttpGeneration::summary () const
{
  std::lock_guard lock (mutex_);
  return summary_;
}

void
HttpGeneration::accepted (int)
{
  {
    std::lock_guard lock (mutex_);
    if (++accepted_ < static_cast<int> (request_.generations.size ()) || ended_ || detached_)
      return;
    begin ();
    if (!must_wake ())
      return;
  }
  wake ();
}

/// With the lock held. What has come before all generations were accepted is in the outbox.
void
HttpGeneration::begin ()
{
  if (!request_.stream || std::exchange (begun_, true))
    return;
  writer_->begin (outbox_);
}

void
HttpGeneration::note_times (const GenerationDelta &delta, int64_t now)
{
  auto &times = times_[static_cast<size_t> (delta.index)];
  const bool text = !delta.text.empty () || !delta.tokens.empty ();
  if (text && times.first_us == 0) {
    times.first_us = now;
    metrics_.first_token (now - received_us_);
    if (summary_.first_token_us == 0)
      summary_.first_token_us = now - received_us_;
  } else if (text) {
    metrics_.next_token (now - times.last_us);
  }
  if (text)
    times.last_us = now;
  if (delta.finish == FinishReason::kNone)
    return;
  times.done = true;
  pending_--;
  const int share = request_.choices > 0 ? delta.index % request_.choices : 0;
  if (share == 0) {
    summary_.prompt_tokens += delta.usage.prompt_tokens;
    summary_.cached_tokens += delta.cached_tokens;
  }
  summary_.completion_tokens += delta.usage.completion_tokens;
  if (summary_.finish.empty () || delta.finish == FinishReason::kError)
    summary_.finish = finish_reason_name (delta.finish);
  metrics_.finished (delta.finish, now - received_us_, delta.usage.prompt_tokens,
                     delta.usage.completion_tokens, delta.queued_us,
                     times.first_us > 0 ? times.first_us - received_us_ : 0);
}

void
HttpGeneration::deliver (const GenerationDelta &delta)
{
  bool waking = false;
  {
    std::lock_guard lock (mutex_);
    if (!detached_)
      waking = take (delta) && must_wake ();
  }
  if (waking)
    wake ();
}

/// With the lock held. Whether there is something to send.
bool
HttpGeneration::take (const GenerationDelta &delta)
{
  const int64_t now = steady_now_us ();
  note_times (delta, now);
  if (ended_)
    return false;
  if (delta.finish == FinishReason::kError) {
    static const RequestError unknown{"internal", "", "the request failed"};
    const RequestError &error = delta.error && *delta.error ? *delta.error : unknown;
    ApiError answer = api_error (error, delta.retry_after_ms);
    if (answer.param == "prompt" || answer.param == "tokens" || answer.param == "messages")
      answer.param = prompt_field (request_.dialect);
    fail (answer);
    return true;
  }
  if (delta.finish == FinishReason::kTimeout && !open () && summary_.first_token_us == 0) {
    fail ({.status = 408,
           .type = "timeout_error",
           .code = "timeout",
           .param = "timeout_ms",
           .message = "the request's time was over before its first token"});
    return true;
  }
  begin ();
  GenerationDelta timed = delta;
  if (delta.finish != FinishReason::kNone) {
    const auto &times = times_[static_cast<size_t> (delta.index)];
    timed.prompt_us = times.first_us > 0 ? times.first_us - received_us_ : now - received_us_;
    timed.total_us = now - received_us_;
  }
  writer_->deliver (timed, outbox_);
  if (formatted_us_ == 0 && !outbox_.empty ())
    formatted_us_ = now;
  ended_ = writer_->ended ();
  return ended_ || (open () && !outbox_.empty ());
}

void
HttpGeneration::abandoned (int index)
{
  {
    std::lock_guard lock (mutex_);
    times_[static_cast<size_t> (index)].done = true;
    pending_--;
    if (ended_ || detached_)
      return;
    fail (stopped_error ());
    if (!must_wake ())
      return;
  }
  wake ();
}

} // namespace millrace
