// Visiting the children of an expression, in the order of the source.
#pragma once

#include "engine/chat/ast.hpp"

namespace millrace::jinja
{

/// Calls visit (Expr &) for every expression that these arguments contain directly.
template <typename Visit>
void
for_each_argument (const CallArguments &arguments, Visit &&visit)
{
  for (Expr *argument : arguments.positional)
    visit (*argument);
  for (const auto &keyword : arguments.keywords)
    visit (*keyword.second);
  for (Expr *more : {arguments.more_positional, arguments.more_keywords}) {
    if (more)
      visit (*more);
  }
}

/// Calls visit (Expr &) for every direct child.
template <typename Visit>
void
for_each_child (Expr &expr, Visit &&visit)
{
  const auto visit_all = [&] (std::initializer_list<Expr *> children) {
    for (Expr *child : children) {
      if (child)
        visit (*child);
    }
  };
  switch (expr.type) {
  case ExprType::kConstant:
  case ExprType::kName:
    break;
  case ExprType::kList:
  case ExprType::kTuple:
  case ExprType::kConcat:
    for (Expr *item : static_cast<ItemsExpr &> (expr).items)
      visit (*item);
    break;
  case ExprType::kDict:
    for (const auto &[key, value] : static_cast<DictExpr &> (expr).entries)
      visit_all ({key, value});
    break;
  case ExprType::kUnary:
  case ExprType::kNot:
    visit (*static_cast<UnaryExpr &> (expr).operand);
    break;
  case ExprType::kBinary:
  case ExprType::kAnd:
  case ExprType::kOr:
    visit_all ({static_cast<BinaryExpr &> (expr).left, static_cast<BinaryExpr &> (expr).right});
    break;
  case ExprType::kCompare:
    visit (*static_cast<CompareExpr &> (expr).first);
    for (const auto &operand : static_cast<CompareExpr &> (expr).rest)
      visit (*operand.second);
    break;
  case ExprType::kConditional: {
    const auto &node = static_cast<ConditionalExpr &> (expr);
    visit_all ({node.test, node.yes, node.no});
    break;
  }
  case ExprType::kAttribute:
    visit (*static_cast<AttributeExpr &> (expr).object);
    break;
  case ExprType::kItem:
    visit_all ({static_cast<ItemExpr &> (expr).object, static_cast<ItemExpr &> (expr).key});
    break;
  case ExprType::kSlice: {
    const auto &node = static_cast<SliceExpr &> (expr);
    visit_all ({node.object, node.start, node.stop, node.step});
    break;
  }
  case ExprType::kCall:
    visit (*static_cast<CallExpr &> (expr).callee);
    for_each_argument (static_cast<CallExpr &> (expr).arguments, visit);
    break;
  case ExprType::kFilter:
    visit_all ({static_cast<FilterExpr &> (expr).input});
    for_each_argument (static_cast<FilterExpr &> (expr).arguments, visit);
    break;
  case ExprType::kTest:
    visit (*static_cast<TestExpr &> (expr).input);
    for_each_argument (static_cast<TestExpr &> (expr).arguments, visit);
    break;
  }
}

} // namespace millrace::jinja
