// Models whose passes take the time that one says, of a clock that stands still between them.
//
// What a controller decides and what comes of it is then the same in every run and on any machine: steps cost a first token and
// so much for each one more, whatever else runs. Guesses cost what passes of their model do; looking things up costs nothing.
//
// One clock in the process; one thread.
#pragma once

#include "engine/clock.hpp"
#include "engine/model/model.hpp"

#include <memory>

namespace millrace::bench
{

struct PassTime {
  int first_us = 0, more_us = 0; ///< of a pass's first token, and of each one more
};

/// Microseconds of the simulated clock.
int64_t simulated_now_us ();

/// The same model, whose passes take their time of simulated_now_us ().
std::shared_ptr<const Model> with_simulated_time (const std::shared_ptr<const Model> &model, PassTime time);

} // namespace millrace::bench
