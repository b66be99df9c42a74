// How much memory this process has in RAM.
#pragma once

#include <fstream>
#include <unistd.h>

namespace millrace::testing
{

inline long
resident_kib ()
{
  std::ifstream statm ("/proc/self/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return resident * (sysconf (_SC_PAGESIZE) / 1024);
}

} // namespace millrace::testing
