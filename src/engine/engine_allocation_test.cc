// The decode loop allocates nothing: this program's operator new counts while it is told to.
#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <new>
#include <unistd.h>

#include "engine/engine.h"
#include "model/test_model.h"

namespace {

std::atomic<bool> is_counting = false;
std::atomic<int64_t> num_allocations = 0;

void* Allocate(std::size_t bytes) {
  if (is_counting) ++num_allocations;
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Not inlined: GCC warns where it sees that delete is free, but not that new is malloc.
__attribute__((noinline)) void Free(void* memory) { std::free(memory); }

}  // namespace

void* operator new(std::size_t bytes) { return Allocate(bytes); }
void* operator new[](std::size_t bytes) { return Allocate(bytes); }
// A sanitizer has these too, and its memory must not come to the operators below.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return Allocate(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return Allocate(bytes); }
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete[](void* memory) noexcept { Free(memory); }
void operator delete(void* memory, std::size_t) noexcept { Free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { Free(memory); }

namespace tidal {
namespace {

class DecodeLoop : public testing::TestWithParam<const char*> {};

TEST_P(DecodeLoop, AllocatesNothing) {
  const std::string path =
      testing::TempDir() + "/tidal_allocation_" + std::to_string(getpid()) + ".gguf";
  ASSERT_TRUE(WriteRandomModel(path, TestModelSpec()).ok());
  EngineOptions options;
  options.model_path = path;
  options.num_threads = 2;
  options.ctx_size = 256;
  const auto engine = Engine::Create(options, nullptr).value();
  unlink(path.c_str());
  Request request;
  // Decoding stays within the page that the prompt has begun: a page table grows now and then.
  request.prompt.assign(66, 7);
  request.prompt[30] = engine->tokenizer().newline();
  request.max_tokens = 50;
  request.ignore_eos = true;
  request.attention = engine->ResolvePlan(PlanSpec::Parse(GetParam()).value()).value();
  ASSERT_TRUE(engine->Submit(engine->OpenSequence().value(), request).ok());
  std::vector<Event> events;
  events.reserve(64);
  // Prefill, and the first decoded rows, which may size what depends on the plan.
  for (int step = 0; step < 4; ++step) ASSERT_TRUE(engine->Step(&events).ok());
  is_counting = true;
  for (int step = 0; step < 40; ++step) {
    events.clear();
    if (!engine->Step(&events).ok()) break;
  }
  is_counting = false;
  EXPECT_FALSE(engine->idle());
  EXPECT_EQ(num_allocations.exchange(0), 0);
}

INSTANTIATE_TEST_SUITE_P(Plans, DecodeLoop,
                         testing::Values("full", "tidal:budget=16:recent=4:below=0",
                                         "tidal:budget=16:recent=4:below=0:keep=newline:guard=0.9",
                                         "tidal:budget=16:recent=4:below=0:correct=8",
                                         "tidal-paper:full=0:select=0:budget=16:below=0",
                                         "lessismore:full=0:select=0:budget=16:below=0",
                                         "quest:budget=32:below=0",
                                         "tokenselect:budget=32:sinks=4:recent=8:below=0",
                                         "kascade:full=0:select=0:below=0", "zipvl:below=0",
                                         "twilight:full=0:below=0"));

}  // namespace
}  // namespace tidal
