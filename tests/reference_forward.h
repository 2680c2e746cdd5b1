// The Llama family's forward pass in plain double precision, as the model's definition reads: no
// cache, no threads, no code shared with the engine but the scalar dequantiser. The oracle of the
// end-to-end tests on random models.
#ifndef TIDAL_TESTS_REFERENCE_FORWARD_H_
#define TIDAL_TESTS_REFERENCE_FORWARD_H_

#include <span>
#include <vector>

#include "model/model.h"

namespace tidal {

// Logits after each token: [tokens.size()][vocab_size].
std::vector<std::vector<double>> ReferenceLogits(const Model& model,
                                                 std::span<const int32_t> tokens);

}  // namespace tidal

#endif  // TIDAL_TESTS_REFERENCE_FORWARD_H_
