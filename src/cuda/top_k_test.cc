// The top-k of a choice against a stable sort.
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <string>

#include "cuda/selection_params.h"
#include "cuda/selection_test_bed.h"

namespace tidal {
namespace {

class CudaTopKTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "NOT TESTED: there is no CUDA device here";
    int device = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&geometry_.num_sms, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&geometry_.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                           device);
    ASSERT_EQ(PrepareTopK(&geometry_), cudaSuccess);
  }

  // The chosen positions of each row of values [rows][count].
  std::vector<std::vector<int32_t>> Take(const std::vector<float>& values, int32_t rows,
                                         int32_t wanted, const TopKShape& shape) {
    const auto count = static_cast<int32_t>(values.size()) / rows;
    const auto max_tokens = static_cast<int32_t>((count + 63) / 64 * 64);
    std::vector<float> padded(static_cast<size_t>(int64_t{rows} * max_tokens), NAN);
    for (int32_t r = 0; r < rows; ++r)
      std::copy_n(values.begin() + int64_t{r} * count, count,
                  padded.begin() + int64_t{r} * max_tokens);
    std::vector<int32_t> pages(static_cast<size_t>(max_tokens / 64));
    std::iota(pages.begin(), pages.end(), 0);
    const DeviceBuffer device_values = OnDevice(padded);
    const DeviceBuffer ordered = OnDevice(padded);
    const DeviceBuffer device_pages = OnDevice(pages);
    const DeviceBuffer totals = OnDevice(std::vector<ChoiceTotals>(1));
    const DeviceBuffer slots = OnDevice(std::vector<int32_t>(padded.size(), -1));
    const DeviceBuffer counts = OnDevice(std::vector<int32_t>(static_cast<size_t>(rows), -1));
    const DeviceBuffer sequences =
        OnDevice(std::vector<DeviceSequence>{{.q_len = 1, .kv_len = count}});
    const DeviceBuffer flags = OnDevice(std::vector<uint8_t>{kChooses});
    const DeviceBuffer reports = OnDevice(std::vector<DeviceChoiceReport>(1));
    ChoiceParams params;
    params.values = params.masses = device_values.as<float>();
    params.ordered = ordered.as<uint32_t>();
    params.totals = totals.as<ChoiceTotals>();
    params.slots = slots.as<int32_t>();
    params.counts = counts.as<int32_t>();
    params.capacity = max_tokens;
    params.num_sets = rows;
    params.always_end = count;
    params.wanted = wanted;
    const DeviceBuffer device_params = OnDevice(std::vector<ChoiceParams>{params});
    ChoiceLaunch launch;
    launch.step = {sequences.as<DeviceSequence>(), device_pages.as<int32_t>(), flags.as<uint8_t>(),
                   1};
    launch.params = device_params.as<ChoiceParams>();
    launch.reports = reports.as<DeviceChoiceReport>();
    launch.num_heads = rows;
    launch.max_tokens = max_tokens;
    EXPECT_EQ(LaunchSelect(launch, shape, rows, nullptr), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<int32_t> sizes(static_cast<size_t>(rows));
    cudaMemcpy(sizes.data(), counts.data(), sizes.size() * 4, cudaMemcpyDeviceToHost);
    std::vector<std::vector<int32_t>> sets;
    for (int32_t r = 0; r < rows; ++r) {
      std::vector<int32_t> set(static_cast<size_t>(std::max(sizes[static_cast<size_t>(r)], 0)));
      cudaMemcpy(set.data(), slots.as<int32_t>() + int64_t{r} * max_tokens, set.size() * 4,
                 cudaMemcpyDeviceToHost);
      sets.push_back(std::move(set));
    }
    return sets;
  }

  void Check(const std::vector<float>& values, int32_t rows, int32_t wanted) {
    const auto count = static_cast<int32_t>(values.size()) / rows;
    const auto max_tokens = static_cast<int32_t>((count + 63) / 64 * 64);
    std::vector<std::vector<int32_t>> expected;
    for (int32_t r = 0; r < rows; ++r) {
      const float* row = values.data() + int64_t{r} * count;
      std::vector<int32_t> order;
      for (int32_t i = 0; i < count; ++i)
        if (!std::isnan(row[i])) order.push_back(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return row[a] > row[b]; });
      order.resize(std::min(order.size(), static_cast<size_t>(wanted)));
      std::sort(order.begin(), order.end());
      expected.push_back(std::move(order));
    }
    // Every size of clusters, values in shared memory and not.
    for (const int32_t total_sets :
         {1, geometry_.num_sms / 4, geometry_.num_sms / 2, geometry_.num_sms}) {
      TopKShape shape = ShapeOfTopK(geometry_, max_tokens, total_sets);
      for (const bool in_shared : {true, false}) {
        if (!in_shared) shape.shared_ordered = 0;
        EXPECT_EQ(Take(values, rows, wanted, shape), expected)
            << count << " values, wanted " << wanted << ", blocks " << shape.cluster
            << (in_shared ? "" : ", from device memory");
        if (HasFailure()) return;
      }
    }
  }

  ChoiceGeometry geometry_;
};

TEST_F(CudaTopKTest, EverySmallSize) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1);
  for (const int32_t count : {1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 1025}) {
    std::vector<float> values(static_cast<size_t>(count * 3));
    for (float& value : values) value = normal(random);
    for (const int32_t wanted : {0, 1, 2, count / 2, count - 1, count, count + 5}) {
      Check(values, 3, std::max(wanted, 0));
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaTopKTest, Ties) {
  std::mt19937 random(2);
  for (const int32_t levels : {1, 2, 5}) {
    std::vector<float> values(20000);
    for (float& value : values)
      value =
          static_cast<float>(static_cast<int32_t>(random() % static_cast<uint32_t>(levels))) - 1.0f;
    for (const int32_t wanted : {1, 100, 4096, 19999}) Check(values, 1, wanted);
  }
}

TEST_F(CudaTopKTest, OddValues) {
  std::mt19937 random(3);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float odd[] = {0.0f, -0.0f, kInf, -kInf, NAN, 1e-40f, -1e-40f, 3.0f, 3.0000002f, -3.0f};
  std::vector<float> values(5000);
  for (float& value : values) value = odd[random() % 10];
  for (const int32_t wanted : {1, 400, 700, 1500, 3000, 4400, 5000}) Check(values, 1, wanted);
}

TEST_F(CudaTopKTest, Many) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 3);
  for (const int32_t count : {100000, 262144}) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = std::exp(normal(random));
    for (const int32_t wanted : {1, 1024, 50000, count}) Check(values, 1, wanted);
  }
}

}  // namespace
}  // namespace tidal
