// The hidden states of a prompt on their way to one vector, whatever the pieces in which they come.
//
// Sums are double and go by position, so that the vector's bits do not depend on how the prompt was cut. What a
// preemption throws away is begun anew. One thread, the decode thread.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace millrace
{

/// How the hidden states of a prompt become one vector.
enum class Pooling : uint8_t { kNone, kLast, kMean, kCls };

/// "none", "last", "mean", "cls".
const char *pooling_name (Pooling pooling);

/// For a request that wants the prompt's embedding instead of a continuation.
struct EmbeddingParams {
  Pooling pooling = Pooling::kNone; ///< kNone: an ordinary request
  bool normalize = true;            ///< to length 1
  int dimensions = 0;               ///< 0: all; else the first so many, before normalization
};

class EmbeddingPool
{
public:
  /// For `tokens` positions with hidden states of `width`; kNone: never wants any.
  void begin (Pooling pooling, int tokens, int width)
  {
    pooling_ = pooling;
    length_ = tokens;
    width_ = pooling == Pooling::kNone ? 0 : static_cast<size_t> (width);
    sums_.assign (width_, 0);
  }
  /// Forgets what has come.
  void reset ()
  {
    sums_.assign (width_, 0);
    pooled_ = pending_count_ = 0;
  }

  bool active () const { return pooling_ != Pooling::kNone; }
  /// Positions before the last one matter too, so they must be computed and not be found in a cache.
  bool wants_all () const { return pooling_ == Pooling::kMean || pooling_ == Pooling::kCls; }
  size_t width () const { return width_; }
  /// Whether one of the positions [position, position + count) is needed.
  bool wants (int position, int count) const
  {
    switch (pooling_) {
    case Pooling::kMean:
      return count > 0;
    case Pooling::kCls:
      return count > 0 && position == 0;
    case Pooling::kLast:
      return count > 0 && position + count == length_;
    case Pooling::kNone:
      break;
    }
    return false;
  }

  /// A pass under way writes the states of [position, position + count) to `hidden`.
  void expect (const float *hidden, int position, int count)
  {
    pending_ = hidden;
    pending_position_ = position;
    pending_count_ = count;
  }
  /// The pass is over.
  void collect ()
  {
    if (pending_count_ == 0)
      return;
    if (pooling_ == Pooling::kMean) {
      if (pending_position_ == pooled_) { // else a position is missing, and finish () will say so
        for (int i = 0; i < pending_count_; i++)
          add (i);
        pooled_ += pending_count_;
      }
    } else {
      add (pooling_ == Pooling::kCls ? 0 : pending_count_ - 1);
      pooled_ = length_;
    }
    pending_count_ = 0;
  }

  /// The vector, once everything has come. False when something has not, or is not a number.
  bool finish (const EmbeddingParams &params, std::vector<float> &out) const
  {
    if (pooled_ != length_)
      return false;
    const size_t size = params.dimensions > 0 ? static_cast<size_t> (params.dimensions) : width_;
    const double divisor = pooling_ == Pooling::kMean ? length_ : 1;
    double squares = 0;
    for (size_t i = 0; i < size; i++)
      squares += (sums_[i] / divisor) * (sums_[i] / divisor);
    if (!std::isfinite (squares))
      return false;
    const double norm = params.normalize && squares > 0 ? std::sqrt (squares) : 1;
    out.resize (size);
    for (size_t i = 0; i < size; i++)
      out[i] = static_cast<float> (sums_[i] / divisor / norm);
    return true;
  }

private:
  void add (int row)
  {
    const float *const states = pending_ + static_cast<size_t> (row) * width_;
    for (size_t i = 0; i < width_; i++)
      sums_[i] += states[i];
  }

  Pooling pooling_ = Pooling::kNone;
  int length_ = 0;
  size_t width_ = 0;
  std::vector<double> sums_;
  int pooled_ = 0; ///< positions done with
  const float *pending_ = nullptr;
  int pending_position_ = 0, pending_count_ = 0;
};

} // namespace millrace
