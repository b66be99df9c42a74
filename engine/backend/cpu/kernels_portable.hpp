// What the portable kernels' files share. See kernels.hpp for contracts.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu::portable
{

void linear_q8 (const LinearArgs &);
void linear_q4 (const LinearArgs &);
void linear_q4k (const LinearArgs &);
void linear_q6k (const LinearArgs &);
void linear_q5 (const LinearArgs &);
void linear_iq4nl (const LinearArgs &);
void linear_mxfp4 (const LinearArgs &);
void linear_q2k (const LinearArgs &);
void linear_q3k (const LinearArgs &);
void linear_q5k (const LinearArgs &);
void linear_affine (const LinearArgs &);
void expand_q8 (const void *panel, int row, int columns, float *out);
void expand_q4 (const void *panel, int row, int columns, float *out);
void expand_q4k (const void *panel, int row, int columns, float *out);
void expand_q6k (const void *panel, int row, int columns, float *out);
void expand_q5 (const void *panel, int row, int columns, float *out);
void expand_iq4nl (const void *panel, int row, int columns, float *out);
void expand_mxfp4 (const void *panel, int row, int columns, float *out);
void expand_q2k (const void *panel, int row, int columns, float *out);
void expand_q3k (const void *panel, int row, int columns, float *out);
void expand_q5k (const void *panel, int row, int columns, float *out);
void expand_affine_row (Format format, const void *panel, int row, int columns, float *out);
void quantize_wide32 (const float *x, int count, int columns, void *out);
void quantize_byte32 (const float *x, int count, int columns, void *out);
void quantize_byte256 (const float *x, int count, int columns, void *out);
void attention_f32 (const AttentionArgs &);
void attention_f16 (const AttentionArgs &);
void attention_bf16 (const AttentionArgs &);
void attention_q8 (const AttentionArgs &);
void attention_k8v4 (const AttentionArgs &);
void convolution (const ConvolutionArgs &);
void recurrence (const RecurrenceArgs &);

template <Format kFormat>
void
expand_affine (const void *panel, int row, int columns, float *out)
{
  expand_affine_row (kFormat, panel, row, columns, out);
}

} // namespace millrace::cpu::portable
