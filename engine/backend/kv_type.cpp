#include "engine/backend/backend.hpp"

#include <array>

namespace millrace
{

const char *
kv_type_name (KvType type)
{
  static constexpr std::array<const char *, kKvTypes> kNames = {"f32", "f16", "bf16", "q8", "k8v4"};
  return kNames[static_cast<size_t> (type)];
}

} // namespace millrace
