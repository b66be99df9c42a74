// Errors of loading and parsing, and how a request's failure is expressed.
//
// Files are hostile: whatever is wrong with one is a LoadError that names the file, the field and the
// remedy. Exceptions are thrown while loading and parsing only; on the step path failure is a value.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

namespace millrace
{

/// A file that cannot be used. what () reads "FILE: FIELD: what is wrong; what to do".
class LoadError : public std::runtime_error
{
public:
  LoadError (std::filesystem::path file, std::string field, const std::string &problem)
      : std::runtime_error (file.string () + ": " + (field.empty () ? "" : field + ": ") + problem)
      , file (std::move (file))
      , field (std::move (field))
  {
  }

  std::filesystem::path file;
  std::string field;
};

/// What was loading a model was asked to stop (ModelOptions::stop).
class LoadStopped : public std::runtime_error
{
public:
  LoadStopped ()
      : std::runtime_error ("loading was stopped")
  {
  }
};

/// Why one request failed. An empty code means that it did not.
struct RequestError {
  const char *code = ""; ///< static string: invalid_request, context_length_exceeded, invalid_utf8, internal
  std::string field;     ///< the request's field that is wrong, or empty
  std::string message;   ///< one sentence for the person who sent the request

  explicit operator bool () const { return code[0] != '\0'; }
};

} // namespace millrace
