// Shapes of models that people compare speeds on, to be had without their weights.
#ifndef TIDAL_MODEL_KNOWN_SHAPES_H_
#define TIDAL_MODEL_KNOWN_SHAPES_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace tidal {

// What Model::WithRandomWeights makes a model of.
struct RandomModel {
  ModelConfig config;
  DType dtype = DType::kBF16;  // of all matrices
};

// "llama2-7b", "llama3-8b", ..., and the types of ParseWeightType: "f32", "f16", ...
std::vector<std::string> KnownShapeNames();
std::vector<std::string> WeightTypeNames();
// The shape of that name, of a context as long as memory allows. What does not change the cost of a
// step is left out: biases, RoPE scaling, the tie between embedding and output.
// kInvalidArgument, naming `flag`, the name and those that there are.
Result<ModelConfig> FindKnownShape(std::string_view flag, std::string_view name);

// "bf16", "q4_k": a type that weights are kept as. kInvalidArgument, naming `flag`, the text and
// the types.
Result<DType> ParseWeightType(std::string_view flag, std::string_view text);
// Whether every row of the shape's matrices is whole blocks of the type: kInvalidArgument says
// which length is not.
Status CheckRandomModel(const RandomModel& model);

}  // namespace tidal

#endif  // TIDAL_MODEL_KNOWN_SHAPES_H_
