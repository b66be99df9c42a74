#include "engine/backend/weight_roles.hpp"

namespace millrace
{

std::set<WeightId>
sensitive_weights (const Program &program)
{
  std::set<WeightId> ids;
  std::set<BufferId> values;
  for (const Op &op : program.ops) {
    if (const auto *embed = std::get_if<EmbedOp> (&op))
      ids.insert (embed->weight);
    if (const auto *head = std::get_if<HeadOp> (&op))
      ids.insert (head->weight);
    if (const auto *append = std::get_if<KvAppendOp> (&op); append && append->v != kNone)
      values.insert (append->v);
    if (const auto *recurrence = std::get_if<RecurrenceOp> (&op))
      values.insert ({recurrence->v, recurrence->step});
  }
  for (const Op &op : program.ops) {
    if (const auto *copy = std::get_if<CopyOp> (&op); copy && values.contains (copy->out))
      values.insert (copy->in); // keys that are values too
  }
  for (const Op &op : program.ops) {
    if (const auto *linear = std::get_if<LinearOp> (&op)) {
      for (const LinearOp::Projection &projection : linear->projections) {
        if (values.contains (projection.out))
          ids.insert (projection.weight);
      }
    }
  }
  return ids;
}

std::set<WeightId>
router_weights (const Program &program)
{
  std::set<WeightId> ids;
  std::set<BufferId> logits;
  for (const Op &op : program.ops) {
    if (const auto *route = std::get_if<RouteOp> (&op))
      logits.insert (route->logits);
  }
  for (const Op &op : program.ops) {
    if (const auto *linear = std::get_if<LinearOp> (&op)) {
      for (const LinearOp::Projection &projection : linear->projections) {
        if (logits.contains (projection.out))
          ids.insert (projection.weight);
      }
    }
  }
  return ids;
}

} // namespace millrace
