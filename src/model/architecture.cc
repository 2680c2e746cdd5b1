#include "model/architecture.h"

#include <string>

#include "gguf/printable.h"

namespace tidal {
namespace {

constexpr Architecture kArchitectures[] = {
    {"llama", "Llama 2 and 3, Mistral, SmolLM2", RopeStyle::kInterleaved, QkvBias::kOptional,
     QkNorm::kNone},
    {"qwen2", "Qwen2, Qwen2.5", RopeStyle::kHalf, QkvBias::kRequired, QkNorm::kNone},
    {"qwen3", "Qwen3, dense", RopeStyle::kHalf, QkvBias::kOptional, QkNorm::kRequired},
};

}  // namespace

Result<const Architecture*> FindArchitecture(std::string_view name) {
  std::string supported;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
    supported += fmt::format("{}{} ({})", supported.empty() ? "" : ", ", architecture.name,
                             architecture.families);
  }
  return Unsupported("the architecture \"{}\" is not supported; supported are {}", Printable(name),
                     supported);
}

}  // namespace tidal
