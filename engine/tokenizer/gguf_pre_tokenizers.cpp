#include "engine/tokenizer/gguf_pre_tokenizers.hpp"

#include "engine/tokenizer/tokenizer_parts.hpp"

namespace millrace
{

namespace
{

// Patterns, in Oniguruma's syntax; kByteLevelPattern is one more.

constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kYoutu =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kYoutuAsian =
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
/// The letters of other scripts than Han, as the model's pattern takes them out of each class.
constexpr std::string_view kKimi =
    R"(\p{Han}+|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kUfakzeka =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kMinicpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kJais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";
constexpr std::string_view kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSpark =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kAfmoeAsian =
    "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-"
    "ꩿꧠ-꧿가-힯ᄀ-ᇿ]+";
constexpr std::string_view kDeepseekLetters =
    R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+)";
constexpr std::string_view kDeepseekPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kFinalSpace = R"(\s+$)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kDigits = R"(\p{N}+)";
constexpr std::string_view kAsciiThreeDigits = "[0-9][0-9][0-9]";
constexpr std::string_view kLineEnd = R"([\r\n])";
constexpr std::string_view kLines = R"([^\n]+|[\n]+)";
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr std::string_view kHanAndHangul = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kFalconPunctuation = R"([\p{P}\$\+<=>\^~\|`]+)";
constexpr std::string_view kSentinel = "<sentinel:[0-9]+>";
constexpr std::string_view kImage = "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z";
constexpr std::string_view kTabsAndSpaces = R"([\t\n]|    |  )";
constexpr std::string_view kOnePunctuation = R"([\p{P}!-/:-@\[-`{-~])";
constexpr std::string_view kNoSpace = R"(\S+)";

// "default" is what files say that were made before there was a tokenizer.ggml.pre.
constexpr GgufPreTokenizer kKinds[] = {
    {.names = {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"},
     .patterns = {kQwen2Pattern},
     .normalizes = true},
    {.names = {"megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"}, .patterns = {kQwen2Pattern}},
    {.names = {"qwen35"}, .patterns = {kQwen35Pattern}, .normalizes = true},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
               "jina-v5-nano"},
     .patterns = {kLlama3Pattern},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = {"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, .patterns = {kLlama3Pattern}},
    {.names = {"minicpm5"}, .patterns = {kThreeDigits, kMinicpm5}, .ignore_merges = true},
    {.names = {"jais-2"}, .patterns = {kJais2}},
    {.names = {"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0",
               "mellum", "exaone4", "jais", "trillion", "granite-docling"},
     .patterns = {kByteLevelPattern}},
    {.names = {"jina-v1-en", "jina-v2-code", "roberta-bpe"}, .patterns = {kByteLevelPattern}},
    {.names = {"mpt", "olmo", "modern-bert"}, .patterns = {kByteLevelPattern}, .normalizes = true},
    {.names = {"starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"},
     .patterns = {kDigit, kByteLevelPattern}},
    {.names = {"command-r"}, .patterns = {kDigit, kByteLevelPattern}, .normalizes = true},
    {.names = {"falcon"}, .patterns = {kFalconPunctuation, kByteLevelPattern, kAsciiThreeDigits}},
    {.names = {"deepseek-llm"},
     .patterns = {kLineEnd, kDeepseekLetters, kDeepseekPunctuation, kFinalSpace, kHanAndHangul, kDigits}},
    {.names = {"deepseek-coder"},
     .patterns = {kLineEnd, kSpacedLetters, kSpacedPunctuation, kHanAndHangul, kDigit}},
    {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
     .patterns = {kThreeDigits, kHanAndKana, kDeepseek3}},
    {.names = {"spark2_5"}, .patterns = {kThreeDigits, kHanAndKana, kSpark, kDigit}},
    {.names = {"youtu"}, .patterns = {kYoutuAsian, kYoutu}, .ignore_merges = true},
    {.names = {"afmoe"}, .patterns = {kAfmoeAsian, kDeepseek3}, .groups_digits = true},
    {.names = {"tekken"}, .patterns = {kTekken}, .ignore_merges = true, .adds_bos = true},
    {.names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, .patterns = {kO200k}},
    {.names = {"granite-embed-multi-97m"}, .patterns = {kO200k}, .ignore_merges = true},
    {.names = {"tiny_aya", "cohere2moe"}, .patterns = {kO200k}, .groups_digits = true, .whole_numbers = true},
    {.names = {"kimi-k2"}, .patterns = {kKimi}},
    {.names = {"superbpe"}, .patterns = {kDigits}, .cuts_digits = true},
    {.names = {"bailingmoe", "bailingmoe2", "llada-moe"}, .patterns = {kBailing}},
    {.names = {"seed-coder"}, .patterns = {kSeedCoder}},
    {.names = {"ufakzeka"}, .patterns = {kUfakzeka}},
    {.names = {"laguna"}, .patterns = {kLines, kQwen2Pattern}},
    {.names = {"exaone-moe"}, .patterns = {kExaoneMoe}},
    {.names = {"bloom", "poro-chat", "gpt3-finnish"}, .patterns = {kBloom}},
    {.names = {"viking"}, .patterns = {kBloom, kDigit}},
    {.names = {"chameleon"},
     .patterns = {kSentinel, kImage, kTabsAndSpaces, kDigit, kOnePunctuation, kByteLevelPattern},
     .adds_bos = true},
    {.names = {"gemma4", "granite-embed-multi-311m"},
     .patterns = {kLines},
     .ignore_merges = true,
     .adds_bos = true,
     .of_characters = true,
     .metaspaces = true},
    {.names = {"sarvam-moe"}, .patterns = {kLines}, .of_characters = true, .metaspaces = true},
    {.names = {"whitespace"}, .patterns = {kNoSpace}, .of_characters = true},
    {.names = {"default"}, .patterns = {kPunctuation, kByteLevelPattern, kDigits, kAsciiThreeDigits}},
};

} // namespace

const GgufPreTokenizer *
find_gguf_pre_tokenizer (std::string_view name)
{
  for (const GgufPreTokenizer &kind : kKinds)
    for (const std::string_view known : kind.names)
      if (!known.empty () && known == name)
        return &kind;
  return nullptr;
}

std::string
gguf_pre_tokenizer_names ()
{
  std::string names;
  for (const GgufPreTokenizer &kind : kKinds)
    for (const std::string_view name : kind.names)
      if (!name.empty ())
        names.append (names.empty () ? "" : ", ").append (name);
  return names;
}

PreTokenizer
make_pre_tokenizer (const GgufPreTokenizer &kind)
{
  using Stage = PreTokenizer::Stage;
  PreTokenizer pre_tokenizer;
  pre_tokenizer.byte_level = !kind.of_characters;
  if (kind.groups_digits)
    pre_tokenizer.stages.push_back ({.kind = Stage::kDigitGroups, .whole_numbers = kind.whole_numbers});
  for (const std::string_view pattern : kind.patterns)
    if (!pattern.empty ())
      pre_tokenizer.stages.push_back (split_stage (pattern));
  if (kind.cuts_digits)
    pre_tokenizer.stages.push_back ({.kind = Stage::kDigitCuts});
  return pre_tokenizer;
}

} // namespace millrace
