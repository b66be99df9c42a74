// Products of panels for aarch64 with dot-product instructions (ARMv8.2 +dotprod). See dot_products_arm.hpp.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

#include "engine/backend/cpu/dot_products_arm.hpp"

namespace millrace::cpu
{

const PanelProducts kDotprodPanels = {{nullptr, nullptr, nullptr, run_panels<Dotprod, Q8>,
                                       run_panels<Dotprod, Q4>, run_panels<Dotprod, Q4K>,
                                       run_panels<Dotprod, Q6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kDotprodPanels = {};

} // namespace millrace::cpu

#endif
