#include "library/model_pipeline.hpp"

#include "library/meta.hpp"
#include "library/model_path.hpp"
#include "library/request.hpp"

#include <gst/app/gstappsrc.h>
#include <millrace/millrace-error.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <thread>
#include <utility>

namespace millrace
{

namespace
{

// Not an appsink: it would keep the last buffer, and with it a request that nobody runs any more.
constexpr const char *kPipeline =
    "appsrc name=source caps=application/json is-live=true format=time max-bytes=0 ! llmbin name=llm ! "
    "queue name=output ! fakesink name=sink signal-handoffs=true sync=false async=false "
    "enable-last-sample=false";

GstBuffer *
json_buffer (std::string json)
{
  auto *kept = new std::string (std::move (json));
  return gst_buffer_new_wrapped_full (GST_MEMORY_FLAG_READONLY, kept->data (), kept->size (), 0,
                                      kept->size (), kept,
                                      [] (gpointer data) { delete static_cast<std::string *> (data); });
}

void
on_text (GstElement *sink, GstBuffer *buffer, GstPad *, gpointer)
{
  try {
    deliver_text (buffer);
  } catch (const std::exception &problem) {
    GST_ELEMENT_ERROR (sink, LIBRARY, FAILED, ("%s", problem.what ()), (nullptr));
  }
}

/// What the bus tells; nobody need run a main loop to keep it from filling up.
struct Watch {
  ModelPipeline::OnError on_error;
  std::atomic<bool> told{false};

  void tell (GstMessage *message)
  {
    if (GST_MESSAGE_TYPE (message) != GST_MESSAGE_ERROR || told.exchange (true))
      return;
    GError *error = nullptr;
    gst_message_parse_error (message, &error, nullptr);
    on_error (error);
    g_clear_error (&error);
  }
};

/// Pipelines that threads of their own are stopping. The process waits for them before it takes its globals apart.
class Teardowns
{
public:
  static Teardowns &instance ()
  {
    static auto *teardowns = new Teardowns; // outlives every thread
    return *teardowns;
  }
  template <typename F>
  void run (F &&work)
  {
    {
      std::lock_guard lock (mutex_);
      running_++;
    }
    std::thread ([this, work = std::forward<F> (work)] () mutable {
      work ();
      std::lock_guard lock (mutex_);
      running_--;
      changed_.notify_all ();
    }).detach ();
  }

private:
  Teardowns ()
  {
    std::atexit ([] {
      auto &self = instance ();
      std::unique_lock lock (self.mutex_);
      self.changed_.wait (lock, [&] { return self.running_ == 0; });
    });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int running_ = 0;
};

} // namespace

bool
ensure_elements (GError **error)
{
  if (!gst_is_initialized () && !gst_init_check (nullptr, nullptr, error))
    return false;
  static std::mutex mutex;
  std::lock_guard lock (mutex);
  GstRegistry *registry = gst_registry_get ();
  const auto known = [&] { return gst_registry_check_feature_version (registry, "llmbin", 0, 1, 0); };
  const auto beside = library_folder () / "gstreamer-1.0";
  if (!known ())
    gst_registry_scan_path (registry, beside.c_str ());
  if (known ())
    return true;
  g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL,
               "the GStreamer element llmbin was found neither in GST_PLUGIN_PATH nor in %s",
               beside.c_str ());
  return false;
}

ModelPipeline::ModelPipeline (MillraceModel *model)
    : model_ (Ref<MillraceModel>::share (model))
{
}

ModelPipeline::~ModelPipeline ()
{
  if (!pipeline_ || stopped_)
    return;
  Teardowns::instance ().run ([pipeline = std::move (pipeline_), source = std::move (source_),
                               pad = std::move (pad_), model = std::move (model_)] () mutable {
    gst_element_set_state (pipeline.get (), GST_STATE_NULL);
    pad = nullptr;
    source = nullptr;
    pipeline = nullptr;
    model = nullptr;
  });
}

bool
ModelPipeline::start (OnError on_error, GError **error)
{
  if (!ensure_elements (error))
    return false;
  auto pipeline =
      Ref<GstElement>::adopt (gst_parse_launch_full (kPipeline, nullptr, GST_PARSE_FLAG_FATAL_ERRORS, error));
  if (!pipeline)
    return false;
  gst_object_ref_sink (pipeline.get ());
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model_.get ()));
  gst_element_set_context (pipeline.get (), context.get ());

  auto bin = GST_BIN (pipeline.get ());
  source_ = Ref<GstElement>::adopt (gst_bin_get_by_name (bin, "source"));
  pad_ = Ref<GstPad>::adopt (gst_element_get_static_pad (source_.get (), "src"));
  auto sink = Ref<GstElement>::adopt (gst_bin_get_by_name (bin, "sink"));
  g_signal_connect (sink.get (), "handoff", G_CALLBACK (on_text), nullptr);

  auto bus = Ref<GstBus>::adopt (gst_element_get_bus (pipeline.get ()));
  gst_bus_set_sync_handler (
      bus.get (),
      [] (GstBus *, GstMessage *message, gpointer data) {
        static_cast<Watch *> (data)->tell (message);
        gst_message_unref (message);
        return GST_BUS_DROP;
      },
      new Watch{std::move (on_error)}, [] (gpointer data) { delete static_cast<Watch *> (data); });

  pipeline_ = std::move (pipeline);
  GstState state = GST_STATE_NULL;
  if (gst_element_set_state (pipeline_.get (), GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE &&
      gst_element_get_state (pipeline_.get (), &state, nullptr, GST_CLOCK_TIME_NONE) !=
          GST_STATE_CHANGE_FAILURE)
    return true;
  stop ();
  g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL, "the pipeline of %s does not start",
               millrace_model_get_path (model_.get ()));
  return false;
}

void
ModelPipeline::stop ()
{
  std::lock_guard lock (stopping_);
  if (pipeline_ && !std::exchange (stopped_, true))
    gst_element_set_state (pipeline_.get (), GST_STATE_NULL);
}

void
ModelPipeline::stop_later (std::shared_ptr<ModelPipeline> pipeline)
{
  Teardowns::instance ().run ([pipeline = std::move (pipeline)] () mutable {
    pipeline->stop ();
    pipeline = nullptr;
  });
}

Ref<MillraceRequest>
ModelPipeline::submit (std::string json, std::shared_ptr<Reply> reply)
{
  auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
  Request &engine = engine_request (request.get ());
  // Ids of applications may come twice; the pipeline's are its own.
  engine.id = "app-" + std::to_string (engine.serial);
  set_reply (request.get (), std::move (reply), 0);
  GstBuffer *buffer = json_buffer (std::move (json));
  millrace_buffer_add_request_meta (buffer, request.get (), nullptr);
  if (gst_app_src_push_buffer (GST_APP_SRC (source_.get ()), buffer) != GST_FLOW_OK)
    return nullptr; // the last reference to the request tells the reply
  return request;
}

void
ModelPipeline::send (GstStructure *structure)
{
  gst_pad_push_event (pad_.get (), gst_event_new_custom (GST_EVENT_CUSTOM_BOTH_OOB, structure));
}

void
ModelPipeline::hold (MillraceRequest *request, bool held)
{
  engine_request (request).held = held;
  send (gst_structure_new ("LlmHold", "id", G_TYPE_STRING, millrace_request_get_id (request), "held",
                           G_TYPE_BOOLEAN, static_cast<gboolean> (held), nullptr));
}

void
ModelPipeline::cancel (MillraceRequest *request)
{
  millrace_request_cancel (request);
  send (gst_structure_new ("LlmCancel", "id", G_TYPE_STRING, millrace_request_get_id (request), nullptr));
}

GstStructure *
ModelPipeline::statistics () const
{
  auto scheduler = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline_.get ()), "scheduler"));
  GstStructure *stats = nullptr;
  if (scheduler)
    g_object_get (scheduler.get (), "stats", &stats, nullptr);
  return stats;
}

} // namespace millrace
