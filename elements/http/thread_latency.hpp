// For threads that have little to do, but at once, beside threads that compute all the time.
#pragma once

namespace millrace
{

/// Asks for short time slices for the calling thread: since Linux 6.12 a thread that wakes up then goes before one that
/// has a longer slice (EEVDF, "PREEMPT_SHORT"), where it would wait for milliseconds otherwise. It gets no larger share of
/// the processor. Without effect where the kernel does not know it.
void prefer_latency ();

} // namespace millrace
