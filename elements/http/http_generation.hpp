// An HTTP request's generations: hears from the pipeline what becomes of them, and answers its client.
//
// The pipeline's side (Reply) may be called from any thread: it formats into an outbox and wakes the server, which
// sends. A client that leaves cancels its generations; one that reads too slowly holds them, and is let go in the end.
#pragma once

#include "elements/http/http_exchange.hpp"
#include "engine/api/reply_writer.hpp"
#include "library/ref.hpp"
#include "library/reply.hpp"

#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace millrace
{

class HttpMetrics;

/// A request on its way into the pipeline: the body of a buffer on the link to llmprompt, and what goes with it.
struct HttpJob {
  Ref<MillraceRequest> request;
  std::string json;
};

/// The pipeline, as the server's thread sees it. Any thread.
class HttpPipeline
{
public:
  virtual ~HttpPipeline () = default;
  /// False when too much waits already; the jobs are then left alone.
  virtual bool submit (std::vector<HttpJob> &jobs) = 0;
  /// Whether a request gets rows; wakes the scheduler.
  virtual void hold (MillraceRequest *request, bool held) = 0;
  /// The scheduler's statistics; transfer full, null when there is no scheduler.
  virtual GstStructure *statistics () = 0;
};

/// Does not keep a request alive: the pipeline does, and a request that it drops must be able to say so.
class WeakRequest
{
public:
  explicit WeakRequest (MillraceRequest *request) { g_weak_ref_init (&reference_, request); }
  ~WeakRequest () { g_weak_ref_clear (&reference_); }
  WeakRequest (const WeakRequest &) = delete;
  WeakRequest &operator= (const WeakRequest &) = delete;
  Ref<MillraceRequest> get () const
  {
    return Ref<MillraceRequest>::adopt (static_cast<MillraceRequest *> (g_weak_ref_get (&reference_)));
  }

private:
  mutable GWeakRef reference_;
};

struct GenerationLimits {
  size_t buffer_bytes = 256 << 10;    ///< unsent text of a stream at which it is held
  int slow_client_timeout_ms = 30000; ///< a held client must take a byte at least this often
  int keep_alive_ms = 700;            ///< of silence in a stream; a tick later something is sent
};

class HttpGeneration final : public Reply,
                             public ServerTask,
                             public std::enable_shared_from_this<HttpGeneration>
{
public:
  // Server's thread.
  HttpGeneration (const std::shared_ptr<HttpExchange> &exchange, ApiRequest request,
                  const GenerationLimits &limits, HttpPipeline &pipeline, HttpMetrics &metrics);
  /// Sends the generations into the pipeline and waits. False: an error has been answered.
  bool start ();
  void tick (int64_t now_us);
  /// Ends it with an error, unless it has ended.
  void abort (const ApiError &error);
  /// The client is gone, or somebody else wants it to end: its generations end with `cancelled`.
  void cancel ();
  bool over () const { return over_; } ///< the client has all of its answer, or is gone
  /// The server is gone: what the pipeline still says is not heard.
  void detach ();
  bool in_pipeline () const; ///< any thread; some generation has not ended
  const std::string &id () const { return id_; }
  /// Ids are the clients' and may come twice; this tells whose generation it is.
  bool answers (const HttpExchange &exchange) const { return exchange_.get () == &exchange; }

  // Any thread.
  void accepted (int index) override;
  void deliver (const GenerationDelta &delta) override;
  void abandoned (int index) override;
  void run_in_server () override;

  /// For the log.
  struct Summary {
    int prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    int64_t first_token_us = 0; ///< since the request's arrival; 0: there was none
    std::string finish, error_code;
  };
  Summary summary () const;

private:
  /// With the lock held: whether the server's thread is to be woken, once the lock is let go of.
  bool must_wake () { return !std::exchange (woken_, true); }
  void wake () { tasks_->add (shared_from_this ()); }
  void begin ();
  /// A stream whose status is 200 and cannot change any more: all of its generations were accepted.
  bool open () const
  {
    return request_.stream && accepted_ == static_cast<int> (request_.generations.size ());
  }
  void fail (const ApiError &error);
  void hold (bool held);
  void flush ();
  bool take (const GenerationDelta &delta);
  void note_times (const GenerationDelta &delta, int64_t now);

  const std::shared_ptr<HttpExchange> exchange_;
  const ApiRequest request_;
  const GenerationLimits limits_;
  HttpPipeline &pipeline_;
  HttpMetrics &metrics_;
  const std::shared_ptr<ServerTasks> tasks_;
  const std::string id_;
  const int64_t received_us_;

  // Server's thread.
  std::vector<std::unique_ptr<WeakRequest>> requests_;
  bool over_ = false, held_ = false;
  int64_t last_sent_us_ = 0, stuck_since_us_ = 0;
  int64_t handed_over_us_ = 0; ///< when the oldest text came that libsoup has and the socket has not; 0: none
  int64_t most_taken_ = 0;     ///< HttpExchange::taken (), at most

  mutable std::mutex mutex_;
  std::unique_ptr<ReplyWriter> writer_;
  std::string outbox_;
  ApiError error_; ///< to answer with, when nothing has been sent
  bool begun_ = false, ended_ = false, woken_ = false, detached_ = false;
  int64_t formatted_us_ = 0; ///< when the oldest text in the outbox came; 0: none
  int accepted_ = 0;
  int pending_ = 0; ///< generations without an end
  struct Times {
    int64_t first_us = 0, last_us = 0;
    bool done = false;
  };
  std::vector<Times> times_;
  Summary summary_;
};

} // namespace millrace
