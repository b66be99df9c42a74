// What /metrics shows: vLLM's names and buckets where the meaning is the same, so that dashboards for it work.
//
// Any thread.
#pragma once

#include "engine/scheduling/request.hpp"

#include <gst/gst.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <map>
#include <mutex>
#include <string>

namespace millrace
{

class HttpMetrics
{
public:
  /// `model` is the label model_name of every series.
  explicit HttpMetrics (const std::string &model);

  void first_token (int64_t since_arrival_us);
  void next_token (int64_t since_last_us);
  void finished (FinishReason finish, int64_t total_us, int prompt_tokens, int completion_tokens,
                 int64_t queued_us, int64_t first_token_us);
  void answered (const std::string &route, int status);
  void slow_client ();
  /// Text has reached the socket.
  void delivered (int64_t since_it_came_us);

  /// The whole page, in Prometheus' text format. `scheduler` (may be null) is the scheduler's statistics.
  std::string page (const GstStructure *scheduler, int connections, int active);

private:
  using Labels = prometheus::Labels;
  prometheus::Gauge &gauge (const char *name, const char *help);
  prometheus::Counter &counter (const char *name, const char *help, const Labels &more = {});
  prometheus::Histogram &histogram (const char *name, const char *help,
                                    const prometheus::Histogram::BucketBoundaries &buckets);
  void follow (prometheus::Counter &counter, const GstStructure *structure, const char *field,
               double unit = 1);
  void follow_drafting (const GstStructure *scheduler);

  prometheus::Registry registry_;
  const Labels labels_;
  prometheus::Histogram &first_token_, &inter_token_, &per_token_, &total_, &queue_, &prefill_, &decode_;
  prometheus::Histogram &prompt_, &generation_, &delivery_;
  prometheus::Counter &prompt_tokens_, &generation_tokens_, &slow_clients_;
  prometheus::Gauge &running_, &waiting_, &kv_usage_, &connections_, &active_;
  prometheus::Counter &cache_queries_, &cache_hits_, &preemptions_, &drafted_, &accepted_;
  prometheus::Counter &draft_attempts_, &drafting_time_, &verifying_time_;
  prometheus::Gauge &saved_time_;
  prometheus::Counter &steps_;
  std::array<prometheus::Counter *, 6> by_reason_{};
  prometheus::Family<prometheus::Counter> &responses_;
  std::mutex page_mutex_;
};

} // namespace millrace
