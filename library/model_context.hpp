// How the elements of a pipeline agree on one model, in the manner of GStreamer's context design page.
//
// `model=` on any one element serves all: an element asks its neighbours with a context query and the owner
// opens the model on the first question, whatever its own state; when nobody has one, the application may
// answer need-context; at last the embedded demo model is opened.
#pragma once

#include "library/ref.hpp"

#include <millrace/millrace-model.h>

#include <mutex>
#include <string>

namespace millrace
{

/// Which model an element uses. Settings under the object lock; `model` under `mutex`, because questions
/// come from other elements' threads.
struct ModelHolder {
  std::string path;
  MillraceWeights weights = MILLRACE_WEIGHTS_AUTO;
  guint threads = 0;
  std::string weight_cache;
  bool lock_memory = false;

  std::mutex mutex;
  Ref<MillraceModel> model;
};

/// Resolves the holder's model; on failure an element error has been posted.
bool ensure_model (GstElement *element, ModelHolder &holder);
/// For GstElementClass::set_context.
void handle_set_context (ModelHolder &holder, GstContext *context);
/// For pad query functions. True when the query is one about the model and has been answered.
bool handle_context_query (GstElement *element, ModelHolder &holder, GstQuery *query);
Ref<MillraceModel> current_model (ModelHolder &holder);
void drop_model (ModelHolder &holder);

} // namespace millrace
