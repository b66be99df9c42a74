// LlmElement: what all elements share: the model (property, context) and one way to forward things.
//
// A subclass's instance struct starts with LlmElement and may hold C++ members that it constructs in its
// init and destroys in its finalize. The model is resolved in NULL→READY and dropped in READY→NULL.
#pragma once

#include "engine/model/model.hpp"
#include "library/model_context.hpp"

#include <gst/gst.h>

#include <memory>

G_BEGIN_DECLS

#define LLM_TYPE_ELEMENT (llm_element_get_type ())
G_DECLARE_DERIVABLE_TYPE (LlmElement, llm_element, LLM, ELEMENT, GstElement)

struct _LlmElementClass {
  GstElementClass parent;
  GstDebugCategory *category; ///< named after the element; from the first instance on
};

/// GST_DEBUG_OBJECT and GST_LOG_OBJECT in the element's own category: what happens to requests, and in steps.
#define LLM_DEBUG(element, ...)                                                                              \
  GST_CAT_DEBUG_OBJECT (LLM_ELEMENT_GET_CLASS (element)->category, element, __VA_ARGS__)
#define LLM_LOG(element, ...)                                                                                \
  GST_CAT_LOG_OBJECT (LLM_ELEMENT_GET_CLASS (element)->category, element, __VA_ARGS__)

G_END_DECLS

namespace millrace
{

/// The element's model; null before READY. Any thread.
std::shared_ptr<const Model> element_model (LlmElement *element);
/// The digest that stands in caps; empty before READY.
std::string vocabulary_digest (LlmElement *element);

/// Query function of all pads: answers for the model, then the default.
gboolean llm_element_query (GstPad *pad, GstObject *parent, GstQuery *query);

/// Caps of the links, see docs/architecture.md.
constexpr const char *kTextCaps = "text/x-raw, format=(string)utf8";
constexpr const char *kTokenCaps = "application/x-llm-tokens";
constexpr const char *kPlannedCaps = "application/x-llm-step(meta:LlmStepMeta), stage=(string)planned";
constexpr const char *kScoredCaps = "application/x-llm-step(meta:LlmStepMeta), stage=(string)scored";

/// Caps from one of the constants above with `vocab` set.
GstCaps *caps_with_vocabulary (const char *base, const std::string &vocab);
/// The event, which must be writable, as a part of what has this seqnum, a seek or a stream; 0: of nothing else.
GstEvent *with_seqnum (GstEvent *event, guint32 seqnum);
/// A SEGMENT in time that begins at 0, for a source that has none.
GstEvent *time_segment_event (guint32 seqnum);
/// Whether the caps' vocab is this element's; posts an element error that says which two models differ.
bool check_vocabulary (LlmElement *element, GstCaps *caps);

} // namespace millrace
