// Matrices of integers with a scale and a zero for each group of a row, as GPTQ's, AWQ's and vLLM's tools pack them into words.
//
// Of a module NAME, all 32-bit words and floats:
//   GPTQ  NAME.qweight [inputs · bits / 32, outputs]: for each output the codes of its inputs one after the other, from the
//         lowest bits on, through the words of a column; NAME.qzeros [groups, outputs · bits / 32]: for each group the zeros
//         of all outputs in a row; NAME.scales [groups, outputs]; NAME.g_idx [inputs] or absent: the group of each input.
//         Zeros are stored less 1, modulo 2^bits, unless checkpoint_format is gptq_v2.
//   AWQ   NAME.qweight [inputs, outputs / 8], NAME.qzeros [groups, outputs / 8]: of 8 neighbouring outputs a word has
//         0, 2, 4, 6, 1, 3, 5, 7 from its lowest bits on; NAME.scales [groups, outputs]. Version "gemm".
//   pack-quantized (compressed-tensors)  NAME.weight_packed [outputs, inputs · bits / 32]: a row's codes one after the other, from
//         the lowest bits of its words on; NAME.weight_scale [outputs, groups]; NAME.weight_shape, outputs and inputs;
//         NAME.weight_zero_point [outputs · bits / 32, groups]: for each group the zeros of all outputs through the words of a column,
//         or absent: 2^(bits - 1), the middle of the codes; NAME.weight_g_idx [inputs] as g_idx.
//                                       w = scale · (code - zero)
// which is exact in float32 where scales have 16 bits. The matrix is called NAME.weight. Where inputs are in the order of their
// groups, rows are kept as codes with float32 scales and biases, -scale · zero, which is as exact; groups of more than 128 become
// several with equal scales.
// Otherwise (act-order: groups of inputs here and there) they are kept as floats of the type of the scales, rounded to nearest.
// Sources: GPTQ, arXiv 2210.17323, and AutoGPTQ's storage; AWQ, arXiv 2306.00978, and AutoAWQ's WQLinear_GEMM; the
// compressed-tensors library's pack_quantized.
#pragma once

namespace millrace
{

class WeightFiles;

struct GptqCoding {
  int bits = 4;    ///< 2, 3, 4 or 8
  int group = 128; ///< inputs that share a scale; 0: all of a row
  bool zeros_less_one = true;
};

struct AwqCoding {
  int group = 128; ///< as above; bits are 4
};

/// Of compressed-tensors. Groups, and whether there are zeros, show in the tensors' shapes.
struct PackedCoding {
  int bits = 4; ///< 4 or 8
};

/// Puts such matrices together. Throws LoadError when tensors are missing or do not fit, or g_idx names a group there is not.
void apply_coding (WeightFiles &files, const GptqCoding &coding);
void apply_coding (WeightFiles &files, const AwqCoding &coding);
void apply_coding (WeightFiles &files, const PackedCoding &coding);

} // namespace millrace
