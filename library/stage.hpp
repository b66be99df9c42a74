// LlmStage: an element inside the scheduler's loop; it sees a step, works on its rows, and passes it on.
//
// Contract
// - process () runs in the scheduler's thread, inside one gst_pad_push (). It may read and write the step's
// rows,
//   keeps no pointer into it, and holds no lock while it runs.
// - It may throw: this base class is the one place that turns that into an element error. One request's
//   trouble is row.fail (), never a throw.
// - output () says what leaves: by default the step's own buffer. Only the sampler makes other buffers of it.
#pragma once

#include "engine/step.hpp"
#include "library/element.hpp"

G_BEGIN_DECLS

#define LLM_TYPE_STAGE (llm_stage_get_type ())
G_DECLARE_DERIVABLE_TYPE (LlmStage, llm_stage, LLM, STAGE, LlmElement)

struct _LlmStageClass {
  LlmElementClass parent;
  const char *src_caps; ///< media type of what leaves; vocab is copied from what arrives
  /// Whether it can work on token ids of this vocabulary; null in caps without one. Posts the element error when not. May be
  /// null.
  bool (*accept) (LlmStage *self, const char *vocab);
  void (*process) (LlmStage *self, millrace::Step &step);
  /// Takes over `buffer`. Null: pushed as it is.
  GstFlowReturn (*output) (LlmStage *self, GstPad *src, GstBuffer *buffer, millrace::Step &step);
  /// The stream was flushed or the element stops: forget what is kept of sequences. May be null.
  void (*reset) (LlmStage *self);
};

G_END_DECLS

namespace millrace
{

/// Pad templates "sink" and "src" of a stage, from the caps constants of element.hpp.
void add_stage_pads (LlmStageClass *klass, const char *sink_caps, const char *src_caps);

} // namespace millrace
