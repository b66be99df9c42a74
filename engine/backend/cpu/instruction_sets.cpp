#include "engine/backend/cpu/instruction_sets.hpp"

#include "engine/backend/cpu/attention_kernels.hpp"
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include "engine/backend/cpu/kernels_avx2.hpp"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include "engine/backend/cpu/kernels_neon.hpp"

#include <sys/auxv.h>
#endif

namespace millrace::cpu
{

namespace
{

using Isa = CpuOptions::Isa;

constexpr InstructionSet kSets[] = {
    {Isa::kPortable, "portable", "nothing"},
    {Isa::kNeon, "neon", "an ARM processor of 64 bits"},
    {Isa::kDotprod, "dotprod", "ARM's dot-product instructions"},
    {Isa::kI8mm, "i8mm", "ARM's dot-product and 8-bit matrix-product instructions"},
    {Isa::kAvx2, "avx2", "AVX2, FMA and F16C"},
    {Isa::kAvxVnni, "avxvnni", "AVX2, FMA, F16C and AVX-VNNI"},
    {Isa::kAvx512, "avx512", "AVX-512 F, BW, DQ, VL and VNNI, AVX2, FMA and F16C"},
    {Isa::kAmx, "amx", "AMX of 8-bit integers, which Linux allows from 5.16 on, and what avx512 needs"},
};

#if defined(__x86_64__) || defined(__i386__)

struct Features {
  bool avx2 = false, avx_vnni = false, avx512 = false, amx = false;
  bool is_intel = false;
};

/// The registers that the system saves and restores (XCR0).
uint32_t
saved_registers ()
{
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

/// Asks the system, once, to keep tiles for this process's threads. It refuses when a thread's stack for signals has no room for them.
bool
may_use_tiles ()
{
  constexpr long kRequestPermission = 0x1023, kTileData = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  static const bool may = syscall (SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return may;
}

// Bits: Intel's Software Developer's Manual, CPUID leaves 1 and 7, and section 13.3 for XCR0.
Features
features_of_host ()
{
  const auto bit = [] (unsigned word, int index) { return (word >> index & 1) != 0; };
  constexpr uint32_t kYmm = 0x06, kZmm = 0xe6; // SSE and AVX; with masks and both halves of ZMM
  constexpr uint32_t kTiles = 0x60000;
  Features features;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  features.is_intel = __get_cpuid (0, &eax, &ebx, &ecx, &edx) && ebx == signature_INTEL_ebx;
  if (!__get_cpuid (1, &eax, &ebx, &ecx, &edx) || !bit (ecx, 27)) // OSXSAVE
    return features;
  const bool fma = bit (ecx, 12), avx = bit (ecx, 28), f16c = bit (ecx, 29);
  const uint32_t saved = saved_registers ();
  if (!fma || !avx || !f16c || (saved & kYmm) != kYmm || !__get_cpuid_count (7, 0, &eax, &ebx, &ecx, &edx))
    return features;
  features.avx2 = bit (ebx, 5);
  const bool foundation = bit (ebx, 16), dq = bit (ebx, 17), bw = bit (ebx, 30), vl = bit (ebx, 31);
  const bool vnni = bit (ecx, 11);
  features.avx512 = features.avx2 && foundation && dq && bw && vl && vnni && (saved & kZmm) == kZmm;
  const bool tiles = bit (edx, 24), bytes_in_tiles = bit (edx, 25);
  features.amx = features.avx512 && tiles && bytes_in_tiles && (saved & kTiles) == kTiles;
  const bool has_more = eax >= 1;
  if (has_more && __get_cpuid_count (7, 1, &eax, &ebx, &ecx, &edx))
    features.avx_vnni = features.avx2 && bit (eax, 4);
  return features;
}

#endif

constexpr auto kQ8 = static_cast<size_t> (Format::kQ8);

/// Those entries that there are.
template <typename Kernel, size_t kCount>
void
replace (Kernel (&kernels)[kCount], const Kernel (&others)[kCount])
{
  for (size_t i = 0; i < kCount; ++i)
    if (others[i])
      kernels[i] = others[i];
}

/// `table` with those products of panels that there are, which all take bytes.
[[maybe_unused]] KernelTable
with_panels (KernelTable table, const char *name, const PanelProducts &panels)
{
  table.name = name;
  if (panels.linear[kQ8])
    table.activations[kQ8] = Activations::kByte32;
  replace (table.linear, panels.linear);
  return table;
}

#if defined(__x86_64__) || defined(__i386__)

KernelTable
avx512_table (const KernelTable &avx2)
{
  KernelTable table = with_panels (avx2, "avx512", kAvx512Panels);
  replace (table.linear, kAvx512Floats.linear);
  replace (table.attention, kAvx512Attention.attention);
  replace (table.quantize, kAvx512Quantize.quantize);
  return table;
}

KernelTable
amx_table (const KernelTable &avx512)
{
  KernelTable table = with_panels (avx512, "amx", kAmxPanels);
  table.tokens_at_once = 256;
  return table;
}

KernelTable
avx2_table (const Features &features)
{
  KernelTable table = kAvx2Kernels;
  table.is_intel = features.is_intel;
  if (features.is_intel)
    table.read = avx2::read_early;
  return table;
}

// What is neither a product of panels, nor its activations, nor attention gains too little to be written again.
const KernelTable *
find_kernels (Isa isa)
{
  static const Features features = features_of_host ();
  static const KernelTable avx2 = avx2_table (features);
  static const KernelTable avx_vnni = with_panels (avx2, "avxvnni", kAvxVnniPanels);
  static const KernelTable avx512 = avx512_table (avx2);
  static const KernelTable amx = amx_table (avx512);
  switch (isa) {
  case Isa::kAvx2:
    return features.avx2 ? &avx2 : nullptr;
  case Isa::kAvxVnni:
    return features.avx_vnni && kAvxVnniPanels.linear[kQ8] ? &avx_vnni : nullptr;
  case Isa::kAvx512:
    return features.avx512 && kAvx512Panels.linear[kQ8] ? &avx512 : nullptr;
  case Isa::kAmx:
    return features.amx && kAmxPanels.linear[kQ8] && kAvx512Panels.linear[kQ8] && may_use_tiles () ? &amx
                                                                                                   : nullptr;
  default:
    return nullptr;
  }
}

#elif defined(__aarch64__)

KernelTable
neon_table (const char *name, const PanelProducts &panels)
{
  KernelTable table = with_panels (kPortableKernels, name, panels);
  const auto index = [] (auto value) { return static_cast<size_t> (value); };
  table.linear[index (Format::kF32)] = neon::linear_f32;
  table.linear[index (Format::kF16)] = neon::linear_f16;
  table.linear[index (Format::kBF16)] = neon::linear_bf16;
  table.expand[index (Format::kF16)] = neon::expand_f16;
  table.quantize[index (Activations::kByte32)] = neon::quantize_byte32;
  table.quantize[index (Activations::kByte256)] = neon::quantize_byte256;
  table.rms_norm = neon::rms_norm;
  table.silu = neon::silu;
  return table;
}

const KernelTable *
find_kernels (Isa isa)
{
  static const KernelTable neon = neon_table ("neon", kNeonPanels);
  static const KernelTable dotprod = neon_table ("dotprod", kDotprodPanels);
  static const KernelTable i8mm = neon_table ("i8mm", kI8mmPanels);
  constexpr unsigned long kDotProduct = 1ul << 20;    // HWCAP_ASIMDDP
  constexpr unsigned long kMatrixProduct = 1ul << 13; // HWCAP2_I8MM
  const bool has_dots = (getauxval (AT_HWCAP) & kDotProduct) != 0;
  switch (isa) {
  case Isa::kNeon:
    return &neon;
  case Isa::kDotprod:
    return has_dots && kDotprodPanels.linear[kQ8] ? &dotprod : nullptr;
  case Isa::kI8mm:
    return has_dots && (getauxval (AT_HWCAP2) & kMatrixProduct) && kI8mmPanels.linear[kQ8] ? &i8mm : nullptr;
  default:
    return nullptr;
  }
}

#else

const KernelTable *
find_kernels (Isa)
{
  return nullptr;
}

#endif

} // namespace

std::span<const InstructionSet>
instruction_sets ()
{
  return kSets;
}

const KernelTable *
kernels_of (Isa isa)
{
  if (isa == Isa::kPortable)
    return &kPortableKernels;
  return isa == Isa::kAuto ? kernels_of (host_isas ().back ()) : find_kernels (isa);
}

std::vector<Isa>
host_isas ()
{
  std::vector<Isa> isas;
  for (const InstructionSet &set : kSets) {
    if (kernels_of (set.isa))
      isas.push_back (set.isa);
  }
  return isas;
}

} // namespace millrace::cpu
