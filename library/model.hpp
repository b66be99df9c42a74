// The C++ side of MillraceModel, for elements.
#pragma once

#include "engine/model/model.hpp"

#include <millrace/millrace-model.h>

#include <memory>
#include <string>

namespace millrace
{

const std::shared_ptr<const Model> &engine_model (MillraceModel *model);
/// millrace_model_open () with all options.
MillraceModel *open_model (const std::string &name, const ModelOptions &options, GError **error);
/// Wraps a model made elsewhere (tests and benchmarks with a backend of their own).
MillraceModel *wrap_model (std::shared_ptr<const Model> model);

} // namespace millrace
