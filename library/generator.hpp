// The C++ side of MillraceGenerator, which has several files.
#pragma once

#include "library/model_pipeline.hpp"

#include <millrace/millrace-generator.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace millrace
{

/// Lists under `mutex`; signals are emitted without it.
struct GeneratorState {
  std::mutex mutex;
  std::vector<std::shared_ptr<ModelPipeline>> pipelines; ///< in the order in which they came
  std::vector<std::string> starting;                     ///< names of models whose pipelines start
  bool closed = false;

  GMainContext *context = nullptr; ///< where signals are emitted; set once
  GError *broken = nullptr;        ///< there are no elements; set once
};

GeneratorState &generator_state (MillraceGenerator *generator);
void notify_state (MillraceGenerator *generator);
void emit_loaded (MillraceGenerator *generator, MillraceModel *model);
void emit_unloaded (MillraceGenerator *generator, MillraceModel *model);
void emit_error (MillraceGenerator *generator, MillraceModel *model, const GError *error);

/// The pipeline of the model of this name, null for the first; else null with an error. Any thread.
std::shared_ptr<ModelPipeline> find_pipeline (MillraceGenerator *generator, const char *name, GError **error);

} // namespace millrace
