// LlmDrafter: an element that guesses tokens after the pending one of each row.
//
// Contract
// - Properties max-draft and gate belong to this class; a subclass adds its own in class_init with property ids from
//   LLM_DRAFTER_PROP_LAST on, and chains up in set_property and get_property for ids below.
// - create_drafter () is called in the scheduler's thread before the first step, and again after a flush or a stop: what the
//   drafter before kept of sequences is gone. It may throw LoadError and the like; that becomes an element error.
// - Several drafters may run in series: each offers its guesses beside those that are there (engine/drafting/drafter.hpp).
#pragma once

#include "engine/drafting/drafter.hpp"
#include "library/stage.hpp"

#include <memory>

#define LLM_TYPE_DRAFTER (llm_drafter_get_type ())
G_DECLARE_DERIVABLE_TYPE (LlmDrafter, llm_drafter, LLM, DRAFTER, LlmStage)

struct _LlmDrafterClass {
  LlmStageClass parent;
  std::unique_ptr<millrace::Drafter> (*create_drafter) (LlmDrafter *self,
                                                        const millrace::DrafterSettings &settings);
};

enum { LLM_DRAFTER_PROP_LAST = 16 };
