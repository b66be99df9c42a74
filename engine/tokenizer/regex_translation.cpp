#include "engine/tokenizer/regex_translation.hpp"

#include "engine/tokenizer/regex_properties.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <stdexcept>
#include <vector>

namespace millrace
{

namespace
{

constexpr size_t kNone = std::string::npos;

[[noreturn]] void
refuse (std::string_view construct)
{
  throw std::invalid_argument (std::string (construct) + " is not supported");
}

bool
is_digit (char c)
{
  return c >= '0' && c <= '9';
}

bool
is_hex (char c)
{
  return is_digit (c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool
is_letter (char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Contents of \w. Outside a class Oniguruma counts the superscripts and fractions of Latin-1 as well.
std::string
word_set (bool in_class)
{
  return (in_class ? "" : "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}") + property_set ("Word");
}

/// What an escape stands for: a set of characters (possibly negated) or text to copy.
struct Escape {
  bool is_set = false;
  bool negated = false;
  std::string text; ///< a set's contents without brackets, or PCRE2's spelling of the character
};

class Translator
{
public:
  explicit Translator (std::string_view pattern)
      : in_ (pattern)
  {
    groups_.push_back ({kNone, 0});
  }

  std::string translate ();

private:
  struct Group {
    size_t start; ///< in the output, of the parenthesis
    int options;  ///< "(?i)" in the middle of a group: groups opened for it that end with this one
  };
  struct Interval {
    size_t size = 0; ///< in the input; 0: not an interval
    std::string text;
    bool exact = false; ///< {n}
  };

  bool at_end () const { return at_ >= in_.size (); }
  char peek (size_t ahead = 0) const { return at_ + ahead < in_.size () ? in_[at_ + ahead] : '\0'; }
  /// Appends an atom, which a quantifier may follow.
  void emit_atom (std::string_view text)
  {
    atom_ = out_.size ();
    quantified_ = false;
    out_ += text;
  }
  void wrap_atom ()
  {
    if (atom_ == kNone)
      return;
    out_.insert (atom_, "(?:");
    out_ += ')';
  }

  void open_group ();
  void close_group ();
  void options ();
  void quantifier ();
  Interval interval () const;
  Escape escape (bool in_class);
  Escape property (bool negated);
  std::string hexadecimal (char kind);
  void escape_outside ();
  void character_class ();

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  std::vector<Group> groups_;
  size_t atom_ = kNone;
  bool quantified_ = false;
};

std::string
Translator::translate ()
{
  while (!at_end ()) {
    const char c = peek ();
    switch (c) {
    case '\\':
      escape_outside ();
      break;
    case '[':
      character_class ();
      break;
    case '(':
      open_group ();
      break;
    case ')':
      close_group ();
      break;
    case '*':
    case '+':
    case '?':
      quantifier ();
      break;
    case '{':
      if (interval ().size > 0) {
        quantifier ();
      } else {
        emit_atom ("\\{");
        at_++;
      }
      break;
    case '|':
    case '^':
    case '$':
      out_ += c;
      atom_ = kNone;
      at_++;
      break;
    case '.':
      emit_atom (".");
      at_++;
      break;
    default: {
      const int size = utf8::sequence_size (static_cast<unsigned char> (c));
      emit_atom (in_.substr (at_, size));
      at_ += size;
    }
    }
  }
  if (groups_.size () > 1)
    throw std::invalid_argument ("a parenthesis is not closed");
  out_.append (groups_.back ().options, ')');
  return std::move (out_);
}

void
Translator::open_group ()
{
  const size_t start = out_.size ();
  if (peek (1) == '*')
    refuse ("(*…)");
  atom_ = kNone;
  if (peek (1) != '?') {
    out_ += '(';
    at_++;
    groups_.push_back ({start, 0});
    return;
  }

  const char kind = peek (2), next = peek (3);
  if (kind == '#') {
    const size_t end = in_.find (')', at_);
    if (end == kNone)
      throw std::invalid_argument ("a comment is not closed");
    at_ = end + 1;
    return;
  }
  size_t size = 0;
  if (kind == ':' || kind == '=' || kind == '!' || kind == '>')
    size = 3;
  else if (kind == '<' && (next == '=' || next == '!'))
    size = 4;
  else if (kind == '<' && (is_letter (next) || next == '_')) {
    const size_t end = in_.find ('>', at_);
    size = end == kNone ? 0 : end + 1 - at_;
  }
  if (size > 0) {
    out_ += in_.substr (at_, size);
    at_ += size;
    groups_.push_back ({start, 0});
    return;
  }
  options ();
}

/// "(?i)", "(?i:", "(?m-i:" and the like.
void
Translator::options ()
{
  const size_t start = out_.size ();
  const size_t begin = at_;
  std::string on, off;
  bool minus = false;
  for (at_ += 2; is_letter (peek ()) || peek () == '-'; at_++) {
    const char c = peek ();
    if (c == '-')
      minus = true;
    else if (c == 'i')
      (minus ? off : on) += 'i';
    else if (c == 'm') // Ruby's "multiline" lets the dot match a newline
      (minus ? off : on) += 's';
    else if (c == 'x' && minus)
      ; // off is all there is
    else
      refuse (in_.substr (begin, at_ + 1 - begin));
  }
  const char end = peek ();
  if (end != ':' && end != ')')
    refuse (in_.substr (begin, std::min<size_t> (in_.size () - begin, at_ - begin + 1)));
  at_++;
  out_ += "(?" + on + (off.empty () ? "" : "-" + off) + ':';
  // In Ruby "a(?i)b|c" means "a(?i:b|c)": the group lasts until the enclosing one ends.
  if (end == ')')
    groups_.back ().options++;
  else
    groups_.push_back ({start, 0});
}

void
Translator::close_group ()
{
  if (groups_.size () == 1)
    throw std::invalid_argument ("a parenthesis is not opened");
  const Group group = groups_.back ();
  groups_.pop_back ();
  out_.append (group.options + 1, ')');
  atom_ = group.start;
  quantified_ = false;
  at_++;
}

Translator::Interval
Translator::interval () const
{
  size_t p = at_ + 1;
  std::string low, high;
  bool comma = false;
  while (p < in_.size () && is_digit (in_[p]))
    low += in_[p++];
  if (p < in_.size () && in_[p] == ',') {
    comma = true;
    p++;
    while (p < in_.size () && is_digit (in_[p]))
      high += in_[p++];
  }
  if (p >= in_.size () || in_[p] != '}' || (low.empty () && high.empty ()))
    return {};
  Interval interval;
  interval.size = p + 1 - at_;
  interval.exact = !comma;
  interval.text.append ("{").append (low.empty () ? "0" : low);
  if (comma)
    interval.text.append (",").append (high);
  interval.text += '}';
  return interval;
}

void
Translator::quantifier ()
{
  // A quantifier of a quantified atom: PCRE2 wants a group around it.
  if (quantified_)
    wrap_atom ();
  quantified_ = true;
  if (peek () != '{') {
    out_ += in_[at_++];
    if (peek () == '?' || peek () == '+') // lazy, possessive: the same in both
      out_ += in_[at_++];
    return;
  }
  const Interval found = interval ();
  out_ += found.text;
  at_ += found.size;
  // {n,m}? is lazy in both; {n}? and {n,m}+ are quantifiers of the quantified atom in Ruby's syntax.
  if (peek () == '?' && !found.exact)
    out_ += in_[at_++];
}

/// Reads "\p{…}" from its brace on.
Escape
Translator::property (bool negated)
{
  if (peek () != '{')
    refuse ("\\p without {…}");
  const size_t end = in_.find ('}', at_);
  if (end == kNone)
    throw std::invalid_argument ("\\p{ is not closed");
  std::string_view name = in_.substr (at_ + 1, end - at_ - 1);
  at_ = end + 1;
  if (name.starts_with ('^')) {
    negated = !negated;
    name.remove_prefix (1);
  }
  return {true, negated, property_set (name)};
}

/// Reads the digits of \x, \x{…} and \u.
std::string
Translator::hexadecimal (char kind)
{
  std::string digits;
  if (kind == 'x' && peek () == '{') {
    for (at_++; is_hex (peek ()); at_++)
      digits += peek ();
    if (peek () != '}' || digits.empty ())
      refuse ("\\x{…} with anything but one hexadecimal number");
    at_++;
  } else {
    const size_t wanted = kind == 'u' ? 4 : 2;
    while (digits.size () < wanted && is_hex (peek ()))
      digits += in_[at_++];
    if (digits.empty () || (kind == 'u' && digits.size () < wanted))
      refuse (kind == 'u' ? "\\u without four digits" : "\\x without digits");
    if (kind == 'x' && std::stoul (digits, nullptr, 16) > 0x7F)
      refuse ("\\x" + digits + " (a byte; write \\x{…} for a character)");
  }
  return "\\x{" + digits + "}";
}

/// Reads an escape that means the same outside and inside a class.
Escape
Translator::escape (bool in_class)
{
  const char c = peek (1);
  if (at_ + 1 >= in_.size ())
    throw std::invalid_argument ("the pattern ends with a backslash");
  at_ += 2;
  switch (c) {
  case 'd':
  case 'D':
    return {true, c == 'D', property_set ("Nd")};
  case 's':
  case 'S':
    return {true, c == 'S', property_set ("White_Space")};
  case 'w':
  case 'W':
    return {true, c == 'W', word_set (in_class)};
  case 'h':
  case 'H':
    return {true, c == 'H', "0-9A-Fa-f"};
  case 'p':
  case 'P':
    return property (c == 'P');
  case 'x':
  case 'u':
    return {false, false, hexadecimal (c)};
  case 'v':
    return {false, false, "\\x{b}"};
  case 'n':
  case 't':
  case 'r':
  case 'f':
  case 'a':
  case 'e':
    return {false, false, {'\\', c}};
  case 'c':
  case 'C':
  case 'M':
    refuse (std::string ("\\") + c);
  default:
    break;
  }
  const auto byte = static_cast<unsigned char> (c);
  if (byte >= 0x80) {
    const int size = utf8::sequence_size (byte);
    const auto text = in_.substr (at_ - 1, size);
    at_ += size - 1;
    return {false, false, std::string (text)};
  }
  if (is_digit (c)) {
    if (in_class && c != '0')
      refuse ("an octal number in a class");
    std::string digits (1, c);
    while (is_digit (peek ()) && digits.size () < 3)
      digits += in_[at_++];
    return {false, false, "\\" + digits};
  }
  // Letters without a meaning stand for themselves in Ruby's syntax; PCRE2 would complain.
  if (is_letter (c))
    return {false, false, std::string (1, c)};
  return {false, false, {'\\', c}};
}

void
Translator::escape_outside ()
{
  const char c = peek (1);
  const std::string word = word_set (false);
  switch (c) {
  case 'b':
    out_ += "(?:(?<=[" + word + "])(?![" + word + "])|(?<![" + word + "])(?=[" + word + "]))";
    break;
  case 'B':
    out_ += "(?:(?<=[" + word + "])(?=[" + word + "])|(?<![" + word + "])(?![" + word + "]))";
    break;
  case 'A':
  case 'z':
  case 'Z':
  case 'G':
  case 'K':
    out_ += {'\\', c};
    break;
  case 'R':
  case 'N':
    emit_atom (std::string{'\\', c});
    at_ += 2;
    return;
  case 'O':
    emit_atom ("(?s:.)");
    at_ += 2;
    return;
  case 'k':
  case 'g':
  case 'y':
  case 'Y':
  case 'X': // what makes a grapheme depends on the version
    refuse (std::string ("\\") + c);
  default: {
    const Escape found = escape (false);
    if (found.is_set)
      emit_atom ((found.negated ? "[^" : "[") + found.text + "]");
    else
      emit_atom (found.text);
    return;
  }
  }
  atom_ = kNone;
  at_ += 2;
}

void
Translator::character_class ()
{
  at_++;
  const bool negated = peek () == '^';
  if (negated)
    at_++;

  std::string united;                // sets and characters
  std::vector<std::string> excluded; // contents of negated sets: united with the rest they need a group
  bool after_set = false, first = true;
  for (;; first = false) {
    if (at_end ())
      throw std::invalid_argument ("a character class is not closed");
    const char c = peek ();
    if (c == ']' && !first) {
      at_++;
      break;
    }
    if (c == '[' && peek (1) == ':') {
      const size_t end = in_.find (":]", at_);
      if (end == kNone)
        throw std::invalid_argument ("[: is not closed");
      std::string_view name = in_.substr (at_ + 2, end - at_ - 2);
      const bool without = name.starts_with ('^');
      name.remove_prefix (without);
      if (without)
        excluded.push_back (posix_set (name));
      else
        united += posix_set (name);
      at_ = end + 2;
      after_set = true;
    } else if (c == '[') {
      refuse ("a class within a class");
    } else if (c == '&' && peek (1) == '&') {
      refuse ("&& in a class");
    } else if (c == '-') {
      // A hyphen beside a set is itself; between characters it makes a range.
      const bool before_set = peek (1) == '\\' && std::string_view ("dDsSwWhHpP").find (peek (2)) != kNone;
      united += after_set || before_set || first || peek (1) == ']' ? "\\-" : "-";
      at_++;
      after_set = false;
    } else if (c == '\\') {
      const bool backspace = peek (1) == 'b';
      const Escape found = escape (true);
      if (found.negated)
        excluded.push_back (found.text);
      else
        united += backspace ? "\\x{8}" : found.text;
      after_set = found.is_set;
    } else {
      const int size = utf8::sequence_size (static_cast<unsigned char> (c));
      if (c == ']' || c == '^')
        united += '\\';
      united += in_.substr (at_, size);
      at_ += size;
      after_set = false;
    }
  }

  if (excluded.empty ()) {
    emit_atom ((negated ? "[^" : "[") + united + "]");
  } else if (negated) {
    // Outside of U and inside of every complement: [^U\W] = not U, and W.
    std::string text = united.empty () ? "(?:" : "(?:(?![" + united + "])";
    for (size_t i = 0; i + 1 < excluded.size (); i++)
      text += "(?=[" + excluded[i] + "])";
    emit_atom (text + "[" + excluded.back () + "])");
  } else {
    std::string text = united.empty () ? "(?:" : "(?:[" + united + "]|";
    for (size_t i = 0; i < excluded.size (); i++)
      text += (i ? "|[^" : "[^") + excluded[i] + "]";
    emit_atom (text + ")");
  }
}

} // namespace

std::string
translate_regex (std::string_view pattern)
{
  return Translator (pattern).translate ();
}

} // namespace millrace
