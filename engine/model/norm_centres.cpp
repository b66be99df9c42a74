#include "engine/model/norm_centres.hpp"

#include "engine/error.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/weights/tensor_entry.hpp"
#include "engine/weights/weight_files.hpp"

#include <cstring>
#include <string_view>

namespace millrace
{

namespace
{

enum class Axes : uint8_t { kEither, kPublished, kConverted };
enum class Centre : uint8_t { kUnclear, kZero, kOne };

/// Shares of norms' elements; trained weights around 1 are hardly ever negative, and weight decay keeps both kinds near
/// their centre.
constexpr double kManyNegative = 0.05, kFewNegative = 0.01;
constexpr double kLeastMeanOfOne = 0.75, kMostMeanOfOne = 1.25;

Axes
axes_of (const WeightRef &weight, const TensorView &tensor, const WeightFiles &files)
{
  const Shape published = weight.shape (), converted = {published[0], published[2], 1};
  if (tensor.shape != published && tensor.shape != converted)
    throw LoadError (
        files.file_of (weight.name), printable (weight.name),
        "has shape " + to_string (tensor.shape) + ", expected " + to_string (published) + " or " +
            to_string (converted) +
            ": what its axes are is not certain; use the config.json that belongs to these weights, "
            "or the published checkpoint");
  if (published == converted)
    return Axes::kEither;
  return tensor.shape == published ? Axes::kPublished : Axes::kConverted;
}

Axes
axes_of_convolutions (const Program &program, const WeightFiles &files)
{
  Axes found = Axes::kEither;
  for (const WeightRef &weight : program.weights) {
    const TensorView *tensor = weight.taps > 0 ? files.find (weight.name) : nullptr;
    if (!tensor)
      continue;
    const Axes axes = axes_of (weight, *tensor, files);
    if (found != Axes::kEither && axes != Axes::kEither && axes != found)
      throw LoadError (files.file_of (weight.name), printable (weight.name),
                       "has shape " + to_string (tensor->shape) +
                           ", its axes in another order than other convolutions of the model: the checkpoint "
                           "was converted in part; use the published one");
    found = axes == Axes::kEither ? found : axes;
  }
  return found;
}

/// Sum, count and negative ones of a tensor's elements.
struct Elements {
  double sum = 0;
  double count = 0;
  double negative = 0;

  void add (const TensorView &tensor)
  {
    const bool wide = tensor.dtype == DType::kF32;
    const size_t size = wide ? sizeof (float) : sizeof (uint16_t);
    for (size_t at = 0; at + size <= tensor.data.size (); at += size) {
      float value = 0;
      if (wide) {
        std::memcpy (&value, tensor.data.data () + at, size);
      } else {
        uint16_t half = 0;
        std::memcpy (&half, tensor.data.data () + at, size);
        value = tensor.dtype == DType::kBF16 ? bf16_to_f32 (half) : f16_to_f32 (half);
      }
      sum += value;
      count += 1;
      negative += value < 0;
    }
  }
};

Centre
centre_of_norms (const Program &program, const WeightFiles &files)
{
  Elements elements;
  for (const WeightRef &weight : program.weights) {
    const TensorView *tensor = weight.offset != 0 ? files.find (weight.name) : nullptr;
    if (tensor &&
        (tensor->dtype == DType::kF32 || tensor->dtype == DType::kF16 || tensor->dtype == DType::kBF16))
      elements.add (*tensor);
  }
  if (elements.negative > kManyNegative * elements.count)
    return Centre::kZero;
  const double mean = elements.sum / elements.count; // NaN when there are none: unclear
  const bool near_one = mean >= kLeastMeanOfOne && mean <= kMostMeanOfOne;
  return near_one && elements.negative < kFewNegative * elements.count ? Centre::kOne : Centre::kUnclear;
}

} // namespace

void
settle_norms (Program &program, const WeightFiles &files)
{
  const Axes axes = axes_of_convolutions (program, files);
  if (axes == Axes::kEither)
    return;
  const Centre centre = centre_of_norms (program, files);
  for (WeightRef &weight : program.weights) {
    if (weight.offset == 0)
      continue;
    if (axes == Axes::kPublished && centre == Centre::kOne)
      throw LoadError (
          files.file_of (weight.name), printable (weight.name),
          "and the other norms have weights around 1 where a published checkpoint has them around "
          "0, while the convolutions are as published: whether 1 is to be added is not certain; "
          "use the published checkpoint, or one that was converted as a whole");
    if (axes == Axes::kConverted && centre != Centre::kZero)
      weight.offset = 0;
  }
}

} // namespace millrace
