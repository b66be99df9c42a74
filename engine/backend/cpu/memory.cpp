#include "engine/backend/cpu/memory.hpp"

#include <new>
#include <utility>

#include <sys/mman.h>

namespace millrace::cpu
{

namespace
{

constexpr size_t kHugePage = size_t{2} << 20;

} // namespace

Memory::Memory (size_t bytes, Pages pages)
{
  if (bytes == 0)
    return;
  const bool huge = pages == Pages::kHuge && bytes >= kHugePage;
  const size_t slack = huge ? kHugePage : 0;
  if (bytes > SIZE_MAX / 2)
    throw std::bad_alloc ();

  void *mapping = mmap (nullptr, bytes + slack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    throw std::bad_alloc ();
  mapping_ = static_cast<std::byte *> (mapping);
  mapped_ = bytes + slack;
  size_ = bytes;
  const auto address = reinterpret_cast<uintptr_t> (mapping_);
  data_ = mapping_ + (huge ? round_up (address, kHugePage) - address : 0);
  if (huge)
    madvise (data_, size_, MADV_HUGEPAGE); // advice: a kernel without huge pages is fine
}

Memory::Memory (Memory &&other) noexcept
    : mapping_ (std::exchange (other.mapping_, nullptr))
    , mapped_ (std::exchange (other.mapped_, 0))
    , data_ (std::exchange (other.data_, nullptr))
    , size_ (std::exchange (other.size_, 0))
{
}

Memory &
Memory::operator= (Memory &&other) noexcept
{
  std::swap (mapping_, other.mapping_);
  std::swap (mapped_, other.mapped_);
  std::swap (data_, other.data_);
  std::swap (size_, other.size_);
  return *this;
}

Memory::~Memory ()
{
  if (mapping_)
    munmap (mapping_, mapped_);
}

size_t
checked_product (size_t a, size_t b)
{
  size_t product;
  if (__builtin_mul_overflow (a, b, &product))
    throw std::bad_alloc ();
  return product;
}

} // namespace millrace::cpu
