// What the AVX2 kernels' files share: declarations only. See kernels.hpp for contracts.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu::avx2
{

void linear_f32 (const LinearArgs &);
void linear_f16 (const LinearArgs &);
void linear_bf16 (const LinearArgs &);
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
void expand_f16 (const void *panel, int row, int columns, float *out);
void quantize_wide32 (const float *x, int count, int columns, void *out);
void quantize_byte32 (const float *x, int count, int columns, void *out);
void quantize_byte256 (const float *x, int count, int columns, void *out);
uint64_t read (const void *data, size_t bytes);
uint64_t read_early (const void *data, size_t bytes); ///< asks for all of it: KernelTable::is_intel
void halves (const float *x, int count, uint16_t *out);
float steps (const float *x, int count, int8_t *out);
void rotate (float *x, const float *cos, const float *sin, int half);
void rms_norm (const float *x, const float *weight, int count, float epsilon, float *out);
void silu (const float *gate, const float *up, int count, float *out);
void attention_f32 (const AttentionArgs &);
void attention_f16 (const AttentionArgs &);
void attention_bf16 (const AttentionArgs &);
void attention_q8 (const AttentionArgs &);
void attention_k8v4 (const AttentionArgs &);
void convolution (const ConvolutionArgs &);
void recurrence (const RecurrenceArgs &);

} // namespace millrace::cpu::avx2
