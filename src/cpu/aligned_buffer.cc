#include "cpu/aligned_buffer.h"

#include <sys/mman.h>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

}  // namespace

Result<AlignedBuffer> AlignedBuffer::Create(int64_t bytes) {
  TIDAL_CHECK(bytes >= 0, "{} bytes", bytes);
  AlignedBuffer buffer;
  if (bytes == 0) return buffer;
  const int64_t slack = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  int64_t mapped = 0;
  if (!CheckedAdd(bytes, slack, &mapped))
    return OutOfMemory("{} bytes are more than any machine has", bytes);
  void* mapping = mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return OutOfMemory("the system refused {} bytes of memory; use a smaller model or context",
                       bytes);
  buffer.mapping_ = mapping;
  buffer.mapping_bytes_ = static_cast<size_t>(mapped);
  uintptr_t address = reinterpret_cast<uintptr_t>(mapping);
  if (slack != 0) {
    address = (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    // Advice only: without huge pages all works, slower.
    (void)madvise(reinterpret_cast<void*>(address), static_cast<size_t>(bytes), MADV_HUGEPAGE);
  }
  buffer.data_ = reinterpret_cast<std::byte*>(address);
  buffer.bytes_ = bytes;
  return buffer;
}

AlignedBuffer::~AlignedBuffer() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

}  // namespace tidal
