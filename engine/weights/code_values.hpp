// What codes of 4 bits stand for, of the types that have tables (quantized_blocks.hpp). Tables only: kernels read this.
#pragma once

#include <cstdint>

namespace millrace
{

/// What IQ4_NL's codes stand for.
constexpr int8_t kIq4NlValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
/// Twice what MXFP4's codes stand for.
constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

} // namespace millrace
