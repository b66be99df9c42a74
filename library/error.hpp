// Engine failures as GError and as element errors: the one place where exceptions end.
#pragma once

#include "engine/error.hpp"

#include <gst/gst.h>
#include <millrace/millrace-error.h>

#include <exception>
#include <new>

namespace millrace
{

void set_gerror (GError **error, const RequestError &problem);

/// Runs `work` for a C entry point; what it throws becomes an element error. False when it threw.
template <typename F>
bool
guarded (GstElement *element, F &&work)
{
  try {
    work ();
    return true;
  } catch (const LoadError &error) {
    GST_ELEMENT_ERROR (element, RESOURCE, READ, ("%s", error.what ()), (nullptr));
  } catch (const std::bad_alloc &) {
    GST_ELEMENT_ERROR (element, RESOURCE, NO_SPACE_LEFT, ("Out of memory."),
                       ("lower kv-memory or max-batch, or choose smaller weights"));
  } catch (const std::exception &error) {
    GST_ELEMENT_ERROR (element, LIBRARY, FAILED, ("%s", error.what ()), (nullptr));
  }
  return false;
}

} // namespace millrace
