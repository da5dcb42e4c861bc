// What task contexts cost: their memory, forks and exits, look-ups, and walks over all of them.
#pragma once

#include <cstddef>
#include <vector>

namespace lbrd::daemon {

struct ContextSettings {
  int batches = 400;
  std::vector<size_t> tasks = {1'000, 10'000, 100'000, 1'000'000};
  int walks = 5;
  size_t looked_up_tasks = 100'000;
};

// Means something only while all memory that it is given is new.
void PrintMemory(const ContextSettings& settings);
void PrintForks(const ContextSettings& settings);
// Of one of `count` tasks.
void PrintLookUps(const ContextSettings& settings, size_t count);
void PrintWalks(const ContextSettings& settings);

}  // namespace lbrd::daemon
