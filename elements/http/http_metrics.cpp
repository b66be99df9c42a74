#include "elements/http/http_metrics.hpp"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

namespace millrace
{

namespace
{

using Buckets = prometheus::Histogram::BucketBoundaries;

// vLLM's (vllm/v1/metrics/loggers.py, documented under "Production metrics").
const Buckets kFirstToken{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                          1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
const Buckets kInterToken{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                          0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
const Buckets kRequest{0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                       30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
const Buckets kDelivery{0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001,
                        0.002,   0.005,  0.01,   0.05,   0.1,    1,       10};
const Buckets kTokens{1,    2,    5,    10,    20,    50,    100,    200,    500,
                      1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};

double
seconds (int64_t us)
{
  return static_cast<double> (us) / 1e6;
}

double
number (const GstStructure *structure, const char *field)
{
  const GValue *value = structure ? gst_structure_get_value (structure, field) : nullptr;
  GValue real = G_VALUE_INIT;
  g_value_init (&real, G_TYPE_DOUBLE);
  return value && g_value_transform (value, &real) ? g_value_get_double (&real) : 0;
}

} // namespace

prometheus::Gauge &
HttpMetrics::gauge (const char *name, const char *help)
{
  return prometheus::BuildGauge ().Name (name).Help (help).Register (registry_).Add (labels_);
}

prometheus::Counter &
HttpMetrics::counter (const char *name, const char *help, const Labels &more)
{
  Labels labels = labels_;
  labels.insert (more.begin (), more.end ());
  return prometheus::BuildCounter ().Name (name).Help (help).Register (registry_).Add (labels);
}

prometheus::Histogram &
HttpMetrics::histogram (const char *name, const char *help, const Buckets &buckets)
{
  return prometheus::BuildHistogram ().Name (name).Help (help).Register (registry_).Add (labels_, buckets);
}

HttpMetrics::HttpMetrics (const std::string &model)
    : labels_{{"model_name", model}}
    , first_token_ (histogram ("vllm:time_to_first_token_seconds", "Arrival to first token", kFirstToken))
    , inter_token_ (
          histogram ("vllm:inter_token_latency_seconds", "Between pieces of an answer", kInterToken))
    , per_token_ (histogram ("vllm:request_time_per_output_token_seconds",
                             "Mean time of a token after the first", kInterToken))
    , total_ (histogram ("vllm:e2e_request_latency_seconds", "Arrival to end", kRequest))
    , queue_ (histogram ("vllm:request_queue_time_seconds", "Arrival to admission", kRequest))
    , prefill_ (histogram ("vllm:request_prefill_time_seconds", "Admission to first token", kRequest))
    , decode_ (histogram ("vllm:request_decode_time_seconds", "First token to end", kRequest))
    , prompt_ (histogram ("vllm:request_prompt_tokens", "Tokens of a prompt", kTokens))
    , generation_ (histogram ("vllm:request_generation_tokens", "Tokens of an answer", kTokens))
    , delivery_ (histogram ("millrace:token_delivery_seconds",
                            "From text at the sink to the client's socket; longer when the client is slow",
                            kDelivery))
    , prompt_tokens_ (counter ("vllm:prompt_tokens_total", "Prompt tokens of ended requests"))
    , generation_tokens_ (counter ("vllm:generation_tokens_total", "Generated tokens of ended requests"))
    , slow_clients_ (counter ("millrace:slow_clients_total", "Clients let go because they did not read"))
    , running_ (gauge ("vllm:num_requests_running", "Requests in the batch"))
    , waiting_ (gauge ("vllm:num_requests_waiting", "Requests that wait for the batch"))
    , kv_usage_ (
          gauge ("vllm:kv_cache_usage_perc", "Share of KV blocks that running requests hold; 1 is all"))
    , connections_ (gauge ("millrace:http_connections", "Open connections"))
    , active_ (gauge ("millrace:http_active_requests", "Generation requests without an end"))
    , cache_queries_ (
          counter ("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache"))
    , cache_hits_ (counter ("vllm:prefix_cache_hits_total", "Prompt tokens found there"))
    , preemptions_ (counter ("vllm:num_preemptions_total", "Requests that lost their KV for a while"))
    , drafted_ (counter ("vllm:spec_decode_num_draft_tokens_total", "Draft tokens that were verified"))
    , accepted_ (counter ("vllm:spec_decode_num_accepted_tokens_total", "Draft tokens that were accepted"))
    , draft_attempts_ (counter ("vllm:spec_decode_num_drafts_total", "Steps of a request with drafts"))
    , drafting_time_ (counter ("millrace:spec_decode_drafting_seconds_total", "Making drafts"))
    , verifying_time_ (
          counter ("millrace:spec_decode_verifying_seconds_total", "What drafts added to steps, estimated"))
    , saved_time_ (gauge ("millrace:spec_decode_saved_seconds",
                          "Steps that drafts made unnecessary, less drafting and verifying, estimated"))
    , steps_ (counter ("millrace:steps_total", "Steps of the decode loop"))
    , responses_ (prometheus::BuildCounter ()
                      .Name ("millrace:http_responses_total")
                      .Help ("Responses by route and status")
                      .Register (registry_))
{
  for (const auto reason : {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled,
                            FinishReason::kTimeout, FinishReason::kError})
    by_reason_[static_cast<size_t> (reason)] = &counter ("vllm:request_success_total", "Ended requests",
                                                         {{"finished_reason", finish_reason_name (reason)}});
}

void
HttpMetrics::first_token (int64_t since_arrival_us)
{
  first_token_.Observe (seconds (since_arrival_us));
}

void
HttpMetrics::next_token (int64_t since_last_us)
{
  inter_token_.Observe (seconds (since_last_us));
}

void
HttpMetrics::finished (FinishReason finish, int64_t total_us, int prompt_tokens, int completion_tokens,
                       int64_t queued_us, int64_t first_token_us)
{
  if (auto *reason = by_reason_[static_cast<size_t> (finish)])
    reason->Increment ();
  total_.Observe (seconds (total_us));
  prompt_tokens_.Increment (prompt_tokens);
  generation_tokens_.Increment (completion_tokens);
  prompt_.Observe (prompt_tokens);
  generation_.Observe (completion_tokens);
  queue_.Observe (seconds (queued_us));
  if (first_token_us <= 0)
    return;
  prefill_.Observe (seconds (std::max<int64_t> (0, first_token_us - queued_us)));
  decode_.Observe (seconds (total_us - first_token_us));
  if (completion_tokens > 1)
    per_token_.Observe (seconds (total_us - first_token_us) / (completion_tokens - 1));
}

void
HttpMetrics::answered (const std::string &route, int status)
{
  Labels labels = labels_;
  labels.insert ({{"route", route}, {"code", std::to_string (status)}});
  responses_.Add (labels).Increment ();
}

void
HttpMetrics::delivered (int64_t since_it_came_us)
{
  delivery_.Observe (seconds (since_it_came_us));
}

void
HttpMetrics::slow_client ()
{
  slow_clients_.Increment ();
}

/// Counters that are kept elsewhere catch up.
void
HttpMetrics::follow (prometheus::Counter &counter, const GstStructure *structure, const char *field,
                     double unit)
{
  const double more = number (structure, field) * unit - counter.Value ();
  if (more > 0)
    counter.Increment (more);
}

/// Of ended requests, as far as times go.
void
HttpMetrics::follow_drafting (const GstStructure *scheduler)
{
  const GValue *value = scheduler ? gst_structure_get_value (scheduler, "drafting") : nullptr;
  if (!value || !GST_VALUE_HOLDS_STRUCTURE (value))
    return;
  const GstStructure *drafting = gst_value_get_structure (value);
  follow (draft_attempts_, drafting, "attempts");
  follow (drafting_time_, drafting, "drafting-time", 1e-9);
  follow (verifying_time_, drafting, "verifying-time", 1e-9);
  saved_time_.Set (number (drafting, "saved-time") * 1e-9);
  const GValue *depths = gst_structure_get_value (drafting, "accepted-at");
  for (guint i = 0; depths && i < gst_value_array_get_size (depths); i++) {
    auto &position =
        counter ("vllm:spec_decode_num_accepted_tokens_per_pos_total",
                 "Draft tokens that were accepted, by depth", {{"position", std::to_string (i)}});
    const auto count = static_cast<double> (g_value_get_int64 (gst_value_array_get_value (depths, i)));
    if (count > position.Value ())
      position.Increment (count - position.Value ());
  }
}

std::string
HttpMetrics::page (const GstStructure *scheduler, int connections, int active)
{
  std::lock_guard lock (page_mutex_);
  connections_.Set (connections);
  active_.Set (active);
  running_.Set (number (scheduler, "running"));
  waiting_.Set (number (scheduler, "queued"));
  const double blocks = number (scheduler, "kv-blocks"), used = number (scheduler, "kv-blocks-used");
  kv_usage_.Set (blocks > 0 ? used / blocks : 0);
  follow (cache_queries_, scheduler, "prefix-lookup-tokens");
  follow (cache_hits_, scheduler, "prefix-hit-tokens");
  follow (preemptions_, scheduler, "preemptions");
  follow (drafted_, scheduler, "drafted-tokens");
  follow (accepted_, scheduler, "accepted-tokens");
  follow (steps_, scheduler, "steps");
  follow_drafting (scheduler);
  std::ostringstream out;
  prometheus::TextSerializer ().Serialize (out, registry_.Collect ());
  return out.str ();
}

} // namespace millrace
