// A generation between the pipeline's sink, which delivers its text, and the application, which takes it when it likes.
//
// Text waits here in one string. What nobody takes makes the request pause once there are more than `buffer_bytes` of it:
// the request is held, which costs other requests nothing. Taking lets it go on. An application waits with a GTask, which
// is answered in the context that it belongs to, or with wait (), or is told by on_news.
//
// Lock: mutex_, never held while calling out. The pipeline's threads only ever deliver; they never wait.
#pragma once

#include "library/model_pipeline.hpp"

#include <gio/gio.h>
#include <millrace/millrace-stream.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace millrace
{

class StreamCore final : public Reply, public std::enable_shared_from_this<StreamCore>
{
public:
  /// What completes a wait: any news, or the end.
  enum class Until { kNews, kEnd };

  /// `buffer_bytes` 0: any number.
  StreamCore (const std::shared_ptr<ModelPipeline> &pipeline, size_t buffer_bytes);
  ~StreamCore () override;

  /// Sends the request; once.
  void start (std::string json);
  /// Called when there is news and no task waits, from the pipeline's threads; at most once until rearm ().
  void on_news (std::function<void ()> callback);
  /// Whether news came since the callback: then it is not called for it.
  bool rearm ();

  /// Takes over `task`, which is answered with a string (kNews: null at the end; kEnd: all of it), a vector of floats when
  /// the request was for an embedding (kEnd), or an error. One task waits at a time: false otherwise, and `task` is as before.
  bool wait_async (Until until, GTask *task);
  /// Blocks. The text, null at the end or with an error.
  char *wait (Until until, GCancellable *cancellable, GError **error);
  std::vector<float> embedding ();

  /// All that waits, without waiting; empty: nothing does.
  std::string take ();
  void cancel ();

  bool ended ();
  bool paused ();
  FinishReason finish ();
  /// False: it ended well, or has not ended. G_IO_ERROR_CANCELLED when it was cancelled.
  bool failed (GError **error);
  GVariant *statistics ();
  GVariant *logprobs ();

  void accepted (int index) override;
  void deliver (const GenerationDelta &delta) override;
  void abandoned (int index) override;

private:
  struct Waiter {
    GTask *task = nullptr;
    GSource *cancelled = nullptr;
    Until until = Until::kNews;
  };

  struct Taken {
    std::string text;
    std::vector<float> embedding;
    GError *error = nullptr; ///< whoever answers with it takes it over
    bool last = false;
  };

  class WeakRequest;

  bool complete (Until until) const { return ended_ || (until == Until::kNews && !text_.empty ()); }
  void end (FinishReason finish, RequestError error);
  void news (std::unique_lock<std::mutex> &lock);
  Taken take_for (Until until);
  void answer (GTask *task, Taken taken);
  bool full () const { return buffer_bytes_ > 0 && text_.size () > buffer_bytes_ && !ended_; }
  void update_hold ();
  void abort_wait (GTask *task);
  static gboolean on_cancelled (GCancellable *cancellable, gpointer data);
  bool set_error (GError **error) const;

  const std::weak_ptr<ModelPipeline> pipeline_;
  const size_t buffer_bytes_;
  std::unique_ptr<WeakRequest> request_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  Waiter waiter_;
  std::function<void ()> on_news_;
  bool news_armed_ = false, news_missed_ = false;
  bool held_ = false, telling_hold_ = false; ///< as the pipeline knows it
  bool ended_ = false, cancelled_ = false;
  FinishReason finish_ = FinishReason::kNone;
  RequestError error_;
  std::vector<float> embedding_;
  std::vector<TokenText> tokens_;
  Usage usage_;
  int cached_tokens_ = 0, accepted_drafts_ = 0, rejected_drafts_ = 0;
  int64_t submitted_us_ = 0, first_text_us_ = 0, ended_us_ = 0, queued_us_ = 0;
};

} // namespace millrace
