// Zeroed memory straight from the kernel, returned when the object goes.
//
// Pages cost nothing until they are touched, so a KV budget can be larger than what a run uses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::cpu
{

/// Move-only. The memory starts on a page (huge ones: on 2 MiB when large enough for one).
class Memory
{
public:
  enum class Pages : uint8_t { kPlain, kHuge };

  Memory () = default;
  /// Throws std::bad_alloc when the kernel refuses. 0 bytes are no memory.
  explicit Memory (size_t bytes, Pages pages = Pages::kPlain);
  Memory (Memory &&other) noexcept;
  Memory &operator= (Memory &&other) noexcept;
  Memory (const Memory &) = delete;
  Memory &operator= (const Memory &) = delete;
  ~Memory ();

  std::byte *data () const { return data_; }
  size_t size () const { return size_; }
  float *floats () const { return reinterpret_cast<float *> (data_); }

private:
  std::byte *mapping_ = nullptr;
  size_t mapped_ = 0;
  std::byte *data_ = nullptr;
  size_t size_ = 0;
};

/// a · b; throws std::bad_alloc when it does not fit.
size_t checked_product (size_t a, size_t b);

constexpr size_t
round_up (size_t value, size_t multiple)
{
  return (value + multiple - 1) / multiple * multiple;
}

} // namespace millrace::cpu
