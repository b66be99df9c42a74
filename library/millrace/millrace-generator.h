#pragma once

#include <gio/gio.h>
#include <millrace/millrace-model.h>
#include <millrace/millrace-request.h>
#include <millrace/millrace-stream.h>

G_BEGIN_DECLS

/**
 * MillraceGeneratorState:
 * @MILLRACE_GENERATOR_STATE_EMPTY: it has no model
 * @MILLRACE_GENERATOR_STATE_LOADING: a model is being added; those that are there can be used
 * @MILLRACE_GENERATOR_STATE_READY: all its models can be used
 * @MILLRACE_GENERATOR_STATE_CLOSED: millrace_generator_close_async() has been called
 *
 * What a generator does.
 */
typedef enum {
  MILLRACE_GENERATOR_STATE_EMPTY,
  MILLRACE_GENERATOR_STATE_LOADING,
  MILLRACE_GENERATOR_STATE_READY,
  MILLRACE_GENERATOR_STATE_CLOSED,
} MillraceGeneratorState;

GType millrace_generator_state_get_type (void);
#define MILLRACE_TYPE_GENERATOR_STATE (millrace_generator_state_get_type ())

#define MILLRACE_TYPE_GENERATOR (millrace_generator_get_type ())
G_DECLARE_FINAL_TYPE (MillraceGenerator, millrace_generator, MILLRACE, GENERATOR, GObject)

MillraceGenerator *millrace_generator_new (void);

void millrace_generator_add_model_async (MillraceGenerator *self, MillraceModel *model,
                                         GCancellable *cancellable, GAsyncReadyCallback callback,
                                         gpointer user_data);
gboolean millrace_generator_add_model_finish (MillraceGenerator *self, GAsyncResult *result, GError **error);
gboolean millrace_generator_add_model (MillraceGenerator *self, MillraceModel *model,
                                       GCancellable *cancellable, GError **error);

void millrace_generator_remove_model_async (MillraceGenerator *self, const char *name,
                                            GCancellable *cancellable, GAsyncReadyCallback callback,
                                            gpointer user_data);
gboolean millrace_generator_remove_model_finish (MillraceGenerator *self, GAsyncResult *result,
                                                 GError **error);

void millrace_generator_close_async (MillraceGenerator *self, GCancellable *cancellable,
                                     GAsyncReadyCallback callback, gpointer user_data);
gboolean millrace_generator_close_finish (MillraceGenerator *self, GAsyncResult *result, GError **error);
void millrace_generator_close (MillraceGenerator *self);

void millrace_generator_warm_up_async (MillraceGenerator *self, const char *model, GCancellable *cancellable,
                                       GAsyncReadyCallback callback, gpointer user_data);
gboolean millrace_generator_warm_up_finish (MillraceGenerator *self, GAsyncResult *result, GError **error);

MillraceModel *millrace_generator_get_model (MillraceGenerator *self, const char *name);
GstElement *millrace_generator_get_pipeline (MillraceGenerator *self, const char *model);
MillraceGeneratorState millrace_generator_get_state (MillraceGenerator *self);
GVariant *millrace_generator_get_statistics (MillraceGenerator *self, const char *model);

MillraceStream *millrace_generator_stream (MillraceGenerator *self, MillraceRequest *request,
                                           GCancellable *cancellable, GError **error);

void millrace_generator_generate_async (MillraceGenerator *self, MillraceRequest *request,
                                        GCancellable *cancellable, GAsyncReadyCallback callback,
                                        gpointer user_data);
char *millrace_generator_generate_finish (MillraceGenerator *self, GAsyncResult *result, GError **error);
char *millrace_generator_generate (MillraceGenerator *self, MillraceRequest *request,
                                   GCancellable *cancellable, GError **error);

void millrace_generator_embed_async (MillraceGenerator *self, MillraceRequest *request,
                                     MillracePooling pooling, guint dimensions, GCancellable *cancellable,
                                     GAsyncReadyCallback callback, gpointer user_data);
gfloat *millrace_generator_embed_finish (MillraceGenerator *self, GAsyncResult *result, gsize *n_values,
                                         GError **error);
gfloat *millrace_generator_embed (MillraceGenerator *self, MillraceRequest *request, MillracePooling pooling,
                                  guint dimensions, GCancellable *cancellable, gsize *n_values,
                                  GError **error);

G_END_DECLS
