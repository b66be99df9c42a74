// Routes that tell something about the server: models, runtime, health, readiness, metrics.
#include "elements/http/http_openapi.hpp"
#include "elements/http/http_service.hpp"
#include "engine/clock.hpp"
#include "engine/json_text.hpp"
#include "engine/tensor/thread_pool.hpp"

#include <cstdio>
#include <unistd.h>

namespace millrace
{

namespace
{

constexpr int64_t kFreshUs = 10'000'000;        ///< a step this recent is proof enough
constexpr int64_t kProbeTimeoutUs = 10'000'000; ///< a probe that takes longer has failed

std::string
json_string (std::string_view text)
{
  std::string out;
  append_json_string (out, text);
  return out;
}

} // namespace

/// A request for one token that nobody sent: whether it comes back says whether the pipeline works.
class HttpService::Probe final : public Reply
{
public:
  void accepted (int) override {}
  void deliver (const GenerationDelta &delta) override
  {
    if (delta.finish == FinishReason::kNone)
      return;
    const bool busy = delta.error && std::string_view (delta.error->code) == "queue_full"; // and so it works
    state_ = delta.finish == FinishReason::kError && !busy ? State::kFailed : State::kDone;
  }
  void abandoned (int) override { state_ = State::kFailed; }

  enum class State { kWaiting, kDone, kFailed };
  State state () const { return state_; }
  int64_t started_us = steady_now_us ();

private:
  std::atomic<State> state_{State::kWaiting};
};

std::string
HttpService::model_json () const
{
  return "{\"id\":" + json_string (settings_.model_names.front ()) +
         ",\"object\":\"model\",\"created\":" + std::to_string (created_) +
         ",\"owned_by\":\"millrace\",\"max_model_len\":" + std::to_string (model_->spec.max_positions) + "}";
}

void
HttpService::list_models (const std::shared_ptr<HttpExchange> &exchange)
{
  exchange->answer (200, "application/json", "{\"object\":\"list\",\"data\":[" + model_json () + "]}");
}

void
HttpService::show_model (const std::shared_ptr<HttpExchange> &exchange)
{
  constexpr std::string_view kPrefix = "/v1/models/";
  const std::string_view wanted = exchange->path ().substr (kPrefix.size ());
  for (const auto &name : settings_.model_names) {
    if (name == wanted)
      return exchange->answer (200, "application/json", model_json ());
  }
  exchange->answer_error (
      Dialect::kChat, {.status = 404,
                       .type = "not_found_error",
                       .code = "model_not_found",
                       .param = "model",
                       .message = "this server has no such model; it has " + settings_.model_names.front ()});
}

void
HttpService::list_tags (const std::shared_ptr<HttpExchange> &exchange)
{
  const std::string name = json_string (settings_.model_names.front ());
  GDateTime *created = g_date_time_new_from_unix_utc (created_);
  g_autofree char *modified = g_date_time_format_iso8601 (created);
  g_date_time_unref (created);
  exchange->answer (
      200, "application/json",
      "{\"models\":[{\"name\":" + name + ",\"model\":" + name + ",\"modified_at\":" + json_string (modified) +
          ",\"size\":" + std::to_string (model_->compiled->weight_bytes ()) +
          ",\"details\":{\"format\":\"safetensors\",\"family\":" + json_string (model_->spec.family) +
          "}}]}");
}

void
HttpService::show_runtime (const std::shared_ptr<HttpExchange> &exchange)
{
  const auto &spec = model_->spec;
  std::string out =
      "{\"model\":" + json_string (settings_.model_names.front ()) +
      ",\"architecture\":" + json_string (spec.family) +
      ",\"layers\":" + std::to_string (spec.layers.size ()) +
      ",\"hidden_size\":" + std::to_string (spec.hidden) + ",\"vocab_size\":" + std::to_string (spec.vocab) +
      ",\"weight_bytes\":" + std::to_string (model_->compiled->weight_bytes ()) +
      ",\"backend\":" + json_string (model_->compiled->description ()) + ",\"backend_choice\":" +
      json_string ("the best instruction set of this host; MILLRACE_ISA chooses another") +
      ",\"cpu\":{\"features\":[";
  bool first = true;
#if defined(__x86_64__)
  const std::pair<const char *, bool> features[] = {{"avx2", __builtin_cpu_supports ("avx2")},
                                                    {"fma", __builtin_cpu_supports ("fma")},
                                                    {"avx512f", __builtin_cpu_supports ("avx512f")},
                                                    {"avx512bw", __builtin_cpu_supports ("avx512bw")},
                                                    {"avx512vnni", __builtin_cpu_supports ("avx512vnni")}};
  for (const auto &[name, has] : features) {
    if (has)
      out += std::exchange (first, false) ? json_string (name) : "," + json_string (name);
  }
#endif
  out += "],\"usable_cores\":" + std::to_string (usable_cores ()) + "}";
  GstStructure *statistics = pipeline_.statistics ();
  if (statistics) {
    const auto number = [&] (const char *field) {
      int value = 0;
      gst_structure_get_int (statistics, field, &value);
      return std::to_string (value);
    };
    out += ",\"kv\":{\"block_tokens\":" + std::to_string (kBlockTokens) +
           ",\"blocks\":" + number ("kv-blocks") + ",\"used\":" + number ("kv-blocks-used") +
           ",\"free\":" + number ("kv-blocks-free") + ",\"cached\":" + number ("kv-blocks-cached") +
           "},\"running\":" + number ("running") + ",\"queued\":" + number ("queued");
    gst_structure_free (statistics);
  }
  out += ",\"chat_template\":" + std::string (model_->chat_template ? "true" : "false") +
         ",\"limits\":{\"context_tokens\":" + std::to_string (spec.max_positions) +
         ",\"body_bytes\":" + std::to_string (settings_.server.max_body_bytes) +
         ",\"connections\":" + std::to_string (settings_.server.max_connections) +
         ",\"requests_per_minute\":" + std::to_string (settings_.access.requests_per_minute) +
         ",\"concurrent_requests\":" + std::to_string (settings_.access.max_concurrent) + "}}";
  exchange->answer (200, "application/json", std::move (out));
}

void
HttpService::openapi (const std::shared_ptr<HttpExchange> &exchange)
{
  exchange->answer (200, "application/yaml", std::string (kOpenApi));
}

void
HttpService::metrics (const std::shared_ptr<HttpExchange> &exchange)
{
  GstStructure *statistics = pipeline_.statistics ();
  std::string page = metrics_.page (statistics, server_.connections (), concurrent (nullptr));
  if (statistics)
    gst_structure_free (statistics);
  exchange->answer (200, "text/plain; version=0.0.4; charset=utf-8", std::move (page));
}

// --- health -------------------------------------------------------------------------------------

void
HttpService::health (const std::shared_ptr<HttpExchange> &exchange)
{
  exchange->answer (200, "application/json", draining_ ? "{\"status\":\"draining\"}" : "{\"status\":\"ok\"}");
}

void
HttpService::ready (const std::shared_ptr<HttpExchange> &exchange)
{
  if (draining_)
    return exchange->answer_error (Dialect::kChat, {.status = 503,
                                                    .type = "server_error",
                                                    .code = "draining",
                                                    .message = "the server is shutting down"});
  if (last_success_us_ > 0 && steady_now_us () - last_success_us_ < kFreshUs)
    return exchange->answer (200, "application/json", "{\"status\":\"ready\"}");
  exchange->wait ();
  waiting_for_probe_.push_back (exchange);
  if (probe_)
    return;
  probe_ = std::make_shared<Probe> ();
  auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
  Request &engine = engine_request (request.get ());
  engine.id = "ready-" + std::to_string (engine.serial);
  set_reply (request.get (), probe_, 0);
  std::vector<HttpJob> jobs;
  jobs.push_back ({std::move (request),
                   "{\"tokens\":[0],\"max_tokens\":1,\"temperature\":0,\"priority\":\"high\","
                   "\"ignore_eos\":true}"});
  pipeline_.submit (jobs); // when refused it is abandoned at once
}

void
HttpService::settle_probe (int64_t now)
{
  if (!probe_)
    return;
  const bool late = now - probe_->started_us > kProbeTimeoutUs;
  if (probe_->state () == Probe::State::kWaiting && !late)
    return;
  const bool works = probe_->state () == Probe::State::kDone;
  if (works)
    last_success_us_ = now;
  probe_.reset ();
  for (const auto &exchange : std::exchange (waiting_for_probe_, {})) {
    if (works)
      exchange->answer (200, "application/json", "{\"status\":\"ready\"}");
    else
      exchange->answer_error (Dialect::kChat, {.status = 503,
                                               .type = "server_error",
                                               .code = "not_ready",
                                               .message = late ? "a request for one token did not end in time"
                                                               : "a request for one token failed"});
  }
}

// --- log ----------------------------------------------------------------------------------------

void
HttpService::log (const HttpExchange &exchange, const HttpGeneration *generation)
{
  if (!settings_.log_requests)
    return;
  GDateTime *now = g_date_time_new_now_utc ();
  g_autofree char *time = g_date_time_format_iso8601 (now);
  g_date_time_unref (now);
  std::string line = "{\"time\":" + json_string (time) + ",\"id\":" + json_string (exchange.id ()) +
                     ",\"client\":" + json_string (exchange.client ()) + ",\"method\":" +
                     json_string (valid_utf8 (exchange.method ()) ? exchange.method () : "?") +
                     ",\"path\":" + json_string (valid_utf8 (exchange.path ()) ? exchange.path () : "?") +
                     ",\"status\":" + std::to_string (exchange.status ()) +
                     ",\"bytes\":" + std::to_string (exchange.sent_bytes ()) +
                     ",\"ms\":" + std::to_string ((steady_now_us () - exchange.received_us ()) / 1000);
  if (generation) {
    const auto summary = generation->summary ();
    line += ",\"prompt_tokens\":" + std::to_string (summary.prompt_tokens) +
            ",\"completion_tokens\":" + std::to_string (summary.completion_tokens) +
            ",\"cached_tokens\":" + std::to_string (summary.cached_tokens) +
            ",\"first_token_ms\":" + std::to_string (summary.first_token_us / 1000) +
            ",\"finish\":" + json_string (summary.finish);
    if (!summary.error_code.empty ())
      line += ",\"error\":" + json_string (summary.error_code);
  }
  if (settings_.log_bodies && valid_utf8 (exchange.body ()))
    line += ",\"body\":" + json_string (exchange.body ());
  line += "}\n";
  std::fwrite (line.data (), 1, line.size (), stderr);
}

} // namespace millrace
