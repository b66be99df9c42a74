// The C++ side of MillraceModel, for elements.
#pragma once

#include "engine/model/model.hpp"

#include <millrace/millrace-model.h>

#include <memory>
#include <string>

namespace millrace
{

const std::shared_ptr<const Model> &engine_model (MillraceModel *model);
/// millrace_model_open () with all options; G_IO_ERROR_CANCELLED when it was asked to stop.
MillraceModel *open_model (const std::string &name, const ModelOptions &options, GError **error);
/// What load_warning () says goes to the log.
void log_load_warning (MillraceModel *model);
/// Wraps a model made elsewhere (tests and benchmarks with a backend of their own).
MillraceModel *wrap_model (std::shared_ptr<const Model> model);

} // namespace millrace
