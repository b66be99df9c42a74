#include "library/stream_core.hpp"

#include "library/error.hpp"
#include "library/request.hpp"

#include <utility>

namespace millrace
{

/// The request belongs to the pipeline: were it kept alive here, nobody would learn that the pipeline dropped it.
class StreamCore::WeakRequest
{
public:
  WeakRequest () { g_weak_ref_init (&ref_, nullptr); }
  ~WeakRequest () { g_weak_ref_clear (&ref_); }
  WeakRequest (const WeakRequest &) = delete;
  WeakRequest &operator= (const WeakRequest &) = delete;

  void set (MillraceRequest *request) { g_weak_ref_set (&ref_, request); }
  Ref<MillraceRequest> get ()
  {
    return Ref<MillraceRequest>::adopt (static_cast<MillraceRequest *> (g_weak_ref_get (&ref_)));
  }

private:
  GWeakRef ref_;
};

StreamCore::StreamCore (const std::shared_ptr<ModelPipeline> &pipeline, size_t buffer_bytes)
    : pipeline_ (pipeline)
    , buffer_bytes_ (buffer_bytes)
    , request_ (std::make_unique<WeakRequest> ())
{
}

StreamCore::~StreamCore () = default;

void
StreamCore::start (std::string json)
{
  submitted_us_ = g_get_monotonic_time ();
  if (const auto pipeline = pipeline_.lock ()) {
    if (const auto request = pipeline->submit (std::move (json), shared_from_this ()))
      request_->set (request.get ());
  }
  bool cancelled = false;
  {
    std::lock_guard lock (mutex_);
    cancelled = cancelled_;
  }
  if (cancelled) // before there was a request to speak of
    cancel ();
  update_hold ();
}

// --- the application's side ---------------------------------------------------------------------

void
StreamCore::on_news (std::function<void ()> callback)
{
  std::lock_guard lock (mutex_);
  on_news_ = std::move (callback);
  news_armed_ = static_cast<bool> (on_news_);
}

bool
StreamCore::rearm ()
{
  std::lock_guard lock (mutex_);
  news_armed_ = static_cast<bool> (on_news_);
  return std::exchange (news_missed_, false);
}

bool
StreamCore::set_error (GError **error) const
{
  if (finish_ == FinishReason::kCancelled) {
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "the generation was cancelled");
    return true;
  }
  if (finish_ != FinishReason::kError)
    return false;
  set_gerror (error, error_);
  return true;
}

/// With the lock held, as soon as complete (): nobody else may take what this waiter was told of.
StreamCore::Taken
StreamCore::take_for (Until until)
{
  Taken taken;
  taken.last = until == Until::kNews && text_.empty ();
  if (taken.last || until == Until::kEnd)
    set_error (&taken.error);
  taken.text.swap (text_);
  if (until == Until::kEnd)
    taken.embedding = embedding_;
  return taken;
}

/// Without the lock; takes over the task.
void
StreamCore::answer (GTask *task, Taken taken)
{
  update_hold ();
  if (taken.error)
    g_task_return_error (task, taken.error);
  else if (!taken.embedding.empty ())
    g_task_return_pointer (task, new std::vector<float> (std::move (taken.embedding)),
                           [] (gpointer data) { delete static_cast<std::vector<float> *> (data); });
  else
    g_task_return_pointer (task, taken.last ? nullptr : g_strndup (taken.text.data (), taken.text.size ()),
                           g_free);
  g_object_unref (task);
}

gboolean
StreamCore::on_cancelled (GCancellable *, gpointer data)
{
  auto *task = static_cast<GTask *> (data);
  auto *core = static_cast<std::weak_ptr<StreamCore> *> (g_task_get_task_data (task));
  if (const auto self = core->lock ())
    self->abort_wait (task);
  return G_SOURCE_REMOVE;
}

void
StreamCore::abort_wait (GTask *task)
{
  Waiter waiter;
  {
    std::lock_guard lock (mutex_);
    if (waiter_.task != task)
      return; // answered already
    waiter = std::exchange (waiter_, {});
  }
  g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_CANCELLED, "the wait for text was cancelled");
  g_source_unref (waiter.cancelled);
  g_object_unref (task);
}

bool
StreamCore::wait_async (Until until, GTask *task)
{
  GCancellable *cancellable = g_task_get_cancellable (task);
  Taken taken;
  {
    std::lock_guard lock (mutex_);
    if (waiter_.task)
      return false;
    if (!complete (until)) {
      waiter_ = {task, nullptr, until};
      if (cancellable) {
        g_task_set_task_data (task, new std::weak_ptr<StreamCore> (weak_from_this ()),
                              [] (gpointer data) { delete static_cast<std::weak_ptr<StreamCore> *> (data); });
        waiter_.cancelled = g_cancellable_source_new (cancellable);
        g_source_set_callback (waiter_.cancelled, G_SOURCE_FUNC (on_cancelled), g_object_ref (task),
                               g_object_unref);
        g_source_attach (waiter_.cancelled, g_task_get_context (task));
      }
      return true;
    }
    taken = take_for (until);
  }
  answer (task, std::move (taken));
  return true;
}

char *
StreamCore::wait (Until until, GCancellable *cancellable, GError **error)
{
  const gulong handler =
      cancellable ? g_cancellable_connect (cancellable, G_CALLBACK (+[] (GCancellable *, gpointer data) {
                                             auto *self = static_cast<StreamCore *> (data);
                                             std::lock_guard lock (self->mutex_);
                                             self->changed_.notify_all ();
                                           }),
                                           this, nullptr)
                  : 0;
  Taken taken;
  bool stopped = false;
  {
    std::unique_lock lock (mutex_);
    changed_.wait (lock, [&] { return complete (until) || g_cancellable_is_cancelled (cancellable); });
    stopped = !complete (until);
    if (!stopped)
      taken = take_for (until);
  }
  if (handler)
    g_cancellable_disconnect (cancellable, handler);
  if (stopped) {
    g_cancellable_set_error_if_cancelled (cancellable, error);
    return nullptr;
  }
  update_hold ();
  if (taken.error)
    g_propagate_error (error, taken.error);
  return taken.last || taken.error ? nullptr : g_strndup (taken.text.data (), taken.text.size ());
}

std::vector<float>
StreamCore::embedding ()
{
  std::lock_guard lock (mutex_);
  return embedding_;
}

std::string
StreamCore::take ()
{
  std::string text;
  {
    std::lock_guard lock (mutex_);
    text.swap (text_);
  }
  update_hold ();
  return text;
}

void
StreamCore::cancel ()
{
  {
    std::lock_guard lock (mutex_);
    if (ended_)
      return;
    cancelled_ = true;
  }
  const auto request = request_->get ();
  if (!request)
    return;
  millrace_request_cancel (request.get ());
  if (const auto pipeline = pipeline_.lock ())
    pipeline->cancel (request.get ());
}

/// Without the lock. One thread at a time tells the pipeline, and looks again afterwards: what deliver () and take ()
/// want may cross, and the pipeline must end up with what is true.
void
StreamCore::update_hold ()
{
  for (;;) {
    bool held = false;
    {
      std::lock_guard lock (mutex_);
      held = full ();
      if (telling_hold_ || held == held_)
        return;
      telling_hold_ = true;
    }
    const auto request = request_->get ();
    const auto pipeline = pipeline_.lock ();
    if (request && pipeline)
      pipeline->hold (request.get (), held);
    std::lock_guard lock (mutex_);
    telling_hold_ = false;
    if (!request || !pipeline)
      return; // start () looks again, or nobody needs to know any more
    held_ = held;
  }
}

bool
StreamCore::ended ()
{
  std::lock_guard lock (mutex_);
  return ended_;
}

bool
StreamCore::paused ()
{
  std::lock_guard lock (mutex_);
  return held_ && !ended_;
}

FinishReason
StreamCore::finish ()
{
  std::lock_guard lock (mutex_);
  return finish_;
}

bool
StreamCore::failed (GError **error)
{
  std::lock_guard lock (mutex_);
  return set_error (error);
}

GVariant *
StreamCore::statistics ()
{
  std::lock_guard lock (mutex_);
  GVariantDict dict;
  g_variant_dict_init (&dict, nullptr);
  const auto time = [&] (const char *name, int64_t until) {
    if (until > 0)
      g_variant_dict_insert (&dict, name, "d", static_cast<double> (until - submitted_us_) / 1000);
  };
  g_variant_dict_insert (&dict, "prompt-tokens", "i", usage_.prompt_tokens);
  g_variant_dict_insert (&dict, "completion-tokens", "i", usage_.completion_tokens);
  g_variant_dict_insert (&dict, "cached-tokens", "i", cached_tokens_);
  g_variant_dict_insert (&dict, "accepted-drafts", "i", accepted_drafts_);
  g_variant_dict_insert (&dict, "rejected-drafts", "i", rejected_drafts_);
  g_variant_dict_insert (&dict, "queue-ms", "d", static_cast<double> (queued_us_) / 1000);
  time ("first-text-ms", first_text_us_);
  time ("total-ms", ended_us_);
  return g_variant_ref_sink (g_variant_dict_end (&dict));
}

/// Text as a GVariant string must be: a token may be a part of a character.
static GVariant *
text_variant (const std::string &text)
{
  return g_variant_new_take_string (g_utf8_make_valid (text.data (), static_cast<gssize> (text.size ())));
}

GVariant *
StreamCore::logprobs ()
{
  std::lock_guard lock (mutex_);
  GVariantBuilder list;
  g_variant_builder_init (&list, G_VARIANT_TYPE ("a(isda(isd))"));
  for (const TokenText &token : tokens_) {
    GVariantBuilder top;
    g_variant_builder_init (&top, G_VARIANT_TYPE ("a(isd)"));
    for (const TokenText &other : token.top)
      g_variant_builder_add (&top, "(i@sd)", other.id, text_variant (other.text),
                             static_cast<double> (other.logprob));
    g_variant_builder_add (&list, "(i@sda(isd))", token.id, text_variant (token.text),
                           static_cast<double> (token.logprob), &top);
  }
  return g_variant_ref_sink (g_variant_builder_end (&list));
}

// --- the pipeline's side ------------------------------------------------------------------------

void
StreamCore::accepted (int)
{
}

/// With the lock held.
void
StreamCore::end (FinishReason finish, RequestError error)
{
  ended_ = true;
  ended_us_ = g_get_monotonic_time ();
  finish_ = finish;
  error_ = std::move (error);
}

/// Tells whoever waits. Unlocks.
void
StreamCore::news (std::unique_lock<std::mutex> &lock)
{
  changed_.notify_all ();
  Waiter waiter;
  std::function<void ()> callback;
  Taken taken;
  const bool waited = waiter_.task;
  if (waited && complete (waiter_.until)) {
    waiter = std::exchange (waiter_, {});
    taken = take_for (waiter.until);
  }
  if (!waited || ended_) { // else the text is the waiter's
    if (std::exchange (news_armed_, false))
      callback = on_news_;
    else
      news_missed_ = true;
  }
  lock.unlock ();
  if (waiter.cancelled) {
    g_source_destroy (waiter.cancelled);
    g_source_unref (waiter.cancelled);
  }
  if (waiter.task)
    answer (waiter.task, std::move (taken));
  else
    update_hold ();
  if (callback)
    callback ();
}

void
StreamCore::deliver (const GenerationDelta &delta)
{
  std::unique_lock lock (mutex_);
  if (ended_)
    return;
  if (!delta.text.empty () && first_text_us_ == 0)
    first_text_us_ = g_get_monotonic_time ();
  text_ += delta.text;
  tokens_.insert (tokens_.end (), delta.tokens.begin (), delta.tokens.end ());
  if (delta.finish != FinishReason::kNone) {
    usage_ = delta.usage;
    cached_tokens_ = delta.cached_tokens;
    accepted_drafts_ = delta.accepted_drafts;
    rejected_drafts_ = delta.rejected_drafts;
    queued_us_ = delta.queued_us;
    embedding_.assign (delta.embedding.begin (), delta.embedding.end ());
    end (delta.finish, delta.error ? *delta.error : RequestError{});
  }
  news (lock);
}

void
StreamCore::abandoned (int)
{
  std::unique_lock lock (mutex_);
  if (ended_)
    return;
  if (cancelled_)
    end (FinishReason::kCancelled, {});
  else
    end (FinishReason::kError, {"closed", "", "the model's pipeline stopped before the request had ended"});
  news (lock);
}

} // namespace millrace
