// Safetensors checkpoints: WeightFiles reads them, and GGUF files as well.
#pragma once

#include "engine/weights/weight_files.hpp"
