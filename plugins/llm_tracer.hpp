// Tracer "llm": what each element takes of a step, and what requests get of the steps. GST_TRACERS=llm
#pragma once

#include <glib-object.h>

G_BEGIN_DECLS

GType llm_tracer_get_type (void);

G_END_DECLS
