// For tests of loading models: files with one thing changed, and what their errors must be.
#ifndef TIDAL_MODEL_MODEL_TESTING_H_
#define TIDAL_MODEL_MODEL_TESTING_H_

#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "model/model.h"
#include "model/test_model.h"

namespace tidal {

inline std::string TempPath(const std::string& name) {
  return fmt::format("{}tidal_model_test_{}_{}", testing::TempDir(), getpid(), name);
}

// Writes the model that `change` has made of the specified one, loads it and removes the file (the
// mapping stays).
inline Result<Model> LoadChanged(const TestModelSpec& spec,
                                 const std::function<void(GgufWriter*)>& change) {
  const std::string path = TempPath("changed.gguf");
  GgufWriter writer = BuildRandomModel(spec);
  change(&writer);
  const Status written = writer.WriteFile(path);
  EXPECT_TRUE(written.ok()) << written.message();
  Result<Model> model = Model::Load(path);
  std::filesystem::remove(path);
  return model;
}

inline void ExpectError(const Result<Model>& model, StatusCode code,
                        const std::vector<std::string>& parts) {
  ASSERT_FALSE(model.ok());
  const std::string& message = model.status().message();
  EXPECT_EQ(model.status().code(), code) << message;
  EXPECT_THAT(message, testing::HasSubstr("changed.gguf"));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const std::string& part : parts) EXPECT_THAT(message, testing::HasSubstr(part));
}

}  // namespace tidal

#endif  // TIDAL_MODEL_MODEL_TESTING_H_
