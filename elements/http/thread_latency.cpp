#include "elements/http/thread_latency.hpp"

#include <cstdint>
#include <sys/syscall.h>
#include <unistd.h>

namespace millrace
{

namespace
{

constexpr uint64_t kSliceNs = 100'000; ///< the least that Linux takes

/// struct sched_attr of sched_setattr(2), version 0; the C library of Debian 12 has no name for it.
struct SchedulingAttributes {
  uint32_t size = sizeof (SchedulingAttributes);
  uint32_t policy = 0; ///< SCHED_OTHER
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
};

} // namespace

void
prefer_latency ()
{
#ifdef SYS_sched_setattr
  SchedulingAttributes attributes;
  if (syscall (SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 || attributes.policy != 0)
    return; // somebody has chosen a policy for it
  attributes.size = sizeof attributes;
  attributes.runtime = kSliceNs;
  syscall (SYS_sched_setattr, 0, &attributes, 0);
#endif
}

} // namespace millrace
