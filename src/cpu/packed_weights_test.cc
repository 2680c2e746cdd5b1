#include "cpu/packed_weights.h"

#include <gtest/gtest.h>

#include "cpu/aligned_buffer.h"
#include "cpu/matmul_test_util.h"
#include "quant/widen.h"

namespace tidal {
namespace {

// Reads a packed matrix element by element, as packed_layout.h describes it.
class PackedReader {
 public:
  explicit PackedReader(const PackedMatrix& m) : m_(m) {}

  float At(int64_t row, int64_t col) const {
    const uint8_t* tile = reinterpret_cast<const uint8_t*>(m_.data) + row / 16 * m_.tile_bytes();
    const int64_t r = row % 16;
    switch (m_.type) {
      case PackedType::kF32:
        return ReadAt<float>(tile, col * 16 + r);
      case PackedType::kF16:
        return Half(tile, col * 16 + r);
      case PackedType::kBF16:
        return Bf16ToF32(ReadAt<uint16_t>(tile, col * 16 + r));
      default:
        break;
    }
    const int bits = TraitsOf(m_.type).bits;
    const bool super = UnitCols(m_.type) == 256;
    const int64_t codes = bits * 64 * (super ? 8 : 1);
    const int64_t in_unit = super ? col / 32 % 8 : 0;
    const uint8_t* unit = tile + col / (super ? 256 : 32) * (codes + ScaleBytes());
    const uint8_t* scales = unit;
    const int code = Code(unit + ScaleBytes() + in_unit * bits * 64, bits, r, col % 32);
    switch (m_.type) {
      case PackedType::kQ4_0:
        return Half(scales, r) * float(code - 8);
      case PackedType::kQ5_0:
        return Half(scales, r) * float(code - 16);
      case PackedType::kQ8_0:
        return Half(scales, r) * float(code - 128);
      case PackedType::kQ4_1:
      case PackedType::kQ5_1:
        return Half(scales, r) * float(code) + Half(scales, 16 + r);
      case PackedType::kQ4_K:
      case PackedType::kQ5_K: {
        const float d = Half(scales, r) * float(scales[64 + in_unit * 32 + r]);
        const float m = Half(scales, 16 + r) * float(scales[64 + in_unit * 32 + 16 + r]);
        return d * float(code) + m;
      }
      default: {  // Q6_K
        const float scale = static_cast<int8_t>(scales[32 + col % 256 / 16 * 16 + r]);
        return Half(scales, r) * scale * float(code - 32);
      }
    }
  }

  int ScaleBytes() const {
    switch (m_.type) {
      case PackedType::kQ4_1:
      case PackedType::kQ5_1:
        return 64;
      case PackedType::kQ4_K:
      case PackedType::kQ5_K:
      case PackedType::kQ6_K:
        return 320;
      default:
        return 32;
    }
  }

 private:
  template <typename T>
  static T ReadAt(const uint8_t* base, int64_t index) {
    T value;
    std::memcpy(&value, base + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  static float Half(const uint8_t* base, int64_t index) {
    return F16ToF32(ReadAt<uint16_t>(base, index));
  }
  static int Code(const uint8_t* group, int bits, int64_t r, int64_t k) {
    const int64_t s = k / 4, t = k % 4;
    if (bits == 8) return group[(s * 16 + r) * 4 + t];
    const int64_t at = (k % 16 / 4 * 16 + r) * 4 + t;
    const int low = k < 16 ? group[at] & 15 : group[at] >> 4;
    if (bits == 5) return low + (group[256 + r * 4 + t] >> s & 1) * 16;
    if (bits == 6) return low + (group[256 + k / 16 * 64 + r * 4 + t] >> (s % 4 * 2) & 3) * 16;
    return low;
  }

  PackedMatrix m_;
};

TEST(PackTest, EveryElementIsWhatTheFileHolds) {
  ThreadPool pool(2);
  for (DType dtype : kAllDTypes) {
    const int64_t unit = UnitCols(PackedTypeOf(dtype));
    for (int64_t rows : {1, 15, 16, 17, 40}) {
      for (int64_t cols : {unit, 3 * unit, 7 * unit}) {
        SCOPED_TRACE(testing::Message() << NameOf(dtype) << " " << rows << " x " << cols);
        const TestMatrix m = MakeTestMatrix(dtype, rows, cols, 7);
        const TestMemory memory(PackedBytes(dtype, rows, cols));
        const PackedMatrix packed = Pack(dtype, rows, cols, m.bytes.data(), memory.data(), pool);
        const PackedReader reader(packed);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < cols; ++c)
            ASSERT_EQ(reader.At(r, c), m.values[size_t(r * cols + c)]) << r << ", " << c;
        }
        for (int64_t r = rows; r < packed.num_tiles() * kRowTile; ++r) {
          for (int64_t c = 0; c < cols; ++c) ASSERT_EQ(reader.At(r, c), 0.0f) << r << ", " << c;
        }
      }
    }
  }
}

TEST(PackTest, RarerTypesArePackedAsWhatTheyAreWidenedTo) {
  ThreadPool pool(2);
  std::mt19937 random(5);
  for (DType dtype : {DType::kQ2_K, DType::kQ3_K, DType::kIQ4_NL, DType::kIQ4_XS}) {
    for (int64_t rows : {1, 16, 37}) {
      const int64_t cols = 512;
      SCOPED_TRACE(testing::Message() << NameOf(dtype) << " " << rows);
      std::vector<std::byte> file(size_t(BytesOf(dtype, rows * cols)));
      for (std::byte& byte : file) byte = std::byte(random());
      std::vector<std::byte> widened(size_t(BytesOf(KeptAs(dtype), rows * cols)));
      WidenRow(dtype, file.data(), widened.data(), rows * cols);
      const int64_t bytes = PackedBytes(dtype, rows, cols);
      EXPECT_EQ(bytes, PackedBytes(KeptAs(dtype), rows, cols));
      const TestMemory found(bytes), expected(bytes);
      EXPECT_EQ(Pack(dtype, rows, cols, file.data(), found.data(), pool).bytes(), bytes);
      Pack(KeptAs(dtype), rows, cols, widened.data(), expected.data(), pool);
      EXPECT_EQ(std::memcmp(found.data(), expected.data(), size_t(bytes)), 0);
    }
  }
}

TEST(PackTest, SizeIsThatOfTheFilePlusWhatTheLayoutSays) {
  for (DType dtype : kAllDTypes) {
    const double file = static_cast<double>(BytesOf(dtype, 1024 * 4096));
    const double packed = static_cast<double>(PackedBytes(dtype, 1024, 4096));
    EXPECT_LE(packed / file, 1.028) << NameOf(dtype);
    EXPECT_GE(packed / file, 1.0) << NameOf(dtype);
  }
}

TEST(AlignedBufferTest, IsAlignedZeroedAndMovable) {
  for (int64_t bytes : {int64_t{1}, int64_t{4097}, int64_t{5} << 20}) {
    Result<AlignedBuffer> created = AlignedBuffer::Create(bytes);
    ASSERT_TRUE(created.ok());
    AlignedBuffer buffer = std::move(created).value();
    const int64_t alignment = bytes >= (2 << 20) ? 2 << 20 : 4096;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % static_cast<uintptr_t>(alignment), 0u);
    EXPECT_EQ(buffer.data()[0], std::byte{0});
    buffer.data()[bytes - 1] = std::byte{1};
    const AlignedBuffer moved = std::move(buffer);
    EXPECT_EQ(moved.bytes(), bytes);
    EXPECT_EQ(moved.data()[bytes - 1], std::byte{1});
  }
  EXPECT_TRUE(AlignedBuffer::Create(0).ok());
}

TEST(AlignedBufferTest, MoreThanThereIsIsAnError) {
  const Result<AlignedBuffer> buffer = AlignedBuffer::Create(int64_t{1} << 62);
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.status().code(), StatusCode::kOutOfMemory);
  EXPECT_NE(buffer.status().message().find("4611686018427387904"), std::string::npos);
}

}  // namespace
}  // namespace tidal
