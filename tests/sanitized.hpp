// Whether this is a sanitizer build.
#pragma once

namespace millrace::testing
{

// Sanitizers make everything 5 to 20 times slower and keep freed memory for a while: less repetition then.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

} // namespace millrace::testing
