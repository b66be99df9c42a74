// A value of the template language: Python's data model as far as templates can see it.
//
// Sixteen bytes; strings and containers are shared payloads that never change once built, so a copy costs a
// reference count. Counts are not atomic: a value belongs to one render, except the constants of a compiled
// template, which are frozen (never counted, owned by the template) and shared by all. Containers know how
// deep they nest, so recursion over them, their destruction included, is bounded by RenderLimits::depth.
#pragma once

#include "engine/chat/budget.hpp"

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::jinja
{

enum class Kind : uint8_t {
  kMissing, ///< an unassigned variable; never seen by templates
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kDictView,
  kRange,
  kIterator,
  kNamespace,
  kMethod,
  kFunction,
  kMacro,
  kLoop,
  kCycler,
  kJoiner
};

class Value;
struct Arguments;
using Pair = std::pair<Value, Value>;

struct Payload {
  explicit Payload (Kind kind)
      : kind (kind)
  {
  }
  virtual ~Payload () { release_memory (charged); }
  Payload (const Payload &) = delete;
  Payload &operator= (const Payload &) = delete;

  /// Charges the render for this payload's memory; called once it is filled.
  void charge (size_t bytes)
  {
    charge_memory (bytes);
    charged = bytes;
  }

  uint32_t references = 0;
  Kind kind;
  bool frozen = false;
  uint16_t depth = 0; ///< containers: levels below, this one included
  size_t charged = 0;
};

struct StringPayload;
struct ListPayload;
struct DictPayload;

class Value
{
public:
  Value ()
      : kind_ (Kind::kNone)
  {
    bits_.integer = 0;
  }
  Value (const Value &other)
      : kind_ (other.kind_)
      , bits_ (other.bits_)
  {
    retain ();
  }
  Value (Value &&other) noexcept
      : kind_ (other.kind_)
      , bits_ (other.bits_)
  {
    other.kind_ = Kind::kNone;
  }
  Value &operator= (const Value &other)
  {
    Value copy (other);
    swap (copy);
    return *this;
  }
  Value &operator= (Value &&other) noexcept
  {
    Value taken (std::move (other));
    swap (taken);
    return *this;
  }
  ~Value () { release (); }
  void swap (Value &other) noexcept
  {
    std::swap (kind_, other.kind_);
    std::swap (bits_, other.bits_);
  }

  static Value missing ();
  static Value boolean (bool value);
  static Value integer (int64_t value);
  static Value number (double value);
  static Value string (std::string text, bool markup = false);
  static Value list (std::vector<Value> items);
  static Value tuple (std::vector<Value> items);
  /// Later entries with an equal key replace the value of the first, as Python's dict () does.
  static Value dict (std::vector<Pair> entries);
  /// "'NAME' is undefined" when used.
  static Value undefined (const Value &name);
  /// "'TYPE object' has no attribute NAME", or element when name is not a string.
  static Value undefined_member (const Value &object, const Value &name);
  static Value undefined_hint (const std::string &hint);
  /// Takes a reference to a payload of its own kind.
  explicit Value (Payload *payload)
      : kind_ (payload->kind)
  {
    bits_.payload = payload;
    retain ();
  }

  Kind kind () const { return kind_; }
  bool is (Kind kind) const { return kind_ == kind; }
  bool is_number () const { return kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat; }
  /// An int in Python's sense, bool included.
  bool is_integral () const { return kind_ == Kind::kBool || kind_ == Kind::kInt; }

  bool as_bool () const { return bits_.integer != 0; }
  int64_t as_int () const { return bits_.integer; } ///< of kInt and kBool
  double as_float () const { return bits_.number; } ///< of kFloat
  double as_double () const
  {
    return kind_ == Kind::kFloat ? bits_.number : static_cast<double> (bits_.integer);
  }
  const std::string &text () const;
  bool is_markup () const;
  const std::vector<Value> &items () const; ///< of kList and kTuple
  const DictPayload &dict () const;
  Payload *payload () const { return has_payload () ? bits_.payload : nullptr; }
  template <typename T>
  T &as () const
  {
    return *static_cast<T *> (bits_.payload);
  }
  /// Levels of nesting, zero for scalars.
  int depth () const { return has_payload () ? bits_.payload->depth : 0; }
  bool same_object (const Value &other) const
  {
    return kind_ == other.kind_ && bits_.integer == other.bits_.integer;
  }

private:
  bool has_payload () const { return kind_ > Kind::kFloat || kind_ == Kind::kUndefined; }
  void retain ()
  {
    if (has_payload () && !bits_.payload->frozen)
      bits_.payload->references++;
  }
  void release ()
  {
    if (has_payload () && !bits_.payload->frozen && --bits_.payload->references == 0)
      delete bits_.payload;
  }

  Kind kind_;
  union Bits {
    int64_t integer;
    double number;
    Payload *payload;
  } bits_;
};

struct StringPayload : Payload {
  StringPayload (std::string text, bool markup)
      : Payload (Kind::kString)
      , text (std::move (text))
      , markup (markup)
  {
  }
  /// Number of characters, counted on first use.
  size_t length ();
  bool is_ascii () { return length () == text.size (); }

  std::string text;
  bool markup; ///< markupsafe.Markup: escapes what is added to it
  int64_t characters = -1;
};

struct ListPayload : Payload {
  ListPayload (Kind kind, std::vector<Value> items)
      : Payload (kind)
      , items (std::move (items))
  {
  }

  std::vector<Value> items;
  bool is_group = false; ///< a tuple from groupby, with the attributes grouper and list
};

struct DictPayload : Payload {
  explicit DictPayload (std::vector<Pair> entries)
      : Payload (Kind::kDict)
      , entries (std::move (entries))
  {
  }
  const Value *find (std::string_view key) const;
  const Value *find (const Value &key) const;

  std::vector<Pair> entries;
  std::vector<uint32_t> order; ///< positions of entries sorted by key, when there are many
};

/// dict.keys (), values () and items ().
struct DictViewPayload : Payload {
  enum class Part : uint8_t { kKeys, kValues, kItems };
  DictViewPayload (Value dict, Part part)
      : Payload (Kind::kDictView)
      , dict (std::move (dict))
      , part (part)
  {
  }
  Value at (size_t index) const;

  Value dict;
  Part part;
};

struct RangePayload : Payload {
  RangePayload (int64_t start, int64_t stop, int64_t step, int64_t length)
      : Payload (Kind::kRange)
      , start (start)
      , stop (stop)
      , step (step)
      , length (length)
  {
  }
  /// index is in [0, length).
  int64_t at (int64_t index) const { return start + index * step; }
  int64_t start, stop, step, length;
};

/// Something that yields values once: what iter () gives, and the generators of filters like map.
struct Iterator : Payload {
  explicit Iterator (const char *type_name = "generator")
      : Payload (Kind::kIterator)
      , type_name (type_name)
  {
  }
  virtual bool next (Value &out) = 0;
  const char *type_name;
};

/// A generator made of a function; `source` is kept alive and counts for the depth.
struct Generator : Iterator {
  using Step = std::function<bool (Value &out)>;
  Generator (const Value &source, Step step);
  bool next (Value &out) override;

private:
  Value source_;
  Step step_;
};

struct UndefinedPayload : Payload {
  UndefinedPayload ()
      : Payload (Kind::kUndefined)
  {
  }
  std::string message () const;

  std::string hint;
  std::string object; ///< "dict object", or empty when a variable is undefined
  Value name;         ///< a string, or missing when `element` says it
  std::string element;
};

/// namespace (): the one mutable container. It may hold itself, so the budget keeps every namespace until the
/// render ends and then empties them one by one; make them with make_namespace ().
struct NamespacePayload : Payload {
  NamespacePayload ()
      : Payload (Kind::kNamespace)
  {
  }
  const Value *find (std::string_view name) const;
  void set (const Value &name, Value value);

  std::vector<Pair> entries;
};

using MethodFunction = Value (*) (const Value &self, const Arguments &arguments);
using GlobalFunction = Value (*) (const Arguments &arguments);

struct MethodPayload : Payload {
  MethodPayload (Value self, const char *name, MethodFunction function)
      : Payload (Kind::kMethod)
      , self (std::move (self))
      , name (name)
      , function (function)
  {
  }
  Value self;
  const char *name;
  MethodFunction function;
};

struct FunctionPayload : Payload {
  FunctionPayload (const char *name, GlobalFunction function, bool is_class)
      : Payload (Kind::kFunction)
      , name (name)
      , function (function)
      , is_class (is_class)
  {
  }
  const char *name;
  GlobalFunction function;
  bool is_class;
};

struct CyclerPayload : Payload {
  explicit CyclerPayload (std::vector<Value> items)
      : Payload (Kind::kCycler)
      , items (std::move (items))
  {
  }
  std::vector<Value> items;
  size_t position = 0;
};

struct JoinerPayload : Payload {
  explicit JoinerPayload (Value separator)
      : Payload (Kind::kJoiner)
      , separator (std::move (separator))
  {
  }
  Value separator;
  bool used = false;
};

/// Creates a payload and charges its own size; containers charge their contents themselves.
template <typename T, typename... Args>
Value
make_value (Args &&...args)
{
  auto owner = std::make_unique<T> (std::forward<Args> (args)...);
  if (!owner->charged)
    owner->charge (sizeof (T));
  return Value (owner.release ());
}

Value make_namespace (std::vector<Pair> entries);

/// Sets a container's depth from its members' and checks it. `below` is the deepest member.
void set_depth (Payload &container, int below);

/// Python's type (value).__name__.
const char *type_name (const Value &value);
/// The name in "'X object' has no attribute", as jinja2.utils.object_type_repr gives it.
std::string object_type_name (const Value &value);

bool is_true (const Value &value);
/// len (value); throws TypeError's message for what has none.
int64_t length_of (const Value &value);
bool has_length (const Value &value);
/// iter (value); throws TypeError's message for what is not iterable. A generator is returned itself.
Value iterate (const Value &value);
bool is_iterable (const Value &value);
/// list (value)
std::vector<Value> to_vector (const Value &value);

/// str (value) and repr (value).
std::string to_text (const Value &value);
void append_text (std::string &out, const Value &value);
void append_repr (std::string &out, const Value &value);
std::string repr (const Value &value);
std::string repr (std::string_view text);
/// repr (float)
std::string format_float (double value);

/// Throws the UndefinedError of an undefined value.
[[noreturn]] void fail_undefined (const Value &undefined);
/// Throws "unhashable type: ..." for lists and dicts.
void check_hashable (const Value &value);

} // namespace millrace::jinja
