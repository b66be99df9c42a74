// The element types of the plug-ins.
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

GType llm_prompt_get_type (void);
GType llm_tokenizer_get_type (void);
GType llm_scheduler_get_type (void);
GType llm_prefill_get_type (void);
GType llm_ngram_drafter_get_type (void);
GType llm_model_drafter_get_type (void);
GType llm_verifier_get_type (void);
GType llm_sampler_get_type (void);
GType llm_detokenizer_get_type (void);
GType llm_bin_get_type (void);

GType llm_http_src_get_type (void);
GType llm_http_sink_get_type (void);

G_END_DECLS
