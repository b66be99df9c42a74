// One model of a generator and the pipeline that runs it: what gst-launch-1.0 would run, between an appsrc and a fakesink
// that tells of each buffer.
//
//   appsrc name=source caps=application/json is-live=true format=time ! llmbin name=llm ! queue name=output !
//   fakesink name=sink signal-handoffs=true sync=false async=false enable-last-sample=false
//
// Each request goes in as a buffer of JSON with a MillraceRequest attached, as llmhttpsrc does it, and comes back through
// its Reply. Nobody waits here but start () and stop (), which are for threads that may.
#pragma once

#include "library/ref.hpp"
#include "library/reply.hpp"

#include <millrace/millrace-model.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace millrace
{

/// Any thread may call anything.
class ModelPipeline
{
public:
  explicit ModelPipeline (MillraceModel *model);
  /// Leaves stopping to a thread of its own, for any thread may drop the last reference.
  ~ModelPipeline ();
  ModelPipeline (const ModelPipeline &) = delete;
  ModelPipeline &operator= (const ModelPipeline &) = delete;

  /// Called at most once, from a streaming thread, when the pipeline has failed.
  using OnError = std::function<void (const GError *)>;
  /// Builds the pipeline and starts it; blocks while it allocates and starts threads.
  bool start (OnError on_error, GError **error);
  /// Ends everything that runs, and joins the pipeline's threads; blocks. Idempotent.
  void stop ();
  /// Leaves that to a thread of the library's.
  static void stop_later (std::shared_ptr<ModelPipeline> pipeline);

  /// The request that was made of `json`; weak references to it are how its sender speaks of it later. Null: the
  /// pipeline has stopped, and the reply has been told so.
  Ref<MillraceRequest> submit (std::string json, std::shared_ptr<Reply> reply);
  void hold (MillraceRequest *request, bool held);
  /// Ends it before the next step, also when nothing else would wake the scheduler.
  void cancel (MillraceRequest *request);

  /// Its generator has heard of its failure.
  void mark_failed () { failed_ = true; }
  bool failed () const { return failed_; }

  MillraceModel *model () const { return model_.get (); }
  GstElement *pipeline () const { return pipeline_.get (); }
  /// The scheduler's `stats`; transfer full, null when it has none.
  GstStructure *statistics () const;

private:
  void send (GstStructure *structure);

  Ref<MillraceModel> model_;
  Ref<GstElement> pipeline_, source_;
  Ref<GstPad> pad_; ///< where events enter
  std::mutex stopping_;
  bool stopped_ = false;
  std::atomic<bool> failed_{false};
};

/// Makes sure that GStreamer is there and knows the plug-in: the one in its path, else the one installed beside this library.
bool ensure_elements (GError **error);

} // namespace millrace
