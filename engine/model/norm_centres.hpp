// Checkpoints of hybrid models that were converted half way: norms around 0 or around 1, convolutions with their axes in one
// order or another.
//
// Private to engine/model. Published files of Qwen3-Next and Qwen3.5 have norms around 0, to which the model adds 1, and
// convolutions [channels, 1, taps]. Those that were converted for MLX have the sum, and [channels, taps, 1]. Nothing in a file says
// which it is, and with the wrong one a model computes nonsense without an error. What settles it: the axes, and the
// norms' own values: of weights around 0 many are negative, of weights around 1 hardly any.
#pragma once

#include "engine/backend/program.hpp"

namespace millrace
{

class WeightFiles;

/// Sets WeightRef::offset of the norms that have one to what the file's norms need, where the program has convolutions:
///   axes     norms look  offset
///   1, taps  around 0    kept
///   1, taps  around 1    LoadError: norms were converted and convolutions were not, or they are just so
///   taps, 1  around 0    kept: convolutions were converted and norms were not
///   taps, 1  around 1    0
/// Norms that look like neither follow the axes. Throws LoadError too when convolutions differ in their axes, or have others.
void settle_norms (Program &program, const WeightFiles &files);

} // namespace millrace
