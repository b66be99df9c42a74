#pragma once

#include <gio/gio.h>
#include <gst/gst.h>

G_BEGIN_DECLS

/**
 * MILLRACE_MODEL_CONTEXT:
 *
 * Type of the #GstContext through which the elements of a pipeline (or of several) share one model.
 */
#define MILLRACE_MODEL_CONTEXT "llm.model"

/**
 * MillraceWeights:
 * @MILLRACE_WEIGHTS_AUTO: as the file has them
 * @MILLRACE_WEIGHTS_F32: 32-bit floats
 * @MILLRACE_WEIGHTS_F16: IEEE half precision
 * @MILLRACE_WEIGHTS_BF16: bfloat16
 * @MILLRACE_WEIGHTS_INT8: 8-bit integers, one scale per group of 32 (GGUF's Q8_0), quantized while loading
 * @MILLRACE_WEIGHTS_INT4: 4-bit integers in blocks of 256 (GGUF's Q4_K), embedding, head and values 6 bits (Q6_K), quantized while
 *   loading; rows that are not made of 256s: Q4_0 and Q8_0
 *
 * How a model's matrices are held in memory.
 */
typedef enum {
  MILLRACE_WEIGHTS_AUTO,
  MILLRACE_WEIGHTS_F32,
  MILLRACE_WEIGHTS_F16,
  MILLRACE_WEIGHTS_BF16,
  MILLRACE_WEIGHTS_INT8,
  MILLRACE_WEIGHTS_INT4,
} MillraceWeights;

GType millrace_weights_get_type (void);
#define MILLRACE_TYPE_WEIGHTS (millrace_weights_get_type ())

#define MILLRACE_TYPE_MODEL (millrace_model_get_type ())
G_DECLARE_FINAL_TYPE (MillraceModel, millrace_model, MILLRACE, MODEL, GObject)

MillraceModel *millrace_model_open (const char *path, MillraceWeights weights, guint threads, GError **error);
MillraceModel *millrace_model_open_full (const char *path, MillraceWeights weights, guint threads, const char *weight_cache,
                                         gboolean lock_memory, GError **error);
void millrace_model_load_async (const char *path, MillraceWeights weights, guint threads, GCancellable *cancellable,
                                GAsyncReadyCallback callback, gpointer user_data);
MillraceModel *millrace_model_load_finish (GAsyncResult *result, GError **error);

const char *millrace_model_get_name (MillraceModel *self);
const char *millrace_model_get_path (MillraceModel *self);
const char *millrace_model_get_vocabulary_digest (MillraceModel *self);
char *millrace_model_describe (MillraceModel *self);
GVariant *millrace_model_get_statistics (MillraceModel *self);

gint32 *millrace_model_tokenize (MillraceModel *self, const char *text, gboolean add_special, gboolean parse_special,
                                 gsize *n_tokens, GError **error);
void millrace_model_tokenize_async (MillraceModel *self, const char *text, gboolean add_special, gboolean parse_special,
                                    GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
gint32 *millrace_model_tokenize_finish (MillraceModel *self, GAsyncResult *result, gsize *n_tokens, GError **error);

char *millrace_model_detokenize (MillraceModel *self, const gint32 *tokens, gsize n_tokens, GError **error);
void millrace_model_detokenize_async (MillraceModel *self, const gint32 *tokens, gsize n_tokens,
                                      GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
char *millrace_model_detokenize_finish (MillraceModel *self, GAsyncResult *result, GError **error);

GstContext *millrace_model_to_context (MillraceModel *self);
MillraceModel *millrace_model_from_context (GstContext *context);

char *millrace_find_model (const char *name);

G_END_DECLS
