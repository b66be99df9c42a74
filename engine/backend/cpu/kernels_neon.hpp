// What the NEON kernels' files share but products of panels (panel_products.hpp): declarations only. See kernels.hpp
// for contracts.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu::neon
{

void linear_f32 (const LinearArgs &);
void linear_f16 (const LinearArgs &);
void linear_bf16 (const LinearArgs &);
void expand_f16 (const void *panel, int row, int columns, float *out);
void quantize_byte32 (const float *x, int count, int columns, void *out);
void quantize_byte256 (const float *x, int count, int columns, void *out);
void rms_norm (const float *x, const float *weight, int count, float epsilon, float *out);
void silu (const float *gate, const float *up, int count, float *out);

} // namespace millrace::cpu::neon
