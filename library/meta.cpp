#include "library/meta.hpp"

#include "library/reply.hpp"
#include "library/request.hpp"

#include <bit>

using millrace::TextDetails;
using millrace::TokenDetails;

namespace
{

struct Details {
  std::shared_ptr<const TokenDetails> tokens;
  std::shared_ptr<const TextDetails> text;
};

} // namespace

static gboolean
request_meta_init (GstMeta *meta, gpointer, GstBuffer *)
{
  auto *self = reinterpret_cast<MillraceRequestMeta *> (meta);
  self->request = nullptr;
  self->finish = nullptr;
  self->details = nullptr;
  return TRUE;
}

static void
request_meta_free (GstMeta *meta, GstBuffer *)
{
  auto *self = reinterpret_cast<MillraceRequestMeta *> (meta);
  g_clear_object (&self->request);
  delete static_cast<Details *> (self->details);
  self->details = nullptr;
}

static gboolean
request_meta_transform (GstBuffer *target, GstMeta *meta, GstBuffer *, GQuark type, gpointer)
{
  if (!GST_META_TRANSFORM_IS_COPY (type))
    return FALSE;
  auto *self = reinterpret_cast<MillraceRequestMeta *> (meta);
  auto *copy = millrace_buffer_add_request_meta (target, self->request, self->finish);
  if (self->details)
    copy->details = new Details (*static_cast<Details *> (self->details));
  return TRUE;
}

GType
millrace_request_meta_api_get_type (void)
{
  static const char *tags[] = {nullptr};
  static const GType type = gst_meta_api_type_register ("MillraceRequestMetaAPI", tags);
  return type;
}

const GstMetaInfo *
millrace_request_meta_get_info (void)
{
  static const GstMetaInfo *info =
      gst_meta_register (MILLRACE_REQUEST_META_API_TYPE, "MillraceRequestMeta", sizeof (MillraceRequestMeta),
                         request_meta_init, request_meta_free, request_meta_transform);
  return info;
}

/**
 * millrace_buffer_add_request_meta:
 * @buffer: a writable buffer
 * @request: (transfer none): whose text or tokens it holds
 * @finish: (nullable): an interned finish reason on the last buffer of a generation
 *
 * Returns: (transfer none): the meta
 */
MillraceRequestMeta *
millrace_buffer_add_request_meta (GstBuffer *buffer, MillraceRequest *request, const char *finish)
{
  g_return_val_if_fail (GST_IS_BUFFER (buffer), nullptr);
  g_return_val_if_fail (MILLRACE_IS_REQUEST (request), nullptr);
  auto *meta = reinterpret_cast<MillraceRequestMeta *> (
      gst_buffer_add_meta (buffer, MILLRACE_REQUEST_META_INFO, nullptr));
  meta->request = MILLRACE_REQUEST (g_object_ref (request));
  meta->finish = finish;
  return meta;
}

/**
 * millrace_buffer_get_request_meta:
 *
 * Returns: (transfer none) (nullable): the meta, %NULL when @buffer has none
 */
MillraceRequestMeta *
millrace_buffer_get_request_meta (GstBuffer *buffer)
{
  g_return_val_if_fail (GST_IS_BUFFER (buffer), nullptr);
  return reinterpret_cast<MillraceRequestMeta *> (
      gst_buffer_get_meta (buffer, MILLRACE_REQUEST_META_API_TYPE));
}

namespace millrace
{

FinishReason
finish_of (const MillraceRequestMeta *meta)
{
  for (const auto reason : {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled,
                            FinishReason::kTimeout, FinishReason::kError}) {
    if (g_strcmp0 (meta->finish, finish_reason_name (reason)) == 0)
      return reason;
  }
  return FinishReason::kNone;
}

static Details &
details_in (MillraceRequestMeta *meta)
{
  if (!meta->details)
    meta->details = new Details;
  return *static_cast<Details *> (meta->details);
}

void
set_token_details (MillraceRequestMeta *meta, std::shared_ptr<const TokenDetails> details)
{
  details_in (meta).tokens = std::move (details);
}

const TokenDetails *
token_details (const MillraceRequestMeta *meta)
{
  return meta->details ? static_cast<Details *> (meta->details)->tokens.get () : nullptr;
}

void
set_text_details (MillraceRequestMeta *meta, std::shared_ptr<const TextDetails> details)
{
  details_in (meta).text = std::move (details);
}

const TextDetails *
text_details (const MillraceRequestMeta *meta)
{
  return meta->details ? static_cast<Details *> (meta->details)->text.get () : nullptr;
}

std::shared_ptr<const TokenDetails>
details_of (const Row &row, const Step &step)
{
  auto details = std::make_shared<TokenDetails> ();
  for (int i = 0; i < row.accepted_count; i++) {
    SampledToken token = row.accepted[i];
    const auto first = step.top_logprobs.begin () + token.top_begin;
    token.top_begin = static_cast<int> (details->top.size ());
    details->top.insert (details->top.end (), first, first + token.top_count);
    details->tokens.push_back (token);
  }
  return details;
}

GstBuffer *
new_token_buffer (std::span<const TokenId> tokens)
{
  // gst_buffer_new_memdup () refuses a size of zero.
  static_assert (std::endian::native == std::endian::little, "token links are little-endian");
  return tokens.empty () ? gst_buffer_new () : gst_buffer_new_memdup (tokens.data (), tokens.size_bytes ());
}

Ref<MillraceRequest>
request_of (GstBuffer *buffer)
{
  if (auto *meta = millrace_buffer_get_request_meta (buffer))
    return Ref<MillraceRequest>::share (meta->request);
  auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
  auto &engine = engine_request (request.get ());
  engine.id = "req-" + std::to_string (engine.serial);
  return request;
}

static gboolean
step_meta_init (GstMeta *meta, gpointer, GstBuffer *)
{
  reinterpret_cast<StepMeta *> (meta)->step = nullptr;
  return TRUE;
}

static gboolean
step_meta_transform (GstBuffer *, GstMeta *, GstBuffer *, GQuark, gpointer)
{
  return FALSE;
}

static GType
step_meta_api ()
{
  static const char *tags[] = {nullptr};
  static const GType type = gst_meta_api_type_register ("LlmStepMetaAPI", tags);
  return type;
}

static const GstMetaInfo *
step_meta_info ()
{
  static const GstMetaInfo *info = gst_meta_register (step_meta_api (), "LlmStepMeta", sizeof (StepMeta),
                                                      step_meta_init, nullptr, step_meta_transform);
  return info;
}

GstBuffer *
new_step_buffer (Step &step)
{
  GstBuffer *buffer = gst_buffer_new ();
  auto *meta = reinterpret_cast<StepMeta *> (gst_buffer_add_meta (buffer, step_meta_info (), nullptr));
  meta->step = &step;
  GST_BUFFER_OFFSET (buffer) = step.number;
  return buffer;
}

StepMeta *
get_step_meta (GstBuffer *buffer)
{
  return reinterpret_cast<StepMeta *> (gst_buffer_get_meta (buffer, step_meta_api ()));
}

} // namespace millrace
