// The products of panels of one instruction set: data, so that choosing needs no code compiled for it.
//
// Every set exists in every build; where the compiler or the architecture lacks it, its entries are null. Contracts in
// kernels.hpp: the bits are those of the portable kernels.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu
{

/// Null for formats whose products are those of a lesser set; those that are here take bytes, but for kAvx512Floats.
struct PanelProducts {
  LinearKernel linear[kFormats] = {};
};

/// Activations of each kind that they take; null: those of a lesser set.
struct QuantizeKernels {
  void (*quantize[kActivations]) (const float *x, int count, int columns, void *out) = {};
};

extern const QuantizeKernels kAvx512Quantize; ///< needs what kAvx512Panels needs

extern const PanelProducts kAvxVnniPanels; ///< needs AVX2, FMA, F16C and AVX-VNNI
extern const PanelProducts kAvx512Panels;  ///< needs those but AVX-VNNI, and AVX-512 F, BW, DQ, VL and VNNI
extern const PanelProducts kAvx512Floats;  ///< of float formats, needs the same
extern const PanelProducts kAmxPanels;     ///< needs those too, and AMX of bytes with leave to use it
extern const PanelProducts kNeonPanels;    ///< every aarch64 machine
extern const PanelProducts kDotprodPanels; ///< aarch64 with the dot-product instructions
extern const PanelProducts kI8mmPanels;    ///< aarch64 with those and matrix products of bytes

} // namespace millrace::cpu
